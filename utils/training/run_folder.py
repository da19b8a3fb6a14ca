"""A training on disk: folder and lock, checkpoints with a spare, command line, log."""

import argparse
import contextlib
import errno
import json
import os
import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from torch import nn

from utils import checkpoint, distributed
from utils.files import check_room, open_own, replacing, shown, sweep
from utils.locks import Lock
from utils.precision import processor
from utils.stopping import MEMORY, Stopped
from utils.training.log import Log
from utils.training.optimization import Settings, TrainingState

LAST, SPARE, BEST = "last.pth", "last.prev.pth", "best.pth"
LAUNCH = ".launch"  # the launcher that a folder was begun by
BEST_KEYS = ("format", "model", "dataset", "weights", "step", "best", "args", "eval_size")
LONG = 60.0  # seconds before the first step that are worth a line


class RunFolder:
    """Made and locked by the main rank; other ranks only read. `resume` continues what is in it.

    Raises ValueError: it holds checkpoints and `resume` is off, or is in use; OSError: unwritable.
    """

    def __init__(self, path: str | Path, resume: bool, main: bool = True) -> None:
        self.path, self.main, self.saved = Path(path).resolve(), main, False
        if not main:
            return
        if not resume and any((self.path / name).exists() for name in (LAST, SPARE, BEST)):
            raise ValueError(f"{self.path}: holds the checkpoints of a training; continue it with "
                             f"--resume {path}, or choose another --run-dir")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.lock = Lock(self.path / ".lock")
            if owner := self.lock.take():  # two trainings would mix their checkpoints
                raise ValueError(f"{self.path}: in use by {owner}")
            sweep(self.path)
            with open_own(self.path / "command.txt", "ab") as file:
                command = shlex.join([Path(sys.executable).name, *sys.argv])
                file.write(os.fsencode(command) + b"\n")
            with replacing(self.path / LAUNCH, durable=False) as part:
                part.write_text(os.environ.get("TORCHELASTIC_RUN_ID", ""))
        except OSError as error:
            where = shown(error.filename or self.path)
            raise OSError(error.errno, f"{where}: cannot be written ({error.strerror}); choose "
                          "another --run-dir") from None
        if resume:  # of a new training the rehearsal looks
            check_room(self.path, max([0, *(p.stat().st_size for p in self.path.glob("last*"))]))

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
            checkpoint.write(self.path / BEST, {k: content[k] for k in content if k in BEST_KEYS})


def restarted(folder: Path) -> bool:
    """Whether the launcher of this process began the training in a folder, and starts it anew.

    It tells how often it has done so, but not of the times that another host was the reason.
    """
    if not any((folder / name).exists() for name in (LAST, SPARE)):
        return False
    launch, begun = os.environ.get("TORCHELASTIC_RUN_ID", "none"), ""
    with contextlib.suppress(OSError, ValueError):
        begun = (folder / LAUNCH).read_text()
    again = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    return again or begun == launch != "none"


def read_last(folder: Path) -> dict[str, Any]:
    """The newest checkpoint of a training that is whole; a damaged one stays and is named.

    Raises FileNotFoundError, or ValueError: neither it nor its spare can be read.
    """
    names = [name for name in (LAST, SPARE) if (folder / name).exists()]
    if not names:
        raise FileNotFoundError(f"{folder}: no {LAST} to resume from")
    for name in names:
        try:
            content = checkpoint.read(folder / name)
            checkpoint.check_weights(content, folder / name)
            for key in ("weights", "raw_weights"):
                checkpoint.check_finite(content.get(key) or {}, folder / name)
            break
        except ValueError as error:
            if name == names[-1]:
                raise
            print(f"warning: {error}; {SPARE} is used", file=sys.stderr)
    if "run" not in content:
        raise ValueError(f"{folder / name}: not written by a training; use it with --init")
    return content


