"""The folder of a training: lock, checkpoints with a spare, command line."""

import contextlib
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from utils import checkpoint, distributed
from utils.disk import sweep, try_lock
from utils.log import Log
from utils.optimization import TrainingState
from utils.signals import Stopped

LAST, SPARE, BEST = "last.pth", "last.prev.pth", "best.pth"
BEST_KEYS = ("format", "model", "dataset", "weights", "step", "best", "args")


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
        self.saved = False
        if not main:
            return
        if not resume and any((self.path / name).exists() for name in (LAST, SPARE, BEST)):
            raise ValueError(
                f"{self.path}: holds the checkpoints of a training; continue it with --resume "
                f"{path}, or choose another --run-dir"
            )
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            sweep(self.path)
            with (self.path / "command.txt").open("a", encoding="utf-8") as file:
                file.write(shlex.join([Path(sys.executable).name, *sys.argv]) + "\n")
        except OSError as error:
            raise OSError(
                error.errno,
                f"{self.path}: cannot be written ({error.strerror}); choose another --run-dir",
            ) from None

    def _lock(self) -> None:
        """Two trainings in one folder would mix their checkpoints."""
        self.lock = (self.path / ".lock").open("a+")
        locked = try_lock(self.lock)
        if locked is False:
            self.lock.seek(0)
            raise ValueError(
                f"{self.path}: in use by {self.lock.read().strip() or 'another process'}"
            )
        if locked:
            self.lock.truncate(0)
            self.lock.write(f"process {os.getpid()} on {socket.gethostname()}")
            self.lock.flush()

    def save(self, content: dict[str, Any]) -> None:
        """Writes last.pth; the one before stays as last.prev.pth.

        Only a file that this process wrote becomes the spare: one found here may be damaged, and
        the spare what was resumed from.
        """
        if not self.main:
            return
        path = self.path / LAST
        spare = self.path / SPARE
        if self.saved:
            # A second name first: at no instant is there no last.pth.
            with contextlib.suppress(OSError):  # some file systems have no second names
                spare.unlink(missing_ok=True)
                os.link(path, spare)
        checkpoint.write(path, content)
        self.saved = True

    def save_best(self, content: dict[str, Any]) -> None:
        """Writes best.pth: the network, without what only a training needs."""
        if self.main:
            kept = {key: value for key, value in content.items() if key in BEST_KEYS}
            checkpoint.write(self.path / BEST, kept)


@contextlib.contextmanager
def until_stopped(
    folder: RunFolder, content: Callable[[], dict[str, Any]], log: Log
) -> Iterator[None]:
    """Around the steps of a training: when it is stopped, the folder gets its content of then.

    However they end, the log is closed, and this process leaves the others.
    """
    try:
        yield
    except Stopped as stopped:
        last = content()
        folder.save(last)
        log.line(f"{stopped}: saved at step {last['step']}; go on with --resume {folder.path}")
        raise
    finally:
        log.close()
        distributed.stop()


def read_last(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of a training that is whole; a damaged one stays and is named.

    Raises:
        FileNotFoundError: there is none.
        ValueError: neither it nor its spare can be read.
    """
    names = [name for name in (LAST, SPARE) if (folder / name).exists()]
    if not names:
        raise FileNotFoundError(f"{folder}: no {LAST} to resume from")
    for name in names:
        try:
            content = checkpoint.read(folder / name)
            break
        except ValueError as error:
            if name == names[-1]:
                raise
            print(f"warning: {error}; {SPARE} is used", file=sys.stderr)
    if "run" not in content:
        raise ValueError(f"{folder / name}: not written by a training; use it with --init")
    return content


def check_same_training(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses to continue with what would be another training; says what changes last digits.

    Raises:
        ValueError: network, optimizer, seed, batch, steps or list of images differ.
    """
    for key in ("arch", "optimizer", "seed", "batch", "steps", "samples"):
        if then[key] != now[key]:
            raise ValueError(
                f"--resume: {key} was {then[key]} and is {now[key]}, which is another training; "
                "start one with --init, or leave the option out"
            )
    for key, effect in (
        ("world", "batch statistics and dropout differ"),
        ("threads", "last digits may differ"),
        ("torch", "last digits may differ"),
    ):
        if then[key] != now[key]:
            distributed.say(f"note: {key} was {then[key]}, is {now[key]}: {effect}")


def restore(state: TrainingState, last: dict[str, Any], this: dict[str, Any]) -> bool:
    """Puts a training back where its last checkpoint is; True when nothing is left to do."""
    check_same_training(last["run"], this)
    state.load_state_dict(last)
    return last["complete"]
