"""Disks at the other end of a network, damaged statistics, weights that are no numbers."""

import errno
import io
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import draw_folder

from datasets import build_dataset
from datasets.cache.per_label import count_class_pixels
from model import build_model
from model.snapshot import load_model, read_snapshot
from utils import checkpoint, files
from utils.images import read_image, read_size
from utils.options.data import check_output
from utils.workers import Loader


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Any:
    """refused(number, times): so often the next files are not opened, with this error."""
    left: list[int] = []
    real = io.open

    def once(file: Any, mode: str = "r", *words: Any, **more: Any) -> Any:
        if left and mode == "rb":
            number = left.pop()
            raise OSError(number, os.strerror(number), str(file))
        return real(file, mode, *words, **more)

    monkeypatch.setattr(files, "PAUSE", 0.0)
    monkeypatch.setattr("builtins.open", once)
    monkeypatch.setattr(io, "open", once)
    return lambda number, times: left.extend([number] * times)


@pytest.mark.parametrize("read", [read_image, read_size, checkpoint.read])
def test_a_stale_handle(read: Any, refused: Any, tmp_path: Path) -> None:
    path = draw_folder(tmp_path) / "images/train/0.png"
    if read is checkpoint.read:
        path = tmp_path / "a.pth"
        torch.save({"a": torch.zeros(2)}, path)
    for number in (errno.ESTALE, errno.ENOENT):  # the latter: it was there before
        refused(number, 2)
        read(path)
    refused(errno.ESTALE, 3)
    with pytest.raises((ValueError, OSError), match="Stale file handle|cannot be read"):
        read(path)


def test_a_listed_file_that_is_replaced(refused: Any, tmp_path: Path) -> None:
    """In workers, too, that are no forks of this process."""
    sample = build_dataset("folder", draw_folder(tmp_path), "train").samples[0]
    loader = Loader(range(1), 1, torch.device("cpu"))
    init = pickle.loads(pickle.dumps(loader.worker_init_fn))
    if not (pid := os.fork()):
        try:
            files.known.clear()
            init(0)
        finally:
            os._exit(str(sample.label) in files.known)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
    refused(errno.ENOENT, 2)
    read_image(sample.image)


def test_a_file_that_was_never_there(refused: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(files.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(FileNotFoundError):
        read_image(tmp_path / "no.png")


@pytest.mark.parametrize("damage", ["text", "empty", "short", "header", "folder"])
def test_damaged_statistics(damage: str, tmp_path: Path) -> None:
    dataset = build_dataset("folder", draw_folder(tmp_path), "train")
    right = count_class_pixels(dataset)
    path, = (dataset.root / ".streetseg").glob("*.npz")
    if damage == "folder":
        path.unlink()
        path.mkdir()
    elif damage == "short":
        np.savez(path, rows=np.zeros((2, 256), np.int64), ends=np.array([1, 2]))
    elif damage == "header":
        path.write_bytes(path.read_bytes()[:300] + b"\xff" * 200)
    else:
        path.write_bytes(b"x" * 50 if damage == "text" else b"")
    assert torch.equal(count_class_pixels(dataset), right)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("ours", [True, False])
def test_weights_that_are_not_finite(value: float, ours: bool, tmp_path: Path) -> None:
    network = build_model("sgcpnet", 3)
    weights = network.state_dict()
    name = [key for key in weights if weights[key].ndim == 4][-1]
    weights[name].view(-1)[1] = value
    content: dict[str, Any] = dict(weights)
    if ours:
        content = {"format": 1, "model": network.config, "weights": weights, "dataset": {
            "name": "folder", "class_names": list("abc"), "palette": [[0, 0, 0]] * 3,
            "train_id_to_id": [0, 1, 2]}}
    torch.save(content, tmp_path / "a.pth")
    for read in (read_snapshot, load_model):
        with pytest.raises(ValueError, match=f"a.pth: {name} is not finite"):
            read(tmp_path / "a.pth")


def test_where_figures_are_written_is_looked_at_first(tmp_path: Path) -> None:
    check_output(None)
    check_output(str(tmp_path / "new.json"))
    check_output("/dev/stdout")
    with pytest.raises(ValueError, match="is a folder; give the name of a file"):
        check_output(str(tmp_path))
    with pytest.raises(ValueError, match="its folder does not exist"):
        check_output(str(tmp_path / "no/new.json"))
    with pytest.raises(ValueError, match="not written"):
        check_output("/proc/new.json")
    assert os.listdir(tmp_path) == []


def test_a_file_in_place_of_a_folder(tmp_path: Path, data_roots: dict, call) -> None:
    """Of a training before its data are looked at; nowhere a traceback."""
    (tmp_path / "a").write_text("mine")
    done = call("train.py", "--run-dir", tmp_path / "a", "--data-root", tmp_path / "no data")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert f"{tmp_path / 'a'}" in done.stderr
    done = call("preprocess_data.py", "--dataset", "camvid", "--data-root", data_roots["camvid"],
                "--train-ids", "--workers", 0, "--save-dir", tmp_path / "a")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert (tmp_path / "a").read_text() == "mine"
