"""Killed at any instant and resumed, a training is bit for bit the one that nobody disturbed.

A few kills by default, many with `-m slow`.
"""

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import few_or_many, forks
from trainings import ADAMW, KILL, SGD, Trainings, assert_same, at, step_of, wait_until_gone

from utils import checkpoint
from utils.training.run_folder import RunFolder

LARGER = ["--arch", "deeplabv3_resnet18", "--crop-size", 64, 64]  # is saved for longer
Draw = Callable[[random.Random], dict[str, Any]]  # how the next start is killed


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


def kill_and_resume(
    train: Trainings, kills: int, words: list, draw: Draw, folder: Path, ranks: int = 0,
    workers: int = 0,
) -> None:
    """Kills trainings until there were `kills`; each is resumed until it ends, and compared.

    What they are compared with has no `workers`, on which nothing depends.
    """
    seed = random.randrange(1 << 32)
    rng, seen, number, steps = random.Random(seed), 0, 0, []
    print("seed", seed)
    expected = train.undisturbed(*words, ranks=ranks)
    while seen < kills:
        number += 1
        run, code = folder / f"run{number}", 1
        while code:
            how = draw(rng) if seen < kills else {}
            done = train.go_on(run, *words, "--workers", workers, ranks=ranks, **how)
            code = done.returncode
            # A reader may say that who was to fetch its batch is gone.
            quiet = "Traceback" not in done.stderr or "resource_sharer.py" in done.stderr
            assert not code or how and quiet, done.stderr
            seen += code != 0
            wait_until_gone(done.pid)
            found = {name: step_of(run / name) for name in ("best.pth", "last.pth")
                     if (run / name).exists()}  # and is whole
            steps.append(found.get("last.pth", 0))
        assert_same(run, expected)
    print(f"{seen} kills in {number} trainings, after steps {steps}")


SAVES = """
import sys
import torch
from utils.training.run_folder import RunFolder
folder, weights = RunFolder(sys.argv[1], resume=True), torch.zeros(1_000_000)
for step in range(int(sys.argv[2]), 10**6):
    content = {"weights": {"a": weights.fill_(step)}, "step": step}
    folder.save(content)
    folder.save_best(content)
"""


@pytest.mark.parametrize("kills", few_or_many(3, 60))
def test_kills_of_what_does_nothing_but_save(kills: int, tmp_path: Path) -> None:
    """Of files that take a while to be written."""
    (tmp_path / "saves.py").write_text(SAVES)
    rng, run, step, seen, seconds = random.Random(0), tmp_path / "run", 0, 0, 0.4
    while seen < kills:
        before = step
        forks()(tmp_path / "saves.py", run, step + 1, kill_after=rng.uniform(0.1, 1) * seconds)
        for name in ("last.prev.pth", "best.pth", "last.pth"):
            if (run / name).exists():
                content = checkpoint.read(run / name)
                assert (content["weights"]["a"] == content["step"]).all()
                assert name != "last.pth" or content["step"] >= before
                step = max(step, content["step"])
        seen += step > before
        seconds *= 1 if step > before else 2  # a slow machine
    RunFolder(run, resume=True).lock.release()
    assert not list(run.glob("*.part"))


@pytest.mark.parametrize("kills", few_or_many(2, 60))
def test_kills_while_saving(kills: int, train: Trainings, tmp_path: Path) -> None:
    content = checkpoint.read(train.undisturbed(*ADAMW) / "last.pth")
    before = time.perf_counter()
    checkpoint.write(tmp_path / "x.pth", content)
    seconds = time.perf_counter() - before

    def draw(rng: random.Random) -> dict[str, Any]:
        call = rng.choice(("train.Run.save", "train.Run.save", "train.Run.save_best"))
        return {"faults": [{"call": call, "n": rng.randint(1, 3),
                            "alarm": rng.uniform(0, 1.5 * seconds)}]}

    kill_and_resume(train, kills, ADAMW, draw, tmp_path)


@pytest.mark.parametrize("kills", few_or_many(1, 50))
@pytest.mark.parametrize("workers", [0, 2])
def test_kills_at_random(kills: int, workers: int, train: Trainings, tmp_path: Path) -> None:
    seconds = train.seconds[train.undisturbed(*ADAMW)]

    def draw(rng: random.Random) -> dict[str, Any]:
        return {"kill_after": rng.uniform(0, seconds)}

    kill_and_resume(train, kills, ADAMW, draw, tmp_path, workers=workers)


@pytest.mark.parametrize("kills", few_or_many(1, 20))
def test_kills_on_two_ranks(kills: int, train: Trainings, tmp_path: Path) -> None:
    """Of a rank or of their launcher, which the others have to notice."""
    words = [*ADAMW, "--accumulate", 1, "--patience", 15]
    whole = train.seconds[train.undisturbed(*words, ranks=2)]

    def draw(rng: random.Random) -> dict[str, Any]:
        seconds, victim = rng.uniform(0, whole), rng.choice(("launcher", 0, 1))
        if victim == "launcher":
            return {"kill_after": seconds}
        return {"faults": [{"call": "train.main", "n": 1, "alarm": seconds, "rank": victim}]}

    kill_and_resume(train, kills, words, draw, tmp_path, ranks=2)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_kills_of_a_larger_network(workers: int, train: Trainings, tmp_path: Path) -> None:
    words = [*SGD, *LARGER]
    seconds = train.seconds[train.undisturbed(*words)]

    def draw(rng: random.Random) -> dict[str, Any]:
        return {"kill_after": rng.uniform(0, seconds)}

    kill_and_resume(train, 20, words, draw, tmp_path, workers=workers)


@pytest.mark.slow
@pytest.mark.parametrize("call", ["os.fsync", "os.replace", "os.link"])
def test_kill_at_every_write(call: str, train: Trainings, tmp_path: Path) -> None:
    for n in range(1, 20):
        run = tmp_path / str(n)
        done = train.start(run, *ADAMW, faults=[at(call, n)])
        if done.returncode == 0:
            break
        assert done.returncode == -KILL
        assert train.go_on(run, *ADAMW).returncode == 0
        assert_same(run, train.undisturbed(*ADAMW))
    assert n > 3
