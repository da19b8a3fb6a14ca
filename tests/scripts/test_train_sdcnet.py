"""Frames of videos, and the training that makes one from another."""

import json
import math
import shutil
import signal
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import make_weights
import numpy as np
import pytest
import torch
from conftest import run_script
from torchvision.models.optical_flow import raft_small

import train_sdcnet
from datasets.video.sequences import FrameTriplets, find_sequences
from model import sdcnet
from model.flow import build_dis
from model.sdcnet import SDCNet2D, SDCNet2DRecon, load_sdcnet
from utils import checkpoint, precision
from utils.images import read_image, write_png
from utils.training.schedules import Schedule
from utils.video.flow import dis_flow, warp

SIZE = (64, 80)
DIS = build_dis(None, torch.device("cpu"))
FAST = ["--crop-size", 64, 64, "--batch-size", 2, "--workers", 0, "--threads", 1,
        "--precision", "fp32", "--max-steps", 2, "--log-every", 1]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of a picture that moves by (2, 1) pixels a frame, in the layout of Cityscapes."""
    folder = tmp_path_factory.mktemp("clips")
    for seed, split in enumerate(("train", "val")):
        picture = make_weights.photo(SIZE[0] + 8, SIZE[1] + 16, seed)
        for t in range(5):
            frame = picture[8 - t : 8 - t + SIZE[0], 16 - 2 * t : 16 - 2 * t + SIZE[1]]
            name = f"ulm_000000_{t + 17:06d}_leftImg8bit.png"
            write_png(folder / "leftImg8bit_sequence" / split / "ulm" / name, frame)
    return folder


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """8 channels a level: the checkpoints of the real ones take 100 MB."""
    inputs = {"conv2": 32, "deconv5": 8, "deconv0": 40}  # where it is not one level, or two
    monkeypatch.setattr(sdcnet, "ENCODER", [
        (name, inputs.get(name, 8), 8, *rest) for name, _, _, *rest in sdcnet.ENCODER])
    monkeypatch.setattr(sdcnet, "DECODER", [
        (name, inputs.get(name, 16), 8) for name, *_ in sdcnet.DECODER])


@pytest.fixture
def fit(root: Path, call, tmp_path: Path, narrow: None):
    """Trains in this process; gives folder, records and what was said."""
    def start(*words: object, name: str = "run", data: Path = root) -> SimpleNamespace:
        folder = tmp_path / name
        done = call("train_sdcnet.py", "--data-root", data, "--run-dir", folder, *FAST, *words)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return SimpleNamespace(folder=folder, said=done.stdout, records=records,
                               last=checkpoint.read(folder / "last.pth"))

    return start


def same(first: dict, second: dict) -> bool:
    return all(torch.equal(first["weights"][name], second["weights"][name])
               for name in first["weights"])


def test_what_a_training_leaves(fit) -> None:
    run = fit()
    names = {path.name for path in run.folder.iterdir()}
    assert {"last.pth", "best.pth", "log.jsonl", "command.txt"} <= names
    assert [record["kind"] for record in run.records] == ["train", "train", "val"]
    assert "3 train and 3 val frames, step 0 of 2, fp32" in run.said
    psnr = run.records[-1]["psnr"]
    assert f"val PSNR {psnr['network']:.2f} dB, of its flow {psnr['flow']:.2f} dB" in run.said
    assert run.last["best"] == psnr["network"]
    assert run.last["complete"]
    assert type(load_sdcnet(run.folder / "best.pth")) is SDCNet2DRecon


@pytest.mark.parametrize("arch", ["sdcnet2d", "sdcnet2d_recon"])
def test_precision_is_timed(arch: str, fit, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FEW", 2), ("ROUNDS", 1), ("GAIN", 0)):
        monkeypatch.setattr(precision, name, value)
    run = fit("--arch", arch, "--precision", "auto")
    assert "times as fast as fp32 on this CPU" in run.said
    assert "step 0 of 2, bf16 on cpu" in run.said
    assert json.loads(run.last["args"])["precision"] == "bf16"
    given = fit("--arch", arch, "--precision", "bf16", name="given")
    assert same(run.last, given.last)


@pytest.mark.parametrize("arch", ["sdcnet2d", "sdcnet2d_recon"])
def test_psnr(arch: str, fit, root: Path) -> None:
    """Of its flow and without motion; a network that did not learn is its flow."""
    psnr = fit("--arch", arch, "--lr", 1e-12).records[-1]["psnr"]
    frames = [read_image(path) for path in find_sequences(root, "val")[0]]
    errors = {"flow": [], "no_motion": []}
    for before, source, target in zip(frames, frames[1:], frames[2:], strict=False):
        ends = (source, before) if arch == "sdcnet2d" else (target, source)
        made = warp(source.astype(np.float32), dis_flow(*ends))
        errors["flow"].append(np.square(made - target).mean())
        errors["no_motion"].append(np.square(source.astype(float) - target).mean())
    for name, values in errors.items():
        # OpenCV rounds places to 1/32 pixel.
        assert psnr[name] == pytest.approx(10 * math.log10(255**2 / np.mean(values)), abs=0.3)
    assert psnr["network"] == pytest.approx(psnr["flow"], abs=1e-4)
    assert psnr["flow"] > psnr["no_motion"] + 5


def test_it_corrects_a_flow_that_is_wrong(fit, monkeypatch: pytest.MonkeyPatch) -> None:
    """By one pixel to the right, always."""
    def wrong(target: np.ndarray, source: np.ndarray, before: None) -> np.ndarray:
        return dis_flow(target, source) + np.float32((1, 0))

    monkeypatch.setitem(train_sdcnet.MOTIONS, "dis", lambda weights, device: wrong)
    val = fit("--max-steps", 40, "--epochs", 40, "--lr", 1e-3, "--schedule", "constant").records[-1]
    assert val["psnr"]["network"] > val["psnr"]["flow"] + 1.5
    assert val["better"] == 1


def test_resumed_training_is_the_same(fit, root: Path, call, monkeypatch) -> None:
    """From every checkpoint: also from those of before a validation."""
    kept: list[Path] = []
    save = train_sdcnet.Run.save

    def keep(run: train_sdcnet.Run, **words: bool) -> None:
        save(run, **words)
        kept.append(run.folder.path.with_name(f"part{len(kept)}"))
        shutil.copytree(run.folder.path, kept[-1])

    with monkeypatch.context() as patch:
        patch.setattr(train_sdcnet.Run, "save", keep)
        whole = fit("--max-steps", 4, "--epochs", 9, "--save-every", 2, "--val-every", 3)
    assert [r["step"] for r in whole.records if r["kind"] == "val"] == [3, 4]
    steps = [checkpoint.read(part / "last.pth")["step"] for part in kept]
    assert steps == [2, 3, 3, 4, 4]
    for part in kept[1:-1]:
        done = call("train_sdcnet.py", "--resume", part)
        assert done.returncode == 0, done.stderr
        assert same(checkpoint.read(part / "last.pth"), whole.last)
        records = [json.loads(line) for line in (part / "log.jsonl").read_text().splitlines()]
        assert [r["step"] for r in records if r["kind"] == "val"] == [3, 4]
    assert "already complete, step 4 of 4" in call("train_sdcnet.py", "--resume", part).stdout


def test_stopped_training_goes_on(fit, root: Path, call, tmp_path: Path, monkeypatch) -> None:
    """A signal during the first step ends it with that step saved."""
    class Asked(train_sdcnet.StopRequest):
        def __bool__(self) -> bool:
            self.number = signal.SIGTERM
            return True

    whole, part = fit(), tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr(train_sdcnet, "StopRequest", Asked)
        done = call("train_sdcnet.py", "--data-root", root, "--run-dir", part, *FAST)
    assert done.returncode == 143
    assert f"SIGTERM: saved at step 1; go on with --resume {part}" in done.stdout
    assert call("train_sdcnet.py", "--resume", part).returncode == 0
    assert same(checkpoint.read(part / "last.pth"), whole.last)


@pytest.mark.parametrize("words", [
    ["--lr", 1e-3], ["--crop-size", 64, 72], ["--seed", 1], ["--batch-size", 3],
    ["--schedule", "constant"], ["--train-split", "val"],
], ids=str)
def test_changes_the_weights(words: list, fit) -> None:
    assert not same(fit().last, fit(*words, name="other").last)


@pytest.mark.parametrize("words", [
    ["--workers", 1], ["--val-every", 1], ["--val-split", "train"],
], ids=str)
def test_does_not_change_the_weights(words: list, fit) -> None:
    assert same(fit().last, fit(*words, name="other").last)


def test_init(fit, tmp_path: Path, root: Path, call) -> None:
    first = fit("--arch", "sdcnet2d")
    words = ["--init", first.folder / "best.pth"]
    again = fit("--arch", "sdcnet2d", "--lr", 1e-12, *words, name="two")
    for name, tensor in again.last["weights"].items():
        torch.testing.assert_close(tensor, first.last["weights"][name], rtol=0, atol=1e-9)
    done = call("train_sdcnet.py", "--data-root", root, *words, *FAST)
    assert done.returncode == 2
    assert done.stderr.endswith("is a sdcnet2d, give --arch sdcnet2d\n")


def test_flow_of_raft(fit, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(raft_small(weights=None).state_dict(), tmp_path / "raft.pth")
    few = ["--max-steps", 1, "--workers", 1]
    raft = fit("--motion", "raft_small", "--motion-weights", tmp_path / "raft.pth", *few)
    assert raft.last["dataset"]["motion"] == "raft_small"
    dis = fit(*few, name="dis")
    # Its weights are random.
    assert raft.records[-1]["psnr"]["flow"] < dis.records[-1]["psnr"]["flow"]


@pytest.mark.slow
def test_two_processes_validate_as_one(fit, root: Path, tmp_path: Path) -> None:
    words = ["--lr", 1e-12]
    one = fit(*words).records[-1]
    done = run_script("train_sdcnet.py", "--data-root", root, "--run-dir", tmp_path / "two", *FAST,
                      *words, ranks=2)
    assert done.returncode == 0, done.stderr
    two = json.loads((tmp_path / "two" / "log.jsonl").read_text().splitlines()[-1])
    assert two["psnr"] == pytest.approx(one["psnr"], abs=1e-4)


@pytest.mark.parametrize(("words", "message"), [
    (["--data-root", "/nowhere"], "/nowhere: no leftImg8bit_sequence/train and no train in it"),
    (["--crop-size", 64, 81], "64x80 pixels; at least 64x81 are needed"),
    (["--crop-size", 63, 64], "sides of at least 64 pixels"),
    (["--batch-size", 9], "only 3 in the training split"),
    (["--motion-weights", "x.pth"], "dis has none"),
    (["--init", "nowhere.pth"], "no such checkpoint"),
    (["--arch", "sgcpnet"], "invalid choice: 'sgcpnet'"),
])
def test_refusals(words: list, message: str, root: Path, call, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = call("train_sdcnet.py", "--data-root", root, "--run-dir", folder, *FAST, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not folder.exists()


def test_the_training_of_another_network_is_not_continued(call, tmp_path: Path) -> None:
    config = {"arch": "sgcpnet", "num_classes": 19, "options": {}}
    checkpoint.save(tmp_path / "last.pth", {"format": checkpoint.FORMAT, "model": config, "run": {},
                                            "dataset": {}, "weights": {}, "args": "{}"})
    done = call("train_sdcnet.py", "--resume", tmp_path)
    assert done.returncode == 2
    assert "of sgcpnet; train.py continues it" in done.stderr


def touch(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        write_png(folder / name, np.zeros((*SIZE, 3), np.uint8))


def test_frames_in_a_row(tmp_path: Path) -> None:
    """Every second one in `a`, a gap in `b`, two videos in `c`."""
    touch(tmp_path / "train/a", *(f"x_{n}.png" for n in (8, 10, 12)), "readme.png", "x_12.txt.png")
    touch(tmp_path / "train/b", *(f"{n:06d}.png" for n in (1, 2, 3, 5, 6, 8, 9, 10, 11)))
    touch(tmp_path / "train/c", *(f"{v}_{n:06d}_leftImg8bit.png" for v in "pq" for n in (1, 2, 3)))
    runs = [[path.name.removesuffix(".png") for path in run]
            for run in find_sequences(tmp_path, "train")]
    numbers = [[run[0], run[-1], len(run)] for run in runs]
    assert numbers == [
        ["x_8", "x_12", 3], ["000001", "000003", 3], ["000008", "000011", 4],
        ["p_000001_leftImg8bit", "p_000003_leftImg8bit", 3],
        ["q_000001_leftImg8bit", "q_000003_leftImg8bit", 3],
    ]
    assert len(FrameTriplets(tmp_path, "train", DIS)) == 6
    few = FrameTriplets(tmp_path, "train", DIS, limit=3)
    assert [paths[0].name[:3] for paths in few.triplets] == ["x_8", "000", "p_0"]
    touch(tmp_path / "val", "a_1.png", "a_2.png", "b_3.png")
    with pytest.raises(FileNotFoundError, match="val: no three frames in a row"):
        find_sequences(tmp_path, "val")


def test_crops_and_their_flow(root: Path) -> None:
    triplets = FrameTriplets(root, "train", DIS, (64, 64), seed=3)
    whole = [read_image(path) for path in triplets.triplets[1]]
    order = []
    for position in range(16):
        frames, flows = triplets[0, position, 1, None]
        assert frames.dtype == torch.uint8
        assert (frames.shape, flows.shape) == ((3, 64, 64, 3), (2, 2, 64, 64))
        for flow, (source, target) in zip(flows, pairwise(frames.numpy()), strict=True):
            expected = dis_flow(target, source).transpose(2, 0, 1)
            assert np.array_equal(flow, expected)
        windows = [[np.array_equal(frame[:, x : x + 64], crop) for x in range(17)].index(True)
                   for frame, crop in zip(whole, frames.numpy(), strict=True)
                   if any(np.array_equal(frame[:, x : x + 64], crop) for x in range(17))]
        order.append(len(windows) == 3 and len(set(windows)) == 1)  # else only the middle one fits
        again = triplets[0, position, 1, None]
        assert torch.equal(frames, again[0])
    assert 4 <= sum(order) <= 12
    assert not torch.equal(triplets[0, 0, 1, None][0], triplets[1, 0, 1, None][0])


def test_crops_of_seeds_epochs_and_positions(root: Path) -> None:
    def frames(seed: int, epoch: int, position: int) -> bytes:
        triplets = FrameTriplets(root, "train", lambda target, *_: np.zeros((64, 64, 2)), (64, 64),
                                 seed=seed)
        return triplets[epoch, position, 0, None][0].numpy().tobytes()

    assert frames(3, 0, 1) == frames(3, 0, 1)
    assert len({frames(3, 0, 1), frames(4, 0, 1), frames(3, 1, 1), frames(3, 0, 2)}) == 4


def test_frames_of_several_sizes(tmp_path: Path) -> None:
    touch(tmp_path / "val", "1.png", "2.png")
    write_png(tmp_path / "val/3.png", np.zeros((64, 81, 3), np.uint8))
    triplets = FrameTriplets(tmp_path, "val", DIS)
    with pytest.raises(ValueError, match="1.png and the two frames after it: 64x80, 64x80, 64x81"):
        triplets[0]


def test_published_course_of_the_rate() -> None:
    factors = list(map(partial(Schedule, "steps")(500), (0, 249, 250, 449, 450, 499)))
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_the_displacement_makes_the_next_frame(fit, root: Path) -> None:
    """What propagate.py does with it: SDCNet2D sees two frames, and the third is not needed."""
    network = load_sdcnet(fit("--arch", "sdcnet2d").folder / "best.pth")
    assert isinstance(network, SDCNet2D)
    frames, flows = FrameTriplets(root, "val", DIS)[0]
    vectors = network.displacement(frames[None, :2].permute(0, 1, 4, 2, 3), flows[None, :1])
    assert vectors.mean((0, 2, 3)).tolist() == pytest.approx([-2, -1], abs=0.3)


def test_weights_without_a_finite_loss(root: Path, narrow: None, tmp_path: Path, call) -> None:
    """Backward would read beyond the image: a segmentation fault."""
    network = SDCNet2DRecon()
    weights = {name: torch.full_like(tensor, 1e30) if tensor.is_floating_point() else tensor
               for name, tensor in network.state_dict().items()}
    checkpoint.write(tmp_path / "huge.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "dataset": {"name": "frames"},
        "weights": weights})
    done = call("train_sdcnet.py", "--data-root", root, "--run-dir", tmp_path / "run", *FAST,
                "--init", tmp_path / "huge.pth")
    assert done.returncode == 1
    assert "of the first batch; give another --init" in done.stderr
