"""Own data in folders within a split: nothing is left out, and names keep the folders."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from breaking import found
from conftest import draw_folder

from datasets import build_dataset
from datasets.doctor import check
from datasets.evaluation.predictions import find_predictions
from utils.images import read_label


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Images 0 to 4 of train: 0 and 1 stay, 2 is left/0, 3 right/0, 4 right/far/4; of val left/0.

    There is a link back, and a hidden folder.
    """
    root = draw_folder(tmp_path / "mine")
    places = {"train/2": "train/left/0", "train/3": "train/right/0", "train/4": "train/right/far/4",
              "val/0": "val/left/0"}
    for kind in ("images", "labels"):
        for old, new in places.items():
            path = root / kind / f"{new}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            (root / kind / f"{old}.png").rename(path)
        (root / kind / "train/right/far/back").symlink_to("../..")
        shutil.copytree(root / kind / "train/left", root / kind / "train/.left")
    return root


def test_samples(root: Path) -> None:
    samples = build_dataset("folder", root, "train").samples
    assert [sample.name for sample in samples] == ["0", "1", "left/0", "right/0", "right/far/4"]
    assert all(s.label == Path(str(s.image).replace("/images/", "/labels/")) for s in samples)
    assert set(found(check("folder", root))) == {"hidden-file"}


def test_two_links_to_one_folder_are_two_folders(root: Path) -> None:
    """As of frames that are in two lists; only links that lead to a parent are passed over."""
    for kind in ("images", "labels"):
        shutil.move(root / kind / "train", root / kind / "all")
        (root / kind / "train").mkdir()
        for name in ("x", "y"):
            (root / kind / "train" / name).symlink_to("../all/right")
        (root / kind / "train/up").symlink_to("..")
    samples = build_dataset("folder", root, "train").samples
    assert [sample.name for sample in samples] == ["x/0", "x/far/4", "y/0", "y/far/4"]


def test_a_label_in_another_folder_is_none(root: Path) -> None:
    (root / "labels/train/left/0.png").rename(root / "labels/train/left/1.png")
    with pytest.raises(ValueError, match=r"left/0\.png: no label; 1 of 5"):
        build_dataset("folder", root, "train")
    shutil.rmtree(root / "labels/train/right")
    shutil.copytree(root / "images/train/right", root / "labels/train/wrong", symlinks=True)
    missing = found(check("folder", root))["no-label"]
    assert missing == {f"images/train/{name}.png" for name in ("left/0", "right/0", "right/far/4")}


def test_folders_the_other_way_round_are_named(tmp_path: Path) -> None:
    """train/images/ in place of images/train/."""
    root = draw_folder(tmp_path)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split).mkdir(exist_ok=True)
            (root / kind / split).rename(root / split / kind)
    hint = "train/images/ is there: rename it images/train/"
    with pytest.raises(FileNotFoundError, match=hint):
        build_dataset("folder", root, "train")
    assert hint in check("folder", root).findings[0].faults[0].detail


def test_predictions_are_found_in_their_folders(tmp_path: Path) -> None:
    places = {"0": "0_pred", "left/0": "left/0", "right/0": "x/right/0_pred", "right": "right_pred"}
    for place in places.values():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{place}.png").touch()
    expected = {name: tmp_path / f"{place}.png" for name, place in places.items()}
    assert find_predictions(tmp_path, list(places)) == expected


def test_scores_and_train_ids(root: Path, call, tmp_path: Path) -> None:
    """Labels that are taken for predictions score 1; those of both folders are written."""
    words = ["--dataset", "folder", "--data-root", root, "--split", "train", "--workers", 0]
    shutil.rmtree(root / "labels/train/.left")
    done = call("evaluate.py", *words, "--predictions", root / "labels/train", "--json",
                tmp_path / "scores.json", "--save-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["averageScoreClasses"] == 1
    assert (tmp_path / "out/pred/right/far/4.png").is_file()
    done = call("preprocess_data.py", *words, "--train-ids", "--save-dir", tmp_path / "ids")
    assert done.returncode == 0, done.stderr
    written, label = (read_label(path / "left/0.png")
                      for path in (tmp_path / "ids", root / "labels/train"))
    assert np.array_equal(written == 0, label == 7)
