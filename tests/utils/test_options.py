"""Every option of train.py has an effect, on a network that trains in no time."""

import json
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import draw_camvid, draw_kitti
from torch import Tensor, nn

import model
import train
from model import layers
from model.losses import LOSSES
from utils import checkpoint, distributed
from utils.options.parser import Parser, below_one, odd, positive
from utils.options.training import add_run_folder
from utils.scoring.validation import validate

AS_IT_IS: list[tuple[dict, list[dict]]] = []  # what a run without options gives, made once


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains Tiny in this process; gives the content of last.pth and the records."""
    root = draw_camvid(tmp_path / "camvid")
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    threads, count = torch.get_num_threads(), 0
    handlers = [(s, signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)]

    def start(*words: object) -> tuple[dict, list[dict]]:
        nonlocal count
        if not words and AS_IT_IS:
            return AS_IT_IS[0]
        count += 1
        folder = tmp_path / f"run{count}"
        base = ["--dataset", "camvid", "--data-root", root, "--arch", "tiny", "--run-dir", folder,
                "--crop-size", 32, 32, "--batch-size", 2, "--epochs", 3, "--workers", 0,
                "--precision", "fp32", "--log-every", 1, "--val-every", 3, "--threads", 1]
        monkeypatch.setattr(sys, "argv", ["train.py", *map(str, [*base, *words])])
        train.main()
        lines = (folder / "log.jsonl").read_text().splitlines()
        found = checkpoint.read(folder / "last.pth"), [json.loads(line) for line in lines]
        AS_IT_IS.extend([found] * (not words))
        return found

    yield start
    torch.set_num_threads(threads)
    for number, handler in handlers:
        signal.signal(number, handler)


def same(first: dict, second: dict) -> bool:
    pairs = zip(first["weights"].values(), second["weights"].values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("words", [
    ["--seed", 1], ["--crop-size", 48, 40], ["--scale", 1, 1], ["--flip", 0], ["--jitter", 0],
    ["--hue", 0.5], ["--blur", 0], ["--epochs", 2], ["--max-steps", 4], ["--batch-size", 4],
    ["--loss", "ohem"], ["--class-weights", "enet"], ["--class-weights", "enet110"],
    ["--optimizer", "adam"], ["--optimizer", "adamw"], ["--lr", 0.1],
    ["--encoder-lr-factor", 0.1], ["--momentum", 0.5], ["--weight-decay", 0.5],
    ["--decay-all"], ["--schedule", "cosine"], ["--schedule", "constant"],
    ["--warmup-steps", 3], ["--clip", 0.01], ["--ema", 0.9], ["--freeze-bn"],
    ["--precision", "bf16"], ["--limit", 4], ["--holdout", "0006R0"], ["--pre-size", 60],
    ["--train-split", "trainval"],
    ["--loss", "image_weighted"], ["--loss", "label_relaxation"], ["--schedule-per", "epoch"],
    ["--loss", "dice"], ["--loss", "focal"], ["--loss", "lovasz"],
    ["--loss", "bce"], ["--schedule", "linear"], ["--nesterov"], ["--mosaic", 1],
    ["--poly-power", 2], ["--paste", 1],
], ids=lambda words: " ".join(map(str, words)))
def test_changes_the_weights(words: list, run, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ["--decay-all", "--weight-decay", 0.5] if words == ["--weight-decay", 0.5] else []
    if words == ["--loss", "ohem"]:  # at the start every pixel is hard for the default
        monkeypatch.setitem(LOSSES, "ohem", partial(LOSSES["ohem"], threshold=0.01, least=0.1))
    if words == ["--paste", 1]:  # every class is rarer than all
        monkeypatch.setattr(train, "RARE", 1)
    if words == ["--decay-all"]:
        words = ["--decay-all", "--weight-decay", 0.5]
        base = ["--weight-decay", 0.5]
    before, after = run(*base), run(*words)
    assert not same(before[0], after[0])


RELAXED = ["--loss", "label_relaxation"]
RESTARTED = [*RELAXED, "--relax-until", 1, "--schedule", "scl-poly"]


@pytest.mark.parametrize(("base", "words"), [
    (RELAXED, ["--relax-window", 5]), (RELAXED, ["--strict-classes", "sky", 3]),
    (RELAXED, ["--relax-until", 1]), (RELAXED, ["--class-weight-bound", 6]),
    (RELAXED, ["--batch-weighting"]), (RELAXED, ["--upstream-batch-scale"]),
    (["--loss", "image_weighted"], ["--upstream-last-bin"]),
    ([*RELAXED, "--relax-until", 1], RESTARTED), (RESTARTED, ["--relax-until", 2]),
    (["--schedule", "linear"], ["--final-factor", 0.5]), (["--mosaic", 1], ["--mosaic", 0.5]),
    (["--warmup-steps", 3], ["--warmup-momentum", 0.5]), (["--ema", 0.9], ["--ema-ramp", 3]),
    (RESTARTED, ["--restart-factor", 0.5]), (RESTARTED, ["--restart-power", 1]),
], ids=lambda words: " ".join(map(str, words)))
def test_changes_the_weights_beside_another(base: list, words: list, run) -> None:
    assert not same(run(*base)[0], run(*base, *words)[0])


def test_classes_by_name_and_by_number_are_one(run) -> None:
    names, numbers = ([*RELAXED, "--strict-classes", *classes]
                      for classes in (("pole", "sky"), (0, 2, "0")))
    assert same(run(*names)[0], run(*numbers)[0])


@pytest.mark.parametrize("words", [
    ["--workers", 2], ["--val-every", 2], ["--save-every", 1], ["--log-every", 3],
    ["--eval-size", 40, 56], ["--sync-bn"], ["--device", "cpu"], ["--crop_size", 32, 32],
    ["--max-steps", 1000], ["--cache", "raw"], ["--cache", "raw", "--workers", 2],
    ["--eval-crop", 40, 40],
], ids=lambda words: " ".join(map(str, words)))
def test_does_not_change_the_weights(words: list, run) -> None:
    assert same(run()[0], run(*words)[0])


@pytest.mark.parametrize("words", [["--workers", 2], ["--cache", "raw"]], ids=str)
def test_mosaics_are_the_same_however_they_are_read(words: list, run) -> None:
    assert same(run("--mosaic", 0.5, *RELAXED)[0], run("--mosaic", 0.5, *RELAXED, *words)[0])


def test_the_running_mean_is_what_is_validated_and_saved(run, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(train, "validate", lambda predictor, *rest: (
        seen.append(predictor.network.state_dict()), validate(predictor, *rest))[1])
    content, _ = run("--ema", 0.9, "--epochs", 1)
    best = checkpoint.read(Path(json.loads(content["args"])["run_dir"]) / "best.pth")
    mean, raw, validated, saved = (weights["classifier.weight"] for weights in (
        content["weights"], content["raw_weights"], seen[-1], best["weights"]))
    assert [torch.equal(mean, other) for other in (validated, saved, raw)] == [True, True, False]


def test_cross_validation(run, tmp_path: Path) -> None:
    root = draw_kitti(tmp_path / "kitti")
    words = ["--dataset", "kitti", "--data-root", root]
    first, second = run(*words, "--cv-split", 1)[0], run(*words, "--cv-split", 2)[0]
    assert not same(first, second)
    assert same(run(*words)[0], run(*words, "--cv-split", 0)[0])


def test_accumulation_is_the_larger_batch(run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without dropout and batch statistics, the change of the weights is the same."""
    monkeypatch.setattr(nn.Dropout2d, "forward", lambda self, features: features)
    words = ["--batch-size", 4, "--freeze-bn", "--max-steps", 1, "--lr", 0.1]
    start, _ = run(*words, "--lr", 0)
    whole, _ = run(*words)
    split, _ = run(*words, "--accumulate", 2)
    for name, weight in start["weights"].items():
        if weight.is_floating_point():
            torch.testing.assert_close(
                split["weights"][name] - weight, whole["weights"][name] - weight,
                rtol=1e-2, atol=1e-4,  # each half weighs the same, however many pixels it counts
            )
    assert not same(start, whole)


