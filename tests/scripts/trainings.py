"""Trainings as forks of one process, and what two of them must have in common."""

import json
import signal
import time
from pathlib import Path
from typing import Any

import torch
from conftest import Done, draw_cityscapes, forks

from utils import checkpoint

KILL = signal.SIGKILL
ADAMW = ["--optimizer", "adamw", "--lr", 0.03, "--ema", 0.9, "--batch-size", 4, "--accumulate", 2,
         "--class-weights", "enet", "--precision", "bf16"]
SGD = ["--optimizer", "sgd", "--batch-size", 2, "--precision", "fp32", "--log-every", 3]


class Trainings:
    """Short trainings on drawn data, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        draw_cityscapes(folder / "data", train=9, val=3, size=(48, 80))
        self.base = ["--dataset", "cityscapes", "--data-root", folder / "data", "--arch", "tiny",
                     "--crop-size", 32, 48, "--epochs", 2, "--save-every", 1, "--log-every", 1,
                     "--workers", 0, "--threads", 1, "--precision", "fp32"]
        self.folder, self.whole = folder, dict[tuple, Path]()
        self.seconds: dict[Path, float] = {}  # that the undisturbed ones took

    def __call__(self, *words: object, **options: Any) -> Done:
        return forks()("train.py", *words, **options)

    def start(self, run: Path, *words: object, **options: Any) -> Done:
        return self(*self.base, "--run-dir", run, *words, **options)

    def go_on(self, run: Path, *words: object, **options: Any) -> Done:
        """As a cluster's script does: resumes when there is something to resume."""
        if any((run / name).exists() for name in ("last.pth", "last.prev.pth")):
            return self("--resume", run, **options)
        return self.start(run, *words, **options)

    def undisturbed(self, *words: object, ranks: int = 0) -> Path:
        """The folder of that training, from its start to its end."""
        key = (*map(str, words), ranks)
        if key not in self.whole:
            self.whole[key] = self.folder / f"undisturbed{len(self.whole)}"
            done = self.start(self.whole[key], *words, ranks=ranks)
            assert done.returncode == 0, done.stderr
            self.seconds[self.whole[key]] = done.seconds
        return self.whole[key]


def flatten(value: Any, name: str = "") -> dict[str, Any]:
    """Every tensor and number of a nested content, under its path."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, item in items for k, v in flatten(item, f"{name}/{key}").items()}
    return {name: value}


def content(path: Path) -> dict[str, Any]:
    """What must be equal after a resume: all but the folder, how often it saves, who reads."""
    content = checkpoint.read(path)
    content["args"] = {**json.loads(content["args"]), "run_dir": None, "save_every": None,
                       "workers": None}
    return {
        name: value.contiguous().numpy().tobytes() if isinstance(value, torch.Tensor) else value
        for name, value in flatten(content).items()
    }


def records(run: Path) -> list[dict[str, Any]]:
    """log.jsonl without the timing, floats exactly."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [
        {key: value.hex() if isinstance(value, float) else value
         for key, value in flatten(line).items() if key != "/images_per_second"}
        for line in lines
    ]


def assert_same(run: Path, expected: Path) -> None:
    for name in ("last.pth", "best.pth"):
        got, wanted = content(run / name), content(expected / name)
        assert got.keys() == wanted.keys()
        assert [key for key in wanted if got[key] != wanted[key]] == [], name
    assert records(run) == records(expected)
    assert not list(run.glob(".*.part"))


def step_of(path: Path) -> int:
    return checkpoint.read(path)["step"]


def at(call: str, n: int = 1, *signals: int, **options: Any) -> dict[str, Any]:
    return {"call": call, "n": n, "signals": signals or (KILL,), **options}


def wait_until_gone(group: int = -1, argument: str = "", patience: float = 120) -> None:
    """Waits for the end of all processes of a group, or that have a command-line argument."""
    end = time.monotonic() + patience
    while True:
        alive = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_text(errors="replace").split("\0")
                stat = (process / "stat").read_text(errors="replace")
                state, _, its_group = stat.rpartition(")")[2].split()[:3]
            except OSError:  # gone meanwhile
                continue
            if state not in "ZX" and (int(its_group) == group or argument and argument in words):
                alive.append(process.name)
        if not alive:
            return
        assert time.monotonic() < end, f"still alive: {alive}"
        time.sleep(0.2)
