"""A training on disk: folder and lock, checkpoints with a spare, command line, log."""

import argparse
import contextlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from utils import checkpoint, distributed
from utils.files import sweep
from utils.locks import Lock
from utils.stopping import Stopped
from utils.training.log import Log
from utils.training.optimization import Settings, TrainingState

LAST, SPARE, BEST = "last.pth", "last.prev.pth", "best.pth"
BEST_KEYS = ("format", "model", "dataset", "weights", "step", "best", "args", "eval_size")


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
            raise ValueError(f"{self.path}: holds the checkpoints of a training; continue it with "
                             f"--resume {path}, or choose another --run-dir")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            sweep(self.path)
            with (self.path / "command.txt").open("a", encoding="utf-8") as file:
                file.write(shlex.join([Path(sys.executable).name, *sys.argv]) + "\n")
        except OSError as error:
            raise OSError(error.errno, f"{self.path}: cannot be written ({error.strerror}); choose "
                          "another --run-dir") from None

    def _lock(self) -> None:
        """Two trainings in one folder would mix their checkpoints."""
        self.lock = Lock(self.path / ".lock")
        if owner := self.lock.take():
            raise ValueError(f"{self.path}: in use by {owner}")

    def save(self, content: dict[str, Any]) -> None:
        """Writes last.pth; the one before stays as last.prev.pth.

        Only a file that this process wrote becomes the spare: one found here may be damaged, and
        the spare what was resumed from.
        """
        if not self.main:
            return
        path, spare = self.path / LAST, self.path / SPARE
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
            raise ValueError(f"--resume: {key} was {then[key]} and is {now[key]}, which is another "
                             "training; start one with --init, or leave the option out")
    digits = "last digits may differ"
    effects = {"world": "batch statistics and dropout differ", "threads": digits, "torch": digits}
    for key, effect in effects.items():
        if then[key] != now[key]:
            distributed.say(f"note: {key} was {then[key]}, is {now[key]}: {effect}")


class Run:
    """What surrounds the steps of a training: it goes on where the last checkpoint is, says what
    it does, and saves what it is.

    Args:
        args: `run_dir`, `arch`, `seed`, `batch_size` and `log_every`; checkpoints keep them all.
        last: checkpoint of the training that goes on, None for a new one.
        state: becomes that of `last`.
        this: `optimizer`, `steps` and `samples`, which have to be those of `last`.
        about: `model` and `dataset` of the checkpoints.

    Raises:
        ValueError: another training than that of `last`, or a folder that is in use.
    """

    def __init__(
        self, args: argparse.Namespace, last: dict[str, Any] | None, state: TrainingState,
        this: dict[str, Any], about: dict[str, Any],
    ) -> None:
        self.state, self.steps, self.complete = state, this["steps"], False
        options = {key: x for key, x in vars(args).items() if key not in ("resume", "debug")}
        seen = options.get("eval_size")
        self.constant = {
            "format": checkpoint.FORMAT, **about, "args": json.dumps(options),
            **({"eval_size": max(seen)} if seen else {}), "run": {
                "arch": args.arch, "seed": args.seed, "batch": args.batch_size, **this,
                "world": distributed.world(), "threads": torch.get_num_threads(),
                "torch": str(torch.__version__)}}
        if last:
            check_same_training(last["run"], self.constant["run"])
            state.load_state_dict(last)
            self.complete = last["complete"]
        if self.complete:
            distributed.say(f"{args.run_dir}: already complete, step {state.step} of {self.steps}")
            return
        name = f"{args.arch.replace(':', '-')}-{about['dataset']['name']}"
        path = args.run_dir or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        main = distributed.rank() == 0
        self.folder = RunFolder(path, resume=bool(last), main=main)
        self.log = Log(self.folder.path, self.steps, state.step, args.batch_size, args.log_every,
                       main)
        self.log.losses = last["losses"] if last else []

    @contextlib.contextmanager
    def until_stopped(self, what: str, settings: Settings) -> Iterator[None]:
        """Around the steps: when they are stopped, the folder gets what the training is then.

        However they end, the log is closed, and this process leaves the others.

        Args:
            what: is trained on, to be said first.
            settings: of the steps.
        """
        self.log.line(f"{what}, step {self.state.step} of {self.steps}, {settings.precision} on "
                      f"{settings.device}: {self.folder.path}")
        try:
            yield
        except Stopped as stopped:
            self.save()
            self.log.line(f"{stopped}: saved at step {self.state.step}; go on with --resume "
                          f"{self.folder.path}")
            raise
        finally:
            self.log.close()
            distributed.stop()

    def save(self, complete: bool = False) -> None:
        """Writes last.pth; nothing is left to do when it is `complete`."""
        self.complete = complete
        self.folder.save(self._content())

    def save_best(self) -> None:
        """Writes best.pth."""
        self.folder.save_best(self._content())

    def _content(self) -> dict[str, Any]:
        return {**self.constant, "losses": self.log.losses, "complete": self.complete,
                **self.state.state_dict()}