def test_seeds_have_weights_of_their_own(run) -> None:
    """Those that nothing has trained yet."""
    first, again, other = (run("--lr", 0, "--max-steps", 1, "--seed", seed)[0]["weights"]
                           for seed in (1, 1, 2))
    for name in ("encoder.0.weight", "classifier.weight"):
        assert torch.equal(first[name], again[name])
        assert not torch.equal(first[name], other[name])


def test_output_stride_is_stored(run) -> None:
    assert run("--output-stride", 8)[0]["model"]["options"]["output_stride"] == 8


def test_checkpointed_blocks(run, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks: list[nn.Module] = []
    again = layers.checkpoint
    monkeypatch.setattr(layers, "checkpoint", lambda block, *inputs, **options: (
        blocks.append(block), again(block, *inputs, **options))[1])
    words = ["--arch", "deeplabv3_resnet18", "--max-steps", 1]
    plain, _ = run(*words)
    assert not blocks
    assert same(plain, run(*words, "--checkpoint-activations")[0])
    assert len(blocks) == 2 * 8  # the rehearsal's and the step's


def test_records(run) -> None:
    _, records = run("--val-every", 2, "--log-every", 3)
    assert [r["step"] for r in records if r["kind"] == "train"] == [3, 6]
    assert [r["step"] for r in records if r["kind"] == "val"] == [4, 6]


@pytest.mark.parametrize(("words", "size", "crop"), [
    ([], None, None), (["--eval-size", 40, 56], (40, 56), None), (["--eval-size", 40], (40,), None),
    (["--eval-size", 48, 64, "--eval-crop", 40, 36], (48, 64), (40, 36)),
], ids=str)
def test_what_validation_sees_and_scores(
    words: list, size: tuple | None, crop: tuple | None, run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures in the log are those of the saved network on images of these sizes."""
    found = []
    monkeypatch.setattr(train, "validate", lambda predictor, dataset, *rest: (
        found.append((dataset[0], confusion := validate(predictor, dataset, *rest))), confusion)[1])
    _, records = run(*words, "--max-steps", 1)
    (image, target), confusion = found[-1]
    assert tuple(image.shape[:2]) == (crop or ((30, 40) if size == (40,) else size or (60, 80)))
    assert tuple(target.shape) == (crop or (60, 80))
    said = [record for record in records if record["kind"] == "val"]
    assert [record["mean_iou"] for record in said] == [confusion.mean_iou()]


def test_schedule_and_factor(run) -> None:
    _, records = run("--warmup-steps", 2, "--lr", 0.3, "--schedule", "constant")
    rates = [r["lr"] for r in records if r["kind"] == "train"]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.3, 0.3])


def test_save_every(run, monkeypatch) -> None:
    saved = []
    write = checkpoint.write
    monkeypatch.setattr(checkpoint, "write", lambda path, content: (
        saved.append((Path(path).name, content["step"])), write(path, content)))
    run("--save-every", 1)
    assert {step for name, step in saved if name == "last.pth"} == {1, 2, 3, 4, 5, 6}
    saved.clear()
    run("--save-every", 5, "--val-every", 9)
    assert [step for name, step in saved if name == "last.pth"] == [5, 6, 6]  # around val


def test_init_makes_a_new_head_only(run, tmp_path: Path) -> None:
    first, _ = run("--epochs", 3)
    path = tmp_path / "run1" / "best.pth"
    second, _ = run("--init", path, "--lr", 0)
    best = checkpoint.read(path)
    assert all(torch.equal(second["weights"][k], best["weights"][k])
               for k in best["weights"] if "running" not in k and "batches" not in k)
    small = {**best, "weights": {**best["weights"],
                                 "classifier.weight": torch.zeros(3, 8, 1, 1),
                                 "classifier.bias": torch.zeros(3)}}
    checkpoint.write(tmp_path / "three.pth", small)
    third, _ = run("--snapshot", tmp_path / "three.pth", "--lr", 0)
    assert torch.equal(third["weights"]["encoder.0.weight"], best["weights"]["encoder.0.weight"])
    assert third["weights"]["classifier.weight"].shape == (11, 8, 1, 1)


def test_teacher(run, tmp_path: Path) -> None:
    """Its weight decides how far the first weights go towards what it says."""
    run("--lr", 0)  # run1
    teacher = tmp_path / "run1" / "best.pth"
    plain, _ = run()
    taught, _ = run("--teacher", teacher)
    assert not same(plain, taught)
    assert same(taught, run("--teacher", teacher, "--teacher-weight", 0.5)[0])
    assert same(plain, run("--teacher", teacher, "--teacher-weight", 0)[0])
    content = checkpoint.read(teacher)
    content["model"]["num_classes"] = 5
    content["dataset"] = {"name": "folder"}
    for name in ("classifier.weight", "classifier.bias"):
        content["weights"][name] = content["weights"][name][:5]
    checkpoint.write(tmp_path / "other.pth", content)
    with pytest.raises(ValueError, match="5 classes, this training has 11"):
        run("--teacher", tmp_path / "other.pth")


def test_pretrained_encoder(run, tmp_path: Path) -> None:
    first, _ = run("--epochs", 3)
    after, _ = run("--pretrained-encoder", tmp_path / "run1" / "best.pth", "--lr", 0)
    best = checkpoint.read(tmp_path / "run1" / "best.pth")["weights"]
    assert torch.equal(after["weights"]["encoder.0.weight"], best["encoder.0.weight"])
    assert not torch.equal(after["weights"]["classifier.weight"], best["classifier.weight"])


def test_compile_is_for_training_only(run, monkeypatch) -> None:
    called = {"compiled": 0}

    class Compiled(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self._orig_mod = network

        def forward(self, images: Tensor) -> Tensor:
            called["compiled"] += 1
            return self._orig_mod(images)

    monkeypatch.setattr(torch, "compile", Compiled)
    plain, _ = run("--epochs", 3)
    compiled, _ = run("--compile")
    assert called["compiled"] == 6  # steps; validation is not compiled
    assert same(plain, compiled)


def test_threads(run) -> None:
    content, _ = run()
    assert content["run"]["threads"] == 1
    content, _ = run("--threads", 2)
    assert content["run"]["threads"] == 2
    assert torch.get_num_threads() == 2


def test_default_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1000")
    distributed.start("cpu")
    assert torch.get_num_threads() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    distributed.start("cpu")
    assert torch.get_num_threads() == len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)


@pytest.mark.parametrize(("words", "message"), [
    (["--batch-size", 3, "--accumulate", 2], "does not divide"),
    (["--batch-size", 2, "--accumulate", 2], "batch norm needs two"),
    (["--scale", 2, 1], "MIN <= MAX"),
    (["--crop-size", 16, 64], "at least 32"),
    (["--init", "a", "--pretrained-encoder", "b"], "give one"),
    (["--skip", 4], "tiny has no option .'skip'."),
    (["--checkpoint-activations"], "tiny has no encoder that can"),
    (["--batch-size", 64], "only 5"),
    (["--data-root", "/nowhere"], "no such folder"),
    (["--resume", "/nowhere"], "not with --init"),
    (["--init", "/nowhere.pth"], "no such checkpoint"),
    (["--holdout", "x"], "groups of train"),
    (["--strict-classes", "sky"], "--strict-classes: has no effect with --loss cross_entropy"),
    (["--loss", "image_weighted", "--relax-window", 3], "an option of label_relaxation"),
    (["--loss", "ohem", "--batch-weighting"], "of image_weighted and label_relaxation"),
    (["--class-weight-bound", 0], "of image_weighted and label_relaxation"),
    (["--relax-until", 0], "an option of label_relaxation"),
    ([*RELAXED, "--upstream-last-bin"], "an option of image_weighted"),
    ([*RELAXED, "--class-weights", "enet"], "weighs classes by each image already"),
    ([*RELAXED, "--strict-classes", "sky", "moon"], "'moon': no class; sky, building"),
    ([*RELAXED, "--strict-classes", "sidwalk"], "; did you mean sidewalk?"),
    ([*RELAXED, "--strict-classes", 11], "or 0 to 10"),
    ([*RELAXED, "--relax-until", 3], "epochs are 0 to 2"),
    (["--restart-power", 2], "--restart-power: has no effect"),
    (["--schedule", "scl-poly"], "when does it start again"),
    (["--mosaic", 1, "--crop-size", 32, 35], "--mosaic halves --crop-size 32 35; give even"),
    (["--nesterov", "--momentum", 0], "no effect without --momentum"),
    (["--nesterov", "--optimizer", "adam"], "--optimizer adam; it is an option of sgd"),
    (["--ema-ramp", 9], "without --ema"),
    (["--warmup-momentum", 0.5], "without --warmup-steps"),
    (["--coarse-boost", "car"], "--coarse-boost: has no effect without --class-uniform"),
    (["--max-cu-epoch", 1], "without --class-uniform or --propagated-root"),
    (["--warmup-momentum", 0.5, "--warmup-steps", 2, "--optimizer", "adamw"], "option of sgd"),
])
def test_refusals(words: list, message: str, run) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(*words)


@pytest.mark.parametrize(("words", "message"), [
    (["--arch", "resnet"], "known: deeplabv3_resnet18"),
    (["--momentum", 1], "--momentum: '1' is not a number from 0, below 1"),
])
def test_refused_words(words: list, message: str, run, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*words)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="has CUDA")
def test_no_cuda_is_said(run) -> None:
    with pytest.raises(ValueError, match="0 CUDA GPUs visible"):
        run("--device", "cuda")


@pytest.mark.parametrize("text", ["0", "2", "-1", "x", "1.5"])
def test_odd(text: str) -> None:
    with pytest.raises(Exception, match="odd number"):
        odd(text)


@pytest.mark.parametrize("text", ["0", "-1", "x", "1.5"])
def test_positive(text: str) -> None:
    with pytest.raises(Exception, match="whole number"):
        positive(text)


@pytest.mark.parametrize("text", ["1", "-0.1", "x", "1/0", "nan", "1e400"])
def test_below_one(text: str) -> None:
    assert below_one("1/4") == 0.25
    with pytest.raises(Exception, match="below 1"):
        below_one(text)


def test_help_is_without_colors() -> None:
    """On a terminal, where Python 3.14 has some: a script's streams would show their escapes."""
    assert Parser(None).color is False


def test_extend_needs_resume() -> None:
    parser = Parser(None)
    add_run_folder(parser.add_argument, "DATASET")
    with pytest.raises(ValueError, match="--extend: has no effect without --resume; give both"):
        parser.parse_args(["--extend"])
    for words in (["--resume"], ["--resume", "run"]):
        parser.check_effects(parser.parse_args([*words, "--extend"]))
