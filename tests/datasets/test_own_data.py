"""Data of one's own as people have them: without a val split, with labels in colors, small."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs, draw_folder, paint, run_script

import train
from datasets import build_as_trained, build_dataset, doctor
from utils import checkpoint
from utils.images import read_label, write_png


def names(root: Path, split: str, fraction: float) -> set[str]:
    dataset = build_dataset("folder", root, split, holdout=fraction)
    return {sample.name for sample in dataset.samples}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """30 images of train, none of val."""
    rng, root = np.random.default_rng(0), draw_folder(tmp_path / "own")
    for kind in ("images", "labels"):
        shutil.rmtree(root / kind / "val")
    for i in range(5, 30):
        label = blobs(rng, (48, 64), [7, 3, 200])
        write_png(root / f"images/train/{i}.png", paint(rng, label))
        write_png(root / f"labels/train/{i}.png", label)
    return root


def test_a_part_of_train_is_held_out(root: Path, capsys: pytest.CaptureFixture) -> None:
    """By name: what is val stays val when images are added or taken away."""
    val, rest = names(root, "val", 0.3), names(root, "train", 0.3)
    assert capsys.readouterr().out == (
        f"val: {len(val)} of the 30 images of train, chosen by their names "
        "(--holdout-fraction 0.3)\n")
    assert val == {"4", "8", "9", "10", "13", "17", "29"}  # as sha256sum has it; never another
    assert rest == {str(i) for i in range(30)} - val
    assert val < names(root, "val", 0.4)
    for kind in ("images", "labels"):
        (root / kind / "train/5.png").unlink()
        shutil.copy(root / kind / "train/6.png", root / kind / "train/new.png")
    assert names(root, "val", 0.3) - {"new"} == val


def test_what_cannot_be_held_out(root: Path, data_roots: dict, call: Callable) -> None:
    with pytest.raises(ValueError, match="would make 0 of the 30 images of train val"):
        names(root, "train", 1e-9)
    with pytest.raises(ValueError, match="there is a val already; leave it out"):
        names(data_roots["folder"], "train", 0.5)
    for words, said in ((["--holdout-fraction", 0.3, "--holdout", "x"], "not allowed with"),
                        (["--holdout-fraction", 1], "'1' is not a number between 0 and 1")):
        done = call("train.py", "--dataset", "folder", "--data-root", root, *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert said in done.stderr


def test_it_is_evaluated_on_what_was_held_out(root: Path, tmp_path: Path, call: Callable) -> None:
    """The snapshot says the part, which counts where the data have no val of their own."""
    done = run_script(
        "train.py", "--dataset", "folder", "--data-root", root, "--arch", "cspsg_n",
        "--holdout-fraction", 0.3, "--crop-size", 96, 64, "--batch-size", 2, "--max-steps", 1,
        "--workers", 0, "--threads", 1, "--run-dir", tmp_path / "run", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("23 of 23 training images are smaller than --crop-size 96 64") == 1
    known = checkpoint.read(tmp_path / "run/best.pth")["dataset"]
    assert known["holdout_fraction"] == 0.3
    done = call("evaluate.py", "--snapshot", tmp_path / "run/best.pth", "--data-root", root,
                "--workers", 0, "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert "val: 7 of the 30 images of train" in done.stdout
    assert "7 images of folder val" in done.stdout
    assert len(build_as_trained(known, "folder", root, "train", None, (None, None, None))) == 23
    assert len(build_as_trained(known, "folder", root, "train", None, (None, None, 3))) == 3
    shutil.copytree(root / "images/train", root / "images/val")
    shutil.copytree(root / "labels/train", root / "labels/val")
    assert len(build_as_trained(known, "folder", root, "val", None, (None, None, None))) == 30


def in_colors(root: Path, background: tuple[int, int, int] = (0, 0, 0)) -> None:
    """Saves the labels of a drawn folder in the colors of its classes."""
    colors = {7: (128, 64, 128), 3: (250, 170, 30), 200: (0, 0, 255)}
    table = np.array([colors.get(i, background) for i in range(256)], np.uint8)
    for path in root.glob("labels/*/*.png"):
        write_png(path, table[read_label(path)])


def test_labels_in_the_colors_of_the_classes(tmp_path: Path, call: Callable) -> None:
    """They are the same data: every target, the doctor, an evaluation."""
    roots = draw_folder(tmp_path / "ids"), draw_folder(tmp_path / "colors")
    in_colors(roots[1])
    ids, colors = (build_dataset("folder", root, "train") for root in roots)
    assert all(np.array_equal(ids[i][1], colors[i][1]) for i in range(len(ids)))
    assert doctor.check("folder", roots[1]).count("error") == 0
    colors.merge({"traffic light": "light"})
    assert (colors[0][1].numpy() == 0).sum() == (ids[0][1].numpy() == 1).sum() > 0


def test_colors_of_no_class_are_counted(tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    path = root / "labels/train/2.png"
    count = (read_label(path) == 9).sum()
    in_colors(root, (1, 2, 3))
    with pytest.raises(ValueError, match=rf"2\.png: its colors are of no class in {count} of 3,072 "
                       r"pixels, the first is \(1, 2, 3\)"):
        build_dataset("folder", root, "train")[2]
    assert doctor.check("folder", root).count("error") == 2  # kinds: of train and of val


@pytest.mark.parametrize(("classes", "grays", "expected"), [
    ("0 a 9 9 8\n1 b 8 9 9\n7 c 1 2 3", [0, 1, 7, 255], [0, 1, 2, 255]),  # ids
    ("0 ground 0 0 0\n1 thing 255 255 255", [0, 255], [0, 1]),  # black and white
    ("3 sky 128 128 128\n4 b 1 2 3", [0, 128], [255, 0]),  # black is of no class
    ("0 a 9 9 8\n1 b 255 255 255", [0, 255], None),  # road, or black? ignored, or white?
    ("0 a 9 9 8\n1 b 8 9 9", [0], None),
])
def test_three_equal_channels(
    classes: str, grays: list[int], expected: list[int] | None, tmp_path: Path
) -> None:
    (tmp_path / "classes.txt").write_text(classes)
    pixels = np.repeat(np.array(grays, np.uint8)[None, :, None], 3, axis=2)
    for kind in ("images", "labels"):
        write_png(tmp_path / kind / "train/0.png", pixels)
    dataset = build_dataset("folder", tmp_path, "train")
    if expected is None:
        with pytest.raises(ValueError, match=r"0\.png: its gray 0 may be an id, or the color"):
            dataset[0]
    else:
        assert dataset[0][1].tolist() == [expected]


@pytest.mark.parametrize(("words", "noted"), [
    (["--crop-size", 48, 64], False), (["--crop-size", 48, 65], True),
    (["--crop-size", 64, 64, "--pre-size", 128], False), (["--pre-size", 32], True),
])
def test_crops_that_are_larger_than_the_images(
    words: list, noted: bool, tmp_path: Path, data_roots: dict, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("sys.argv", [
        "train.py", "--dataset", "folder", "--data-root", str(data_roots["folder"]), "--workers",
        "0", *map(str, ["--crop-size", 32, 32, *words])])
    train.build_data(train.parse_args()[0])
    assert ("training images are smaller than" in capsys.readouterr().out) is noted


def test_a_folder_of_images_alone(tmp_path: Path, call: Callable) -> None:
    """What layout is missing, before anything else is."""
    write_png(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8))
    done = call("train.py", "--dataset", "folder", "--data-root", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "expected images/train/NAME.jpg, labels/train/NAME.png, likewise val" in done.stderr
