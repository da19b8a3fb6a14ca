"""Data of one's own as people have them: without a val split, with labels in colors, small."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs, draw_folder, paint, run_script

from datasets import build_as_trained, build_dataset
from utils import checkpoint
from utils.images import write_png


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
    val, train = names(root, "val", 0.3), names(root, "train", 0.3)
    assert capsys.readouterr().out == (
        f"val: {len(val)} of the 30 images of train, chosen by their names "
        "(--holdout-fraction 0.3)\n")
    assert val == {"4", "8", "9", "10", "13", "17", "29"}  # as sha256sum has it; never another
    assert train == {str(i) for i in range(30)} - val
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
