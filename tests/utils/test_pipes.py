"""Pipes and links where files are expected: nothing waits for a writer, nothing is followed."""

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, draw_camvid

from datasets import build_dataset
from datasets.polygons import draw_polygons
from model import hub
from utils import files
from utils.files import read_file, replacing, write_file
from utils.scoring.comparison import read_scores
from utils.submission.package import inspect


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


@pytest.mark.parametrize("read", [
    read_scores, draw_polygons, hub._read_json, lambda path: inspect(path, None)])  # type: ignore[arg-type]
def test_a_pipe_where_a_file_is_expected(read: Callable, pipe: Path) -> None:
    with pytest.raises(ValueError, match=f"{pipe}: .*not a file, but a pipe or a device"):
        read(pipe)


def test_a_pipe_among_the_files_of_a_data_set(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path / "data")
    os.mkfifo(root / "train.txt")
    with pytest.raises(OSError, match="not a file, but a pipe or a device"):
        build_dataset("camvid", root, "train")


def test_what_is_wanted_is_read_and_written(pipe: Path, tmp_path: Path) -> None:
    """Text files, and results into a pipe or /dev/stdout."""
    write_file(tmp_path / "x", b"text")
    assert read_file(tmp_path / "x") == b"text"
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_file(pipe, b"figures")
    assert os.read(reader, 100) == b"figures"
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    code = "from utils.files import write_file; write_file('/dev/stdout', b'figures')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, b"figures"), done.stderr
    assert Path("/dev/stdout").is_symlink()


def test_a_full_device_is_said() -> None:
    with pytest.raises(OSError, match=r"/dev/full: not written \(No space left on device\)"):
        write_file("/dev/full", b"figures")


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="has no such disk in memory")
def test_a_disk_below_dev_is_a_disk() -> None:
    """Folders are made there, and files replaced."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "new/x"
        write_file(path, b"first")
        with path.open("rb") as file:
            write_file(path, b"second")
            assert (file.read(), path.read_bytes()) == (b"first", b"second")


def test_a_link_in_the_way_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nobody can know the name."""
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: "0" * 16)
    (tmp_path / "theirs").write_text("precious")
    (tmp_path / f".x-{'0' * 16}.part").symlink_to(tmp_path / "theirs")
    with pytest.raises(FileExistsError), replacing(tmp_path / "x") as part:
        part.write_text("mine")
    assert (tmp_path / "theirs").read_text() == "precious"
    assert not (tmp_path / "x").exists()
