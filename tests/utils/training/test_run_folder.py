"""The folder of a training: one owner, always a whole checkpoint, nothing overwritten."""

import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from conftest import run_script

from utils import checkpoint
from utils.training import run_folder
from utils.training.log import Log
from utils.training.run_folder import (
    BEST,
    LAST,
    SPARE,
    RunFolder,
    check_same_classes,
    check_same_training,
    read_last,
    restarted,
)


def content(step: int) -> dict:
    return {"weights": {"a": torch.full((1000,), float(step))}, "run": {"seed": 0}, "step": step}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run", resume=False)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(torch.full((1000,), 2.0).numpy().tobytes()) + 9] ^= 4
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def test_last_and_spare(folder: RunFolder) -> None:
    for step in (1, 2, 3):
        folder.save(content(step))
        assert read_last(folder.path)["step"] == step
        assert (folder.path / SPARE).exists() == (step > 1)
    assert checkpoint.read(folder.path / SPARE)["step"] == 2
    folder.save_best(content(9))
    assert checkpoint.read(folder.path / BEST)["step"] == 9
    assert read_last(folder.path)["step"] == 3


@pytest.mark.parametrize("damage", [cut, flip, empty, Path.unlink])
def test_spare_is_used(damage: object, folder: RunFolder, capsys: pytest.CaptureFixture) -> None:
    folder.save(content(1))
    folder.save(content(2))
    damage(folder.path / LAST)
    assert read_last(folder.path)["step"] == 1
    err = capsys.readouterr().err
    if damage is Path.unlink:
        assert err == ""
    else:
        assert err.startswith(f"warning: {folder.path / LAST}: ")
        assert err.endswith(f"; {SPARE} is used\n")
        assert err.count("\n") == 1
        assert (folder.path / LAST).exists()  # nothing is deleted


@pytest.mark.parametrize("weights", [
    [1, 2], {"a": 1}, {"a": torch.zeros(2, 2).to_sparse()}, {1: torch.zeros(1)}])
def test_spare_is_used_where_weights_are_none(
    weights: Any, folder: RunFolder, capsys: pytest.CaptureFixture
) -> None:
    folder.save(content(1))
    folder.save(content(2))
    torch.save({**content(2), "weights": weights}, folder.path / LAST)
    assert read_last(folder.path)["step"] == 1
    assert f"; {SPARE} is used" in capsys.readouterr().err


def test_both_damaged(folder: RunFolder, capsys: pytest.CaptureFixture) -> None:
    folder.save(content(1))
    folder.save(content(2))
    cut(folder.path / LAST)
    empty(folder.path / SPARE)
    with pytest.raises(ValueError, match=rf"{SPARE}: an empty file"):
        read_last(folder.path)
    assert capsys.readouterr().err.count("\n") == 1  # the other is the error itself


def test_none(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no last.pth to resume from"):
        read_last(tmp_path)


def test_not_of_a_training(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(1)}, tmp_path / LAST)
    with pytest.raises(ValueError, match=r"last.pth: not written by a training"):
        read_last(tmp_path)


