"""What stops a training before step 0: labels that teach nothing, or other than they say."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from breaking import files, relabel, to_train_ids, without_meaning
from conftest import DRAW, draw_cityscapes, draw_folder
from PIL import Image

from datasets import build_dataset, doctor
from datasets.doctor import check_ids, check_labels
from utils.images import read_label, write_png

Break = Callable[[Path, list[Path], list[Path]], object]  # root, labels of train and of val


def classes(root: Path, *lines: str) -> None:
    (root / "classes.txt").write_text("\n".join(lines))


def only(labels: list[Path], i: int) -> None:
    for path in labels:
        relabel(path, lambda ids: np.full_like(ids, i))


CASES: list[tuple[str, Break, str]] = [
    ("folder", lambda r, t, v: classes(r, "7 road 1 2 3"), "one class alone.*: road"),
    ("folder", lambda r, t, v: only(t, 3), "one class alone.*: traffic light"),
    ("folder", lambda r, t, v: classes(r, "11 a 1 2 3", "12 b 4 5 6"), "all labels are ignored.*"
     "train.*classes.txt"),
    ("folder", lambda r, t, v: only(v, 9), "all labels are ignored.*val"),
    ("folder", lambda r, t, v: classes(r, "7 road 1 2 3", "3 light 1 2 3", "200 sky 7 8 9"),
     "one color.*road and light"),
    ("folder", lambda r, t, v: (without_meaning(t, 0), without_meaning(t[4:], 1)),
     r"train/4\.png: palettes of labels differ"),
    ("folder", lambda r, t, v: [relabel(path, lambda ids: (ids == 7) * np.uint8(255))
                                for path in t], "0 and 255 alone"),
    ("cityscapes", lambda r, t, v: to_train_ids(t[1]), "000001_000019_gtFine_labelIds.png: label "
     "has train ids.*name it"),
    ("cityscapes", lambda r, t, v: [to_train_ids(path, 0) for path in v], "has train ids.*of val"),
    ("camvid", lambda r, t, v: only(t, 11), "all labels are ignored"),
]


@pytest.mark.parametrize(("name", "spoil", "message"), CASES)
def test_a_training_stops(
    name: str, spoil: Break, message: str, tmp_path: Path, call
) -> None:
    root = DRAW[name](tmp_path / "data")
    spoil(root, *(files(root, name, "labels", split) for split in ("train", "val")))
    train, val = (build_dataset(name, root, split) for split in ("train", "val"))
    with pytest.raises(ValueError, match=message):
        check_labels(name, train, val, 2)
    done = call("train.py", "--dataset", name, "--data-root", root, "--arch", "cspsg_n",
                "--batch-size", 2, "--run-dir", tmp_path / "run")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert not (tmp_path / "run").exists()
    done = call("preprocess_data.py", "--check", "--dataset", name, "--data-root", root)
    assert done.returncode == 2, "the doctor says so too"


@pytest.mark.parametrize(("name", "spoil", "message"), [CASES[3], CASES[6], CASES[8], (
    "mapillary", lambda r, t, v: turn_palette(v[1]), "palettes of labels differ")])
def test_nothing_is_scored_or_counted_either(
    name: str, spoil: Break, message: str, tmp_path: Path, call
) -> None:
    root = DRAW[name](tmp_path / "data")
    labels = files(root, name, "labels", "val")
    spoil(root, labels, labels)
    words = "--dataset", name, "--data-root", root, "--split", "val", "--workers", 0
    for more in (["evaluate.py", "--predictions", labels[0].parent, "--prediction-kind", "ids"],
                 ["preprocess_data.py", "--train-ids", "--save-dir", tmp_path / "ids"],
                 ["preprocess_data.py", "--class-weights", tmp_path / "weights.json"]):
        done = call(*more, *words)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert re.search(message, done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_labels_may_look_like_others_by_chance(tmp_path: Path) -> None:
    """A training is worth a question; a score is not, unless all labels look so."""
    root = draw_cityscapes(tmp_path)
    label = files(root, "cityscapes", "labels", "val")[0]
    ids = read_label(label)
    write_png(label, np.where(ids < 19, np.maximum(ids, 7), 255).astype(np.uint8))
    val = build_dataset("cityscapes", root, "val")
    for count in (3, 1):
        val.samples = val.samples[:count]
        check_ids("cityscapes", val, 0, 1)
        with pytest.raises(ValueError, match="has train ids"):
            check_ids("cityscapes", val, 1, 1)


def turn_palette(path: Path) -> None:
    """Each color at the next index, as tools do that number the colors of a file by themselves."""
    image = Image.open(path)
    colors = np.roll(np.array(image.getpalette()).reshape(-1, 3), 1, 0)
    turned = Image.fromarray((np.array(image) + 1) % len(colors))
    turned.putpalette(colors.ravel().tolist())
    turned.convert("P").save(path)


@pytest.mark.parametrize("name", DRAW)
def test_healthy_labels_pass(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path)
    check_labels(name, *(build_dataset(name, root, split) for split in ("train", "val")), 0)


def test_some_labels_may_pass_and_only_all_of_them_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second class is in the last label alone, which is not among the first that are read."""
    root = draw_folder(tmp_path)
    labels = files(root, "folder", "labels")
    only(labels[:4], 7)
    train, val = (build_dataset("folder", root, split) for split in ("train", "val"))
    read: list[int] = []
    original = train.read_ids
    monkeypatch.setattr(train, "read_ids", lambda i: read.append(i) or original(i))
    monkeypatch.setattr(doctor, "SAMPLE", 2)
    check_labels("folder", train, val, 1)
    assert sorted(read) == [0, 0, 1, 2, 3, 3, 4]
    only(labels[4:], 7)
    with pytest.raises(ValueError, match="one class alone"):
        check_labels("folder", train, val, 1)
    write_png(labels[0], np.full((48, 64), 3, np.uint8))
    read.clear()
    check_labels("folder", train, val, 1)
    assert sorted(read) == [0, 3], "what is in some labels is in all of them"


def test_train_ids_are_written_again_where_they_are_not_right(tmp_path: Path, call) -> None:
    """A label that changed, though its date is older; a damaged file; another --void-id."""
    root, out = draw_cityscapes(tmp_path / "data", train=4, val=1), tmp_path / "ids"
    words = ["preprocess_data.py", "--data-root", root, "--train-ids", "--save-dir", out,
             "--workers", 0]
    assert "4 train-id labels written, 0" in call(*words).stdout
    label = files(root, "cityscapes", "labels")[0]
    relabel(label, lambda ids: np.full_like(ids, 26))
    os.utime(label, (1_500_000_000, 1_500_000_000))
    right = (out / "aachen_000001_000019.png").read_bytes()
    (out / "aachen_000001_000019.png").write_bytes(right[:50])
    assert "2 train-id labels written, 2" in call(*words).stdout
    assert (out / "aachen_000001_000019.png").read_bytes() == right
    assert "3 train-id labels written, 1" in call(*words, "--void-id", 19).stdout