def check_same_training(then: dict[str, Any], now: dict[str, Any], longer: bool = False) -> None:
    """Refuses to continue with what would be another training; says what changes last digits.

    Args:
        then, now: `run` of the checkpoint, in older ones without some keys, and of this training.
        longer: more steps than then are wanted.

    Raises ValueError: network, optimizer, seed, batch, steps or list of images differ.
    """
    for key in ("arch", "optimizer", "seed", "batch", "samples", "steps"):
        if then[key] == now[key] or key == "steps" and longer and then[key] < now[key]:
            continue
        raise ValueError(f"--resume: {key} was {then[key]} and is {now[key]}, which is another "
                         "training; start one with --init, or leave the option out"
                         + (", or give --extend: the learning-rate course is then a new one"
                            if key == "steps" and then[key] < now[key] else ""))
    digits = "last digits may differ"
    effects = {"world": "batch statistics and dropout differ", "threads": digits, "torch": digits,
               "precision": "the arithmetic differs", "processor": digits,
               "val": "the best so far was scored on other images"}
    for key, effect in effects.items():
        if then.get(key, now.get(key)) != now.get(key):
            distributed.say(f"note: {key} was {then[key]}, is {now[key]}: {effect}")


def check_same_classes(then: dict[str, Any], now: dict[str, Any]) -> None:
    """Refuses other or moved classes than a checkpoint's `dataset` has, or images read otherwise.

    Raises ValueError with the first that differs.
    """
    for key, what in (("class_map", "--class-map"), ("exif", "--exif"),
                      ("bits", "the number of bits in 16-bit images")):
        was, is_ = (shown(str(each.get(key)))[:100] for each in (then, now))
        if then.get(key) != now.get(key):
            raise ValueError(f"--resume: {what} was another one ({was}, now {is_}); leave it as it "
                             "was, or start another training with --init")
    tables = [[f"{name} (id {number})" for name, number in
               zip(each.get("class_names", ()), each.get("train_id_to_id", ()), strict=False)]
              for each in (then, now)]
    if tables[0] == tables[1]:  # by their colors, labels may be other classes
        tables = [[f"color {color}" for color in each.get("palette", ())] for each in (then, now)]
    for number, (was, is_) in enumerate(zip_longest(*tables, fillvalue="none")):
        if was != is_:
            raise ValueError(f"--resume: class {number} was {was} and is {is_}; put the classes "
                             "back as they were, or start another training with --init")