def test_damaged_last_never_becomes_the_spare(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kill in the first save after a resume would leave nothing whole."""
    folder.save(content(1))
    folder.save(content(2))
    cut(folder.path / LAST)
    resumed = RunFolder(folder.path, resume=True)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt  # as a kill: nothing tidies up

    monkeypatch.setattr(run_folder.checkpoint, "write", fail)
    with pytest.raises(KeyboardInterrupt):
        resumed.save(content(3))
    monkeypatch.undo()
    assert read_last(folder.path)["step"] == 1
    resumed.save(content(3))
    assert read_last(folder.path)["step"] == 3
    assert checkpoint.read(folder.path / SPARE)["step"] == 1
    resumed.save(content(4))
    assert checkpoint.read(folder.path / SPARE)["step"] == 3


def test_file_systems_without_second_names(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", deny)
    folder.save(content(1))
    folder.save(content(2))
    assert read_last(folder.path)["step"] == 2


@pytest.mark.parametrize("name", [LAST, SPARE, BEST])
def test_checkpoints_are_not_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"holds the checkpoints of a training; continue it with"):
        RunFolder(tmp_path, resume=False)
    assert os.listdir(tmp_path) == [name]
    RunFolder(tmp_path, resume=True)


def test_command_is_kept(folder: RunFolder) -> None:
    RunFolder(folder.path, resume=True)
    assert len((folder.path / "command.txt").read_text().splitlines()) == 2


@pytest.mark.parametrize("name", [".lock", "command.txt", ".launch", "log.jsonl"])
def test_links_in_the_way_are_not_followed(name: str, tmp_path: Path) -> None:
    """Whether there is a file at their other end or not."""
    path, victim, missing = tmp_path / "run", tmp_path / "victim", tmp_path / "missing"
    victim.write_text("precious")
    path.mkdir()
    for target in (victim, missing):
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(target)
        refused = pytest.raises(OSError, match=f"{path / name}: cannot be written")
        with refused if name in (".lock", "command.txt") else nullcontext():
            RunFolder(path, resume=False)
        Log(path, 10, 0, 1, 1, main=True).record("train", 1, {})
    assert victim.read_text() == "precious"
    assert not missing.exists()


def test_rests_of_killed_processes_are_swept(tmp_path: Path) -> None:
    for name in (f".last.pth-{16 * '0'}.part", f".log.jsonl-{8 * '9f'}.part", ".mine.part",
                 ".nfs0001", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / f".x-{16 * '0'}.part").mkdir()
    RunFolder(tmp_path, resume=False)
    assert sorted(os.listdir(tmp_path)) == [
        ".launch", ".lock", ".mine.part", ".nfs0001", f".x-{16 * '0'}.part", "command.txt",
        "notes.txt"]


def test_launchers_start_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their first start finds no checkpoint; without a name of its own, a launch must count."""
    for name, begun, again in (("a", "a", True), ("a", "b", False), ("none", "none", False)):
        folder = tmp_path / (name + begun)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", begun)
        RunFolder(folder, resume=False)
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", name)
        assert not restarted(folder)
        (folder / LAST).touch()
        assert restarted(folder) == again
        with monkeypatch.context() as patch:
            patch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
            assert restarted(folder)


def test_damaged_weights_are_not_resumed(
    folder: RunFolder, capsys: pytest.CaptureFixture
) -> None:
    folder.save(content(1))
    checkpoint.save(folder.path / SPARE, content(1))
    checkpoint.save(folder.path / LAST, {**content(2), "weights": {"a": torch.tensor([torch.nan])}})
    assert read_last(folder.path)["step"] == 1
    assert "last.pth: a is not finite" in capsys.readouterr().err


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run", resume=False, main=False)
    folder.save(content(1))
    folder.save_best(content(1))
    assert not folder.path.exists()


def other_process(act: object) -> int:
    """Exit code of a fork: locks are of a process."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except ValueError as error:
            os.write(2, f"{error}\n".encode())
            os._exit(2)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_lock(folder: RunFolder, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    part = folder.path / f".last.pth-{16 * '0'}.part"
    part.touch()  # being written by the owner
    assert other_process(lambda: RunFolder(folder.path, resume=True)) == 2
    assert capfd.readouterr().err.startswith(
        f"{folder.path}: in use by process {os.getpid()} on {os.uname().nodename}")
    assert part.exists()
    assert other_process(lambda: RunFolder(tmp_path / "other", resume=False)) == 0
    folder.lock.release()
    assert other_process(lambda: RunFolder(folder.path, resume=True)) == 0


def test_lock_ends_with_its_process_though_its_workers_live(tmp_path: Path) -> None:
    read, write = os.pipe()

    def lock_and_leave_a_worker() -> None:
        kept = RunFolder(tmp_path, resume=False)
        if not os.fork():
            os.close(write)
            os.read(read, 1)  # until the test closes the pipe
            os._exit(0)
        assert kept.lock

    assert other_process(lock_and_leave_a_worker) == 0
    assert other_process(lambda: RunFolder(tmp_path, resume=False)) == 0
    os.close(write)
    os.close(read)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"),
                                   OSError(30, "Read-only file system")])
def test_unwritable(error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(OSError, match=rf"cannot be written \({error.strerror}\); choose another"):
        RunFolder(tmp_path / "run", resume=False)


def test_locked_folder_ends_a_training_in_one_line(
    folder: RunFolder, data_roots: dict[str, Path]
) -> None:
    done = run_script("train.py", "--dataset", "camvid", "--data-root", data_roots["camvid"],
                      "--run-dir", folder.path, "--crop-size", 32, 32, "--batch-size", 2,
                      "--workers", 0)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder.path}: in use by process {os.getpid()} on ")
    assert done.stderr.count("\n") == 1
    assert not list(folder.path.glob("*.pth"))


RUN = {"arch": "a", "optimizer": "sgd", "seed": 0, "batch": 4, "steps": 10, "samples": "1f",
       "world": 1, "threads": 2, "torch": "2.10", "precision": "bf16", "processor": "A",
       "val": "2 images (00c0ffee)"}


@pytest.mark.parametrize("key", ["arch", "optimizer", "seed", "batch", "steps", "samples"])
def test_another_training(key: str) -> None:
    with pytest.raises(ValueError, match=f"--resume: {key} was {RUN[key]} and is 99, which is"):
        check_same_training(RUN, {**RUN, key: 99})


def test_a_longer_training() -> None:
    check_same_training(RUN, {**RUN, "steps": 11}, longer=True)
    with pytest.raises(ValueError, match="steps was 10 and is 11.*or give --extend: the learning"):
        check_same_training(RUN, {**RUN, "steps": 11})
    with pytest.raises(ValueError, match="steps was 10 and is 9") as error:
        check_same_training(RUN, {**RUN, "steps": 9}, longer=True)
    assert "--extend" not in str(error.value)


TABLE = {"class_names": ["road", "sky"], "train_id_to_id": [7, 3]}


@pytest.mark.parametrize(("names", "ids", "message"), [
    (["sky", "road"], [3, 7], r"class 0 was road \(id 7\) and is sky \(id 3\)"),
    (["road", "sky"], [3, 7], r"class 0 was road \(id 7\) and is road \(id 3\)"),
    (["road", "sky", "car"], [7, 3, 1], r"class 2 was none and is car \(id 1\)"),
    (["road"], [7], r"class 1 was sky \(id 3\) and is none"),
])
def test_other_classes(names: list, ids: list, message: str) -> None:
    check_same_classes(TABLE, dict(TABLE))
    with pytest.raises(ValueError, match=message):
        check_same_classes(TABLE, {"class_names": names, "train_id_to_id": ids})


def test_other_colors_of_the_classes() -> None:
    """Labels in colors would be other classes."""
    then = {**TABLE, "palette": [[128, 64, 128], [0, 0, 255]]}
    check_same_classes(then, dict(then))
    with pytest.raises(ValueError, match=r"class 0 was color \[128, .* and is color \[0, 0,"):
        check_same_classes(then, {**TABLE, "palette": then["palette"][::-1]})


@pytest.mark.parametrize(("key", "was", "is_", "what"), [
    ("exif", "apply", "ignore", "--exif was another one (apply, now ignore)"),
    ("exif", None, "apply", "--exif was another one (None, now apply)"),
    ("bits", 12, 16, "the number of bits in 16-bit images was another one (12, now 16)"),
])
def test_images_that_are_read_otherwise(key: str, was: Any, is_: Any, what: str) -> None:
    then, now = ({**TABLE, key: each} if each else TABLE for each in (was, is_))
    check_same_classes(then, dict(then))
    with pytest.raises(ValueError, match=re.escape(f"--resume: {what}")):
        check_same_classes(then, now)


def test_older_checkpoints_do_not_say_their_precision(capsys: pytest.CaptureFixture) -> None:
    older = {key: RUN[key] for key in RUN if key not in ("precision", "processor", "val")}
    check_same_training(older, RUN)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("key", ["world", "threads", "torch", "precision", "processor", "val"])
def test_last_digits(key: str, capsys: pytest.CaptureFixture) -> None:
    check_same_training(RUN, {**RUN, key: 99})
    assert capsys.readouterr().out.startswith(f"note: {key} was {RUN[key]}, is 99: ")
    check_same_training(RUN, dict(RUN))
    assert capsys.readouterr().out == ""


def test_a_full_disk_is_said_before_a_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "last.pth").write_bytes(bytes(3_000_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=2_900_000))
    with pytest.raises(OSError, match=r"3\.0 MB are to be written, 2\.9 MB are free; make room"):
        RunFolder(tmp_path, resume=True)
