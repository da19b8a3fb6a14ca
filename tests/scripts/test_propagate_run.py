"""A run of propagate.py: room on the disk, names, what is found from before, threads."""

import shutil
from collections.abc import Callable
from pathlib import Path
from threading import get_ident, main_thread
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import test_propagate
from conftest import CLASSES
from test_propagate import NAME, accuracy, contents, draw_scene, refused, view

from datasets import build_dataset
from model.flow import MOTIONS
from utils.images import read_label, write_png
from utils.video.flow import dis_flow

root, propagate = test_propagate.root, test_propagate.propagate  # fixtures


def image_of(folder: Path, frame: int, kind: str = "leftImg8bit") -> Path:
    return folder / kind / f"train/aachen/{NAME}{frame:06d}_leftImg8bit.png"


def label_of(folder: Path, frame: int, end: str = "labelIds") -> Path:
    return folder / f"gtFine/train/aachen/{NAME}{frame:06d}_gtFine_{end}.png"


def test_room_is_that_of_what_is_missing(
    propagate: Callable, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pair is taken to be as large as a labelled frame."""
    label, image = (path.stat().st_size for path in (label_of(root, 19), image_of(root, 19)))
    joint = 4 * (label + image)
    usage = SimpleNamespace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)

    def needs(need: int, *words: object) -> None:
        usage.free = need - 1
        assert "MB are free; make room" in refused(propagate(*words), 1)
        usage.free = need
        assert propagate(*words).returncode == 0

    needs(joint)
    usage.free = 0
    assert propagate().returncode == 0, "all are there"
    label_of(tmp_path / "out", 20).unlink()
    image_of(tmp_path / "out", 17).unlink()
    needs(joint // 2)


def test_train_ids_stay_train_ids(propagate: Callable, root: Path, tmp_path: Path) -> None:
    """In the name of the file too, by which they are read."""
    shutil.copytree(root, tmp_path / "data")
    path = label_of(tmp_path / "data", 19)
    table = CLASSES["cityscapes"].id_to_train_id
    write_png(label_of(tmp_path / "data", 19, "labelTrainIds"), table[read_label(path)])
    path.unlink()
    assert propagate("--data-root", tmp_path / "data").returncode == 0
    dataset = build_dataset("cityscapes", tmp_path / "out", "train")
    ids = draw_scene()[1]
    for index, frame in enumerate((17, 18, 20, 21)):
        path = label_of(tmp_path / "out", frame, "labelTrainIds")
        assert dataset.samples[index].truth == path
        assert accuracy(dataset[index][1].numpy(), table[view(ids, frame)]) > 0.97


def test_pairs_of_another_size_are_made_anew(propagate: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert propagate().returncode == 0
    whole = contents(out)
    small = np.zeros((40, 60, 3), np.uint8)
    write_png(label_of(out, 18), small[..., 0])  # not as large as its image
    write_png(label_of(out, 21), small[..., 0])  # as its image, not as the labelled frame
    write_png(image_of(out, 21), small)
    assert propagate().stdout.endswith(f"2 frames written, 2 were there: {out}\n")
    assert contents(out) == whole


def test_workers_compute_in_one_thread_each(
    propagate: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of as many as there are cores would have OpenCV take all cores."""
    found = []

    def motion(target: np.ndarray, source: np.ndarray, before: Callable) -> np.ndarray:
        found.append((get_ident(), cv2.getNumThreads()))
        return dis_flow(target, source)

    monkeypatch.setitem(MOTIONS, "dis", lambda weights, device: motion)
    cv2.setNumThreads(3)  # as on a machine of several cores; the fixture sets it back
    assert propagate("--workers", 2).returncode == 0
    assert [threads for _, threads in found] == [1] * 4
    assert main_thread().ident not in dict(found)
