"""Every script from end to end on drawn data, as a user runs it; one and two processes."""

import json
import shutil
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, draw_camvid, draw_cityscapes, run_script, start_script

import train
from datasets import build_dataset
from datasets.transforms import EvalTransform
from model import build_model
from model.snapshot import load_model
from utils import checkpoint
from utils.images import read_image, read_label, write_png
from utils.inference.predictor import Predictor

FAST = ["--crop-size", 32, 64, "--batch-size", 4, "--workers", 0, "--threads", 1,
        "--precision", "fp32"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_cityscapes(tmp_path_factory.mktemp("city"), train=8, val=5)


@pytest.fixture(scope="module")
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short training on the drawn city."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    done = run_script("train.py", "--data-root", root, "--run-dir", folder, "--max-steps", 3, *FAST)
    assert done.returncode == 0, done.stderr
    return folder


def scores(
    snapshot: Path, root: Path, folder: Path, *words: object, ranks: int = 0
) -> dict:
    path = folder / f"scores{ranks}.json"
    done = run_script("evaluate.py", "--snapshot", snapshot, "--data-root", root, "--json", path,
                      "--workers", 0, "--threads", 1, *words, ranks=ranks)
    assert done.returncode == 0, done.stderr
    assert "Score Average" in done.stdout
    return json.loads(path.read_text())


def test_training_leaves_what_is_promised(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert {"last.pth", "last.prev.pth", "best.pth", "log.jsonl", "command.txt"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    best = torch.load(trained / "best.pth", weights_only=True)
    assert best["model"]["arch"] == "deeplabv3_resnet18"
    assert best["dataset"]["class_names"][0] == "road"
    assert best["dataset"]["train_id_to_id"][:2] == [7, 8]
    assert set(best) == {"format", "model", "dataset", "weights", "step", "best", "args"}
    last = torch.load(trained / "last.pth", weights_only=True)
    assert last["step"] == 3
    assert last["optimizer"]["state"]


def test_evaluation_is_the_same_for_any_number_of_processes(
    trained: Path, root: Path, tmp_path: Path
) -> None:
    """Of five images, which do not divide."""
    one, two, three = (
        scores(trained / "best.pth", root, tmp_path, "--precision", "fp32", ranks=ranks)
        for ranks in (0, 2, 3))
    assert one["images"] == 5
    assert one["confMatrix"] == two["confMatrix"] == three["confMatrix"]
    assert np.sum(one["confMatrix"]) > 0


def test_best_snapshot_scores_what_training_said(trained: Path, root: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    said = max(record["mean_iou"] for record in records if record["kind"] == "val")
    scored = scores(trained / "best.pth", root, tmp_path)["averageScoreClasses"]
    assert scored == pytest.approx(said, rel=1e-12)


def test_scores_on_other_data_sets(
    trained: Path, data_roots: dict[str, Path], tmp_path: Path, call
) -> None:
    """A Cityscapes network on KITTI, whose classes agree, and by a class map on CamVid."""
    words = ["--snapshot", trained / "best.pth", "--workers", 0]
    done = call("evaluate.py", *words, "--dataset", "kitti", "--data-root", data_roots["kitti"],
                "--cv-split", 1, "--eval-size", 96, "--eval-crop", 64, 64,
                "--json", tmp_path / "kitti.json")
    assert done.returncode == 0, done.stderr
    score = json.loads((tmp_path / "kitti.json").read_text())
    assert score["images"] == 1  # of the eight drawn, the first is val
    assert np.sum(score["confMatrix"]) <= 64 * 64
    assert score["settings"] == {
        "holdout": None, "cv_split": 1, "limit": None, "eval_size": [96], "eval_crop": [64, 64],
        "class_map": None, "scales": [1.0], "flip_average": False, "window": None, "overlap": None,
        "average": "logits", "precision": "fp32", "compiled": False}
    camvid = [*words, "--dataset", "camvid", "--data-root", data_roots["camvid"]]
    done = call("evaluate.py", *camvid)
    assert done.returncode == 2
    assert "--class-map" in done.stderr
    mapping = ["--class-map", ROOT / "docs/cityscapes_to_camvid.txt"]
    done = call("evaluate.py", *camvid, *mapping, "--json", tmp_path / "camvid.json")
    assert done.returncode == 0, done.stderr
    score = json.loads((tmp_path / "camvid.json").read_text())
    assert list(score["classScores"])[0] == "sky"
    assert score["images"] == 2
    done = call("test.py", *camvid, *mapping, "--save-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    ids = read_label(tmp_path / "out/pred/Seq05VD_1.png")
    assert set(np.unique(ids)) <= set(range(11))


def test_a_resumed_network_is_built_as_it_was(tmp_path: Path) -> None:
    """Its first weights brought pixel statistics along, which no option says."""
    given = {"mean": (1.0, 2.0, 3.0), "std": (4.0, 5.0, 6.0), "output_stride": 8}
    network = build_model("deeplabv3_resnet18", 19, **given)
    checkpoint.write(tmp_path / "x.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": {"name": "cityscapes"}})
    args = Namespace(arch="deeplabv3_resnet18", seed=0, init=str(tmp_path / "x.pth"), skip=None,
                     pretrained_encoder=None, output_stride=8, checkpoint_activations=False)
    first = train.build_network(args, 19, None)
    assert first.config == network.config
    again = train.build_network(args, 19, {"model": first.config})
    assert again.config == first.config
    assert torch.equal(again.normalize.mean, network.normalize.mean)


def test_training_on_two_processes(root: Path, tmp_path: Path) -> None:
    done = run_script("train.py", "--data-root", root, "--run-dir", tmp_path / "run",
                      "--max-steps", 2, "--accumulate", 1, "--ema", 0.9, "--class-weights", "enet",
                      *FAST, ranks=2)
    assert done.returncode == 0, done.stderr
    last = checkpoint.read(tmp_path / "run" / "last.pth")
    assert last["run"]["world"] == 2
    assert last["step"] == 2
    assert done.stdout.count("val mIoU") == 1  # said once
    # what it scored with two processes is what one process finds
    said = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    scored = scores(tmp_path / "run/best.pth", root, tmp_path)["averageScoreClasses"]
    assert scored == pytest.approx(said[-1]["mean_iou"], rel=1e-12)


def test_prediction_on_two_processes(trained: Path, root: Path, tmp_path: Path) -> None:
    """More about test.py: test_submission.py."""
    done = run_script("test.py", "--snapshot", trained / "best.pth", "--data-root", root,
                      "--workers", 0, "--save-dir", tmp_path / "out", "--eval-size", 32, 64,
                      ranks=2)
    assert done.returncode == 0, done.stderr
    paths = sorted((tmp_path / "out" / "pred").iterdir())
    assert [path.name for path in paths] == ["bonn_000000_000019.png", "bonn_000001_000019.png"]
    for path in paths:
        ids = read_label(path)
        assert ids.shape == (64, 128)
        assert set(np.unique(ids)) <= {7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33}
    assert json.loads((tmp_path / "out" / "test.json").read_text())["images"] == 2
    assert done.stdout.count("cityscapes_test.zip: 2 predictions") == 1


def test_demo(trained: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    write_png(tmp_path / "street scene.png", rng.integers(0, 256, (37, 70, 3), dtype=np.uint8))
    done = run_script("demo.py", "--demo-image", "street scene.png", "--snapshot",
                      trained / "best.pth", "--save-dir", "out", "--legend", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "%" in done.stdout
    color, ids, mixed = (
        read_image(tmp_path / "out" / f"street scene_{kind}.png")
        for kind in ("color_mask", "id_mask", "overlay")
    )
    assert color.shape == ids.shape == (37, 70, 3)
    assert mixed.shape[0] == 37
    assert mixed.shape[1] > 70
    assert (tmp_path / "out" / "street scene_id_mask.png").exists()


@pytest.mark.parametrize("size", [(1, 1), (3, 500), (33, 31)])
def test_demo_takes_any_size(size: tuple[int, int], call, trained: Path, tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", np.zeros((*size, 3), np.uint8))
    done = call("demo.py", "--demo-image", tmp_path / "x.png", "--snapshot",
                      trained / "best.pth", "--save-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_label(tmp_path / "x_id_mask.png").shape == size


def test_demo_folder(call, trained: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    for name in ("a.png", "b.png"):
        write_png(folder / name, np.full((40, 50, 3), 99, np.uint8))
    shutil.copy(folder / "a.png", folder / "notes.txt")
    words = ["--demo-folder", folder, "--snapshot", trained / "best.pth", "--save-dir",
             tmp_path / "out"]
    done = call("demo_folder.py", *words)
    assert done.returncode == 0, done.stderr
    assert "3 of 3" in done.stdout, "an image whatever its name ends in"
    assert len(list((tmp_path / "out").iterdir())) == 9
    (folder / "c.jpg").write_bytes(b"\xff\xd8 cut off")
    write_png(folder / "a.webp", np.zeros((40, 50, 3), np.uint8))  # same stem, in truth a PNG
    done = call("demo_folder.py", *words)
    assert done.returncode == 1
    assert "4 of 5" in done.stdout
    assert "c.jpg" in done.stderr
    assert (tmp_path / "out" / "a.webp_overlay.png").exists()


def test_preprocessing(call, tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, train=3, val=1)
    words = ["--data-root", root, "--workers", 0, "--train-ids",
             "--class-weights", tmp_path / "w.json"]
    done = call("preprocess_data.py", *words)
    assert done.returncode == 0, done.stderr
    assert "3 train-id labels written" in done.stdout
    labels = sorted(root.glob("gtFine/train/*/*_labelIds.png"))
    for path in labels:
        ids = read_label(path)
        train_ids = read_label(path.with_name(path.name.replace("labelIds", "labelTrainIds")))
        assert (train_ids[ids == 7] == 0).all()
        assert (train_ids[ids == 0] == 255).all()
        assert (train_ids[ids == 33] == 18).all()
    weights = json.loads((tmp_path / "w.json").read_text())
    assert list(weights)[:2] == ["road", "sidewalk"]
    assert weights["road"]["enet"] == pytest.approx(1 / np.log(1.02 + weights["road"]["share"]))
    again = call("preprocess_data.py", *words)
    assert "0 train-id labels written, 3 were there" in again.stdout
    flat = call("preprocess_data.py", "--data-root", root, "--workers", 0, "--train-ids",
                      "--save-dir", tmp_path / "meta" / "label_imgs")
    assert flat.returncode == 0, flat.stderr
    assert sorted(p.name for p in (tmp_path / "meta/label_imgs").iterdir()) == [
        f"aachen_{i:06d}_000019.png" for i in range(3)
    ]


def test_published_checkpoint_needs_no_arch(call, root: Path, tmp_path: Path) -> None:
    from test_model import upstream_weights

    snapshot = tmp_path / "model_13_2_2_2_epoch_580.pth"
    torch.save(upstream_weights("fregu856_deeplabv3_ResNet18_OS8"), snapshot)
    found = scores(snapshot, root, tmp_path)
    matrix = np.array(found["confMatrix"])
    assert matrix.shape == (34, 34)
    assert matrix[:, 0].sum() > 0, "the twentieth logit is void and wins somewhere"
    write_png(tmp_path / "x.png", np.zeros((64, 64, 3), np.uint8))
    done = call("demo.py", "--demo-image", tmp_path / "x.png", "--snapshot", snapshot,
                      "--save-dir", tmp_path)
    assert done.returncode == 0, done.stderr


def test_demo_and_evaluation_resize_alike(trained: Path, root: Path) -> None:
    """The same pixels reach the network, so the label maps are equal."""
    network = load_model(trained / "best.pth")
    size = 40, 80
    dataset = build_dataset("cityscapes", root, "val", EvalTransform(size))
    plain = build_dataset("cityscapes", root, "val")
    for index in range(2):
        scored = Predictor(network)(dataset[index][0], (64, 128))
        shown = Predictor(network).label_map(plain.read_image(index), size)
        assert torch.equal(scored, shown)


BAD_INPUT = [
    ("evaluate.py", ["--snapshot", "{best}", "--data-root", "nowhere"], "no such folder"),
    ("evaluate.py", ["--snapshot", "nothing.pth"], "nothing.pth: no such checkpoint"),
    ("evaluate.py", ["--snapshot", "{best}", "--data-root", "{root}", "--split", "test"],
     "has no label; choose a labelled"),
    ("evaluate.py", ["--snapshot", "{best}", "--data-root", "{root}", "--split", "x"],
     "no leftImg"),
    ("evaluate.py", ["--snapshot", "{best}", "--dataset", "camvid", "--data-root", "{camvid}"],
     "are not the data set's 11"),
    ("test.py", ["--snapshot", "{best}", "--data-root", "nowhere", "--save-dir", "x"], "no such"),
    ("demo.py", ["--snapshot", "{best}", "--demo-image", "nothing.png"], "nothing.png"),
    ("demo.py", ["--snapshot", "{best}", "--demo-image", "{best}"], "not an image"),
    ("demo.py", ["--snapshot", "{image}", "--demo-image", "{image}"], "not a checkpoint"),
    ("demo_folder.py", ["--snapshot", "{best}", "--demo-folder", "nowhere"], "no such folder"),
    ("preprocess_data.py", ["--data-root", "{root}"], "nothing to do"),
    ("preprocess_data.py", ["--dataset", "camvid", "--data-root", "{camvid}", "--train-ids"],
     "give --save-dir"),
    ("train.py", ["--data-root", "nowhere"], "no such folder"),
    ("train.py", ["--arch", "resnet"], "unknown network 'resnet'; known: deeplabv3_resnet18"),
    ("train.py", ["--data-root", "{root}", "--init", "{image}"], "not a checkpoint"),
]


@pytest.mark.parametrize(("script", "words", "message"), BAD_INPUT)
def test_bad_input_is_one_line(
    script: str, words: list[str], message: str, call, trained: Path, root: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    camvid = draw_camvid(tmp_path / "camvid") if "{camvid}" in words else ""
    places = {"best": trained / "best.pth", "root": root, "camvid": camvid,
              "image": next(root.glob("leftImg8bit/val/*/*.png"))}
    done = call(script, *(word.format(**places) for word in words))
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"camvid"}, "nothing half-written"


def test_bad_label_is_named_from_a_worker(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path / "city", train=8, val=2)
    label = sorted(root.glob("gtFine/train/*/*_labelIds.png"))[3]
    write_png(label, np.full((64, 128), 99, np.uint8))
    done = run_script("train.py", "--data-root", root, "--run-dir", tmp_path / "run",
                      "--epochs", 1, "--crop-size", 32, 32, "--batch-size", 2, "--workers", 2)
    assert done.returncode == 2
    assert done.stderr.count("error: ") == 1
    assert f"{label}: ids [99]" in done.stderr


def test_works_from_another_folder(trained: Path, root: Path, tmp_path: Path) -> None:
    """Relative paths are the caller's."""
    (tmp_path / "data").symlink_to(root)
    shutil.copy(trained / "best.pth", tmp_path / "best.pth")
    done = start_script("evaluate.py", "--snapshot", "best.pth", "--data-root", "data", "--limit",
                        1, "--workers", 0, cwd=tmp_path,
                        env={"PYTHONPATH": "", "PYTHONSAFEPATH": ""})
    assert done.returncode == 0, done.stderr
    assert "1 images" in done.stdout
    assert ROOT not in tmp_path.parents