class Run:
    """What surrounds the steps of a training: it goes on from a checkpoint, reports, and saves.

    Args:
        args: `run_dir`, `arch`, `seed`, `batch_size`, `log_every`, `precision`, `schedule` and
            `extend`; checkpoints keep them all.
        last: checkpoint of the training that goes on, None for a new one.
        state: becomes that of `last`.
        this: `optimizer`, `steps` and `samples`, which have to be those of `last`; perhaps `val`.
        about: `model` and `dataset` of the checkpoints.

    Raises ValueError: another training than that of `last`, or a folder that is in use.
    """

    def __init__(
        self, args: argparse.Namespace, last: dict[str, Any] | None, state: TrainingState,
        this: dict[str, Any], about: dict[str, Any],
    ) -> None:
        self.state, self.steps, self.complete = state, this["steps"], False
        crop = " ".join(map(str, args.crop_size))
        self.sizes = f"it was --batch-size {args.batch_size} of --crop-size {crop}"
        options = {key: x for key, x in vars(args).items()
                   if key not in ("resume", "debug", "extend")}
        seen = options.get("eval_size")
        self.constant = {
            "format": checkpoint.FORMAT, **about, "args": json.dumps(options),
            **({"eval_size": max(seen)} if seen else {}), "run": {
                "arch": args.arch, "seed": args.seed, "batch": args.batch_size, **this,
                "world": distributed.world(), "threads": torch.get_num_threads(),
                "torch": str(torch.__version__), "precision": args.precision,
                "processor": processor(next(state.network.parameters()).device)}}
        if last:
            self._go_on(last, args)
        if self.complete:
            distributed.say(f"{args.run_dir}: already complete, step {state.step} of {self.steps}")
            return
        name = f"{args.arch.replace(':', '-')}-{about['dataset']['name']}"
        path = args.run_dir or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        main = distributed.rank() == 0
        self.folder = RunFolder(path, resume=bool(last), main=main)
        self.log = Log(self.folder.path, self.steps, state.step, args.batch_size, args.log_every,
                       main, last.get("validated", last["step"]) if last else 0)
        self.log.losses = last["losses"] if last else []

    def _go_on(self, last: dict[str, Any], args: argparse.Namespace) -> None:
        """Makes the state that of `last`, if it is of this training and the same on all ranks."""
        check_same_classes(last["dataset"], self.constant["dataset"])
        then, now = last["run"], self.constant["run"]
        constant = args.schedule == "constant"
        check_same_training(then, now, args.extend or constant)
        distributed.agree("checkpoints to resume from", {"step": last["step"], "state":
                          checkpoint.fingerprint(last)}, ValueError,
                          "copy the newest run folder to every host, or share it")
        self.state.load_state_dict(last)
        self.complete = last["complete"]
        if then["steps"] != now["steps"]:
            self.complete = False
            distributed.say(f"note: steps were {then['steps']}, are {now['steps']}"
                            + ("" if constant else ": the learning-rate course is a new one"))

    def rehearse(self, attempt: Callable[[nn.Module], None]) -> None:
        """Has a step, a validation and a save fail now if they would fail after days.

        `attempt` gets a copy of the network for one forward, backward and validation; the training
        stays as it is: weights, batch statistics and all random streams.
        """
        begun = time.monotonic()
        network = distributed.unwrap(self.state.network)
        device = next(network.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            attempt(deepcopy(network))
        if device.type == "cuda":
            torch.cuda.empty_cache()
        self.try_to_save()
        if (took := time.monotonic() - begun) > LONG:
            distributed.say(f"note: to try one step, one validation and one save took {took:.0f} s")

    @contextlib.contextmanager
    def until_stopped(self, what: str, settings: Settings) -> Iterator[None]:
        """Around the steps: when they are stopped, the folder gets what the training is then.

        However they end, the log is closed. `what` is trained on is said first.
        """
        self.log.line(f"{what}, step {self.state.step} of {self.steps}, {settings.precision} on "
                      f"{settings.device}: {self.folder.path}")
        go_on = f"go on with --resume {shown(self.folder.path)}"
        try:
            yield
            distributed.stop()
        except Stopped as stopped:
            self.save()
            self.log.line(f"{stopped}: saved at step {self.state.step}; {go_on}")
            distributed.stop()
            raise
        except Exception as error:  # the process leaves the others when it has said why
            if MEMORY.search(repr(error)):
                error.add_note(self.sizes)
            if (self.folder.path / LAST).exists():
                error.add_note(go_on)
            raise
        finally:
            self.log.close()

    def save(self, complete: bool = False) -> None:
        """Writes last.pth; `complete`: nothing is left to do. RuntimeError if the ranks differ."""
        if distributed.world() > 1:
            named = distributed.unwrap(self.state.network).named_parameters()
            distributed.agree(f"weights at step {self.state.step}",
                              {name: checkpoint.fingerprint(tensor) for name, tensor in named},
                              RuntimeError, "memory, driver or network of one of them is at fault; "
                              f"not saved, {self.folder.path} has earlier checkpoints")
        self.complete = complete
        self.folder.save(self._content())

    def save_best(self) -> None:
        """Writes best.pth."""
        self.folder.save_best(self._content())

    def try_to_save(self) -> None:
        """Writes a checkpoint, reads it, removes it; looks whether there is room for all to come.

        Raises OSError or ValueError: no room, or the disk gives back something else.
        """
        if not self.folder.main:
            return
        path = self.folder.path / f".trial-{secrets.token_hex(8)}.part"  # as `sweep` knows them
        content = self._content()
        try:
            checkpoint.write(path, content)
            if checkpoint.fingerprint(checkpoint.read(path)) != checkpoint.fingerprint(content):
                raise OSError(errno.EIO, f"{shown(self.folder.path)}: a checkpoint reads as "
                              "something else than was written; a failing disk?")
            size = path.stat().st_size
        finally:
            path.unlink(missing_ok=True)
        moments = 2 if "betas" in self.state.optimizer.defaults else 1
        weights = sum(each.nbytes for each in distributed.unwrap(self.state.network).parameters())
        # last.pth, its spare, the next one while it is written, and best.pth
        check_room(self.folder.path, 3 * (size + moments * weights) + size)

    def _content(self) -> dict[str, Any]:
        return {**self.constant, "losses": self.log.losses, "complete": self.complete,
                "validated": self.log.validated, **self.state.state_dict()}
