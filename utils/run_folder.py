"""The folder of a training: lock, checkpoints with a spare, command line."""

import contextlib
import fcntl
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

from utils import checkpoint, distributed

LAST, SPARE, BEST = "last.pth", "last.prev.pth", "best.pth"


class RunFolder:
    """Made and locked by the main rank; other ranks only read.

    Args:
        path: of the folder.
        resume: continue what is in it.
        main: this is the main rank.

    Raises:
        ValueError: it holds checkpoints and `resume` is off, or another process writes there.
        OSError: it cannot be written.
    """

    def __init__(self, path: str | Path, resume: bool, main: bool = True) -> None:
        self.path = Path(path).resolve()
        self.main = main
        if not main:
            return
        if not resume and any((self.path / name).exists() for name in (LAST, SPARE, BEST)):
            raise ValueError(
                f"{self.path}: holds the checkpoints of a training; continue it with --resume "
                f"{path}, or choose another --run-dir"
            )
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock()
        for rest in self.path.glob(".*.tmp-*"):  # of a process killed while writing
            rest.unlink()
        with (self.path / "command.txt").open("a", encoding="utf-8") as file:
            file.write(shlex.join([Path(sys.executable).name, *sys.argv]) + "\n")

    def _lock(self) -> None:
        """Two trainings in one folder would mix their checkpoints."""
        self.lock = (self.path / ".lock").open("a+")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.seek(0)
            raise ValueError(
                f"{self.path}: in use by {self.lock.read().strip() or 'another process'}"
            ) from None
        except OSError:  # some network file systems have no locks
            return
        self.lock.truncate(0)
        self.lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        self.lock.flush()

    def save(self, content: dict[str, Any]) -> None:
        """Writes last.pth; the one before stays as last.prev.pth."""
        if not self.main:
            return
        path = self.path / LAST
        spare = self.path / SPARE
        if path.exists():
            # A second name first: at no instant is there no last.pth.
            with contextlib.suppress(FileNotFoundError):
                spare.unlink()
            os.link(path, spare)
        checkpoint.write(path, content)

    def save_best(self, content: dict[str, Any]) -> None:
        """Writes best.pth."""
        if self.main:
            checkpoint.write(self.path / BEST, content)


def read_last(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of a training that is whole; a damaged one stays and is named.

    Raises:
        FileNotFoundError: there is none.
        ValueError: neither it nor its spare can be read.
    """
    fault: Exception = FileNotFoundError(f"{folder}: no {LAST} to resume from")
    for name in (LAST, SPARE):
        if not (folder / name).exists():
            continue
        try:
            return checkpoint.read(folder / name)
        except ValueError as error:
            fault = error
            print(f"warning: {error}", file=sys.stderr)
    raise fault


def check_same_training(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to continue with what would be another training; says what changes last digits.

    Raises:
        ValueError: seed, batch, steps or list of images differ.
    """
    for key in ("seed", "batch", "steps", "samples"):
        if then[key] != now[key]:
            raise ValueError(
                f"--resume: {key} was {then[key]} and is {now[key]}, which is another training; "
                "start one with --init, or leave the option out"
            )
    for key in ("world", "threads", "torch"):
        if then[key] != now[key]:
            distributed.say(f"note: {key} was {then[key]}, is {now[key]}: last digits may differ")
