"""Processes that read for a training."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import torch

from utils import processes, workers
from utils.options.data import add_data
from utils.options.parser import Parser
from utils.workers import Loader

CPU = torch.device("cpu")


hear = workers._init_worker


def hear_after(number: int, *given: Any) -> None:
    os.kill(os.getpid(), number)
    hear(*given)


def hear_before_two(number: int, *given: Any) -> None:
    hear(*given)
    for _ in range(2):
        os.kill(os.getpid(), number)


@pytest.fixture(params=[
    pytest.param(method, marks=pytest.mark.slow) if method == "spawn" else method
    for method in multiprocessing.get_all_start_methods()])
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    before = multiprocessing.get_start_method()
    forkserver._forkserver._stop()  # one that runs already knows nothing of what is held
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.parametrize("number", [
    signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_while_workers_start(
    number: int, start_method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They finish what they read: the signal was for the training, which then stops by itself."""
    monkeypatch.setattr(workers, "_init_worker", partial(hear_after, number))
    assert list(Loader(range(4), 2, CPU, batch_size=None)) == [0, 1, 2, 3]


def test_a_second_signal_ends_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_init_worker", partial(hear_before_two, signal.SIGTERM))
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(Loader(range(4), 1, CPU, batch_size=None))


def test_signals_are_heard_again(monkeypatch: pytest.MonkeyPatch) -> None:
    iter(Loader(range(4), 1, CPU, batch_size=None))
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & workers.STOP


def test_random_numbers_are_not_drawn() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(Loader(range(4), 1, CPU, batch_size=None))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("given", "quota", "expected"), [
    (1, None, 1), (2, "max 100000", 2), (64, None, 4), (64, "200000 100000", 2),
    (64, "150000 100000", 2), (64, "50000 100000", 1), (2, "6400000 100000", 2), (2, "", 2),
])
def test_readers_have_cores(
    given: int, quota: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a machine's cores a scheduler or a container gives some; PyTorch warns of more readers."""
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(processes, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(given)), raising=False)
    parser = Parser(None)
    add_data(parser, ["folder"], None, None)
    assert parser.parse_args([]).workers == expected
