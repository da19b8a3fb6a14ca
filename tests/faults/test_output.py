"""What nobody reads, and what is not ours in a run's folder, never ends a training."""

import errno
import json
import os
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import draw_folder, forks
from trainings import Trainings

from utils import checkpoint, stopping
from utils.scoring.validation import ConfusionMatrix
from utils.training.log import Log

WORDS = ["--optimizer", "sgd", "--batch-size", 2]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


CLOSED = """
import os, sys
import train
from utils.stopping import run
how = {how!r}
if how == "pipe":
    read, write = os.pipe()
    os.close(read)
    os.dup2(write, 1)
elif how == "full":
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
else:
    number = int(how)
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)
run(train.main)
"""


@pytest.mark.parametrize("how", ["pipe", "full", "1", "2"])
def test_nobody_reads(how: str, train: Trainings, tmp_path: Path) -> None:
    (tmp_path / "closed.py").write_text(CLOSED.format(how=how))
    run = tmp_path / "run"
    done = forks()(tmp_path / "closed.py", *train.base, *WORDS, "--run-dir", run)
    assert done.returncode == 0, done.stderr
    assert checkpoint.read(run / "last.pth")["complete"]
    assert checkpoint.read(run / "best.pth")  # no line went into it


def test_a_full_disk_is_one_line_whoever_wrote(capsys: pytest.CaptureFixture) -> None:
    """A library, or another process, whose errors name no file."""
    done: Future = Future()
    done.set_exception(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match="No space") as caught:
        done.result()
    assert stopping.report(caught.value) == 1
    line = "error: No space left on device, where this writes or its output goes; "
    assert capsys.readouterr().err == f"{line}mend that, and run it again\n"


def test_closed_streams_are_taken() -> None:
    """Else the next file that is opened would have their number."""
    pid = os.fork()
    if not pid:
        os.closerange(0, 3)
        stopping.open_streams()
        os._exit(os.open(os.devnull, os.O_RDONLY) <= 2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "add_image", "close"])
def test_tensorboard_cannot_write(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SummaryWriter, method, full)
    log = Log(tmp_path, total_steps=3, every=1)
    for step in (1, 2, 3):
        log.step(step, 1.0, {"lr": 0.1})
        log.pictures(step, [("a", np.zeros((2, 2, 3), np.uint8))])
    log.close()
    assert capsys.readouterr().err == ("warning: TensorBoard: not written any more (No space left "
                                       "on device); the training goes on\n")
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 3


def test_the_log_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "log.jsonl").mkdir()
    log = Log(tmp_path, total_steps=2, every=1)
    log.step(1, 1.0, {})
    log.close()
    assert capsys.readouterr().err.startswith("warning: log.jsonl: not written any more (")


def test_a_damaged_log(tmp_path: Path) -> None:
    ours = [json.dumps({"kind": kind, "step": step})
            for kind, step in (("train", 2), ("val", 2), ("train", 4), ("val", 4), ("train", 5))]
    lines = [b"\xff\xfe", b"[1]", b"7", b'{"step": "x"}', b'{"kind": "train"}', b"null",
             b"[" * 99_999, b'{"kind": "val", "step": Infinity}',
             *(line.encode() for line in ours), b'{"kind": "train", "step": 1']
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(lines))
    Log(tmp_path, total_steps=9, start_step=4, validated=2).close()
    assert (tmp_path / "log.jsonl").read_text().splitlines() == ours[:3]  # that of val 4 is to come


def test_names_that_are_no_text(train: Trainings, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "data")
    for kind in ("images", "labels"):
        for split in ("train", "val"):
            path = root / kind / split / "0.png"
            path.rename(path.with_name(os.fsdecode(b"\xff\xe9 x.png")))
    run = Path(os.fsdecode(os.fsencode(tmp_path) + b"/run\xff"))
    words = ["--dataset", "folder", "--data-root", root, "--arch", "tiny", "--crop-size", 32, 32,
             "--epochs", 1, "--workers", 0, "--class-weights", "enet", *WORDS]
    done = train(*words, "--run-dir", os.fsdecode(bytes(run)).encode(errors="surrogateescape")
                 .decode(errors="surrogateescape"))
    assert done.returncode == 0, done.stderr
    assert checkpoint.read(run / "last.pth")["complete"]
    assert b"run\xff" in (run / "command.txt").read_bytes()


def test_best_is_best_whatever_is_written(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    log = Log(tmp_path, total_steps=2, every=1)
    matrix = ConfusionMatrix(["road"])
    matrix.update(torch.zeros(1, 4, dtype=torch.uint8), torch.zeros(1, 4, dtype=torch.uint8))
    state = SimpleNamespace(best=-1.0, step=1)
    assert log.validation(state, matrix)
    assert (state.best, log.validated) == (1.0, 1)
