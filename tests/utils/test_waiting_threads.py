"""Threads sleep beside other programs and spin when alone: by their number, a rule of libgomp."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

from utils.processes import waiting_threads

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the rule is GNU OpenMP's")


def test_busy_seconds_are_those_of_the_cores_that_are_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All but idle and waiting for disks; not of guests, which stand in user already."""
    stat = tmp_path / "stat"
    stat.write_text("cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 100 20 3 5000 700 40 5 6 80 90\n"
                    "cpu1 1 0 0 0 0 0 0 0 0 0\ncpu10 7 0 0 0 0 0 0 0 0 0\nintr 1 2\n")
    monkeypatch.setattr(waiting_threads, "STAT", stat)
    ticks = os.sysconf("SC_CLK_TCK")
    assert waiting_threads._busy_seconds({0}) == pytest.approx(174 / ticks)
    assert waiting_threads._busy_seconds({1, 10}) == pytest.approx(8 / ticks)


def test_cores_are_lacking_when_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads on two cores, of which others keep 0.75 busy and this process 0.5."""
    times = iter([0.0, 4.0])
    busy, own = iter([10.0, 15.0]), iter([1.0, 3.0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(waiting_threads, "_busy_seconds", lambda _: next(busy))
    monkeypatch.setattr(waiting_threads.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(waiting_threads, "_own_seconds", lambda: next(own))
    looks = waiting_threads._lacking_cores(2, SimpleNamespace(wait=lambda _: False))
    assert next(looks) == pytest.approx(0.75)


@LINUX
def test_children_and_theirs_are_no_others(tmp_path: Path) -> None:
    """While they work and when they have ended; one has a name that is no text."""
    code = """
import ctypes, os, time
from utils.processes.waiting_threads import _own_seconds
def work(): # for 0.3 s of its own
    while time.process_time() < 0.3: pass
def fork(then):
    pid = os.fork()
    if not pid:
        ctypes.CDLL(None).prctl(15, b"\\xff) 1 (")
        then()
        os._exit(0)
    return pid
def through_a_child():
    os.waitpid(fork(lambda: (work(), time.sleep(0.5))), 0)
    time.sleep(9)
before = _own_seconds()
child, parent = fork(work), fork(through_a_child)
time.sleep(0.1)
end, seen = time.monotonic() + 60, []
while len(seen) < 3 and time.monotonic() < end:
    if _own_seconds() - before > 0.55: seen.append(_own_seconds() - before)
    if len(seen) == 1: os.waitpid(child, 0)
    time.sleep(0.4)
print(len(seen), seen[-1] >= seen[0], seen[-1] < 1.5)
os.kill(parent, 9)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.split() == ["3", "True", "True"], done.stderr


def test_a_crowd_comes_at_once_and_goes_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = [0.0, 0.3, 0.5, 0.9, *[0.1] * 5, 0.3, *[0.1] * 6, 0.1, 0.5]
    crowds: list[threading.Thread] = []
    states = []

    def lacking(*_: Any) -> Any:
        for look in looks:
            yield look
            states.append(bool(crowds) and crowds[-1].is_alive())

    def crowd(threads: int, leave: threading.Event) -> list[threading.Thread]:
        crowds.append(threading.Thread(target=leave.wait, args=(30,), name=f"of {threads}"))
        crowds[-1].start()
        return crowds[-1:]

    monkeypatch.setattr(waiting_threads, "_lacking_cores", lacking)
    monkeypatch.setattr(waiting_threads, "_crowd", crowd)
    monkeypatch.setattr(waiting_threads.signal, "pthread_sigmask", lambda *_: None)
    waiting_threads._watch(2, threading.Event())
    assert states == [False] * 2 + [True] * 13 + [False] * 2 + [True]
    assert [thread.name for thread in crowds] == ["of 2", "of 2"]
    assert not crowds[-1].is_alive(), "all are gone at the end"


def test_a_watch_that_cannot_look_ends_quietly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Threads that it has sleep no longer."""
    leaves = []

    def lacking(*_: Any) -> Any:
        yield 1.0
        raise OSError("too many open files")

    monkeypatch.setattr(waiting_threads, "_lacking_cores", lacking)
    monkeypatch.setattr(waiting_threads, "_crowd", lambda _, leave: leaves.append(leave) or [])
    monkeypatch.setattr(waiting_threads.signal, "pthread_sigmask", lambda *_: None)
    waiting_threads._watch(2, threading.Event())
    assert leaves[0].is_set()


@LINUX
@pytest.mark.parametrize("threads", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_a_crowd_is_more_threads_than_cores(threads: int, tmp_path: Path) -> None:
    """In a process of its own: OpenMP keeps the threads that it had."""
    code = f"""
import os, threading, time
import torch
from utils.processes import waiting_threads
os.sched_getaffinity = lambda _: set(range(8))
torch.set_num_threads({threads})
torch.ones(2**20).add_(1)
def tasks(): return len(os.listdir("/proc/self/task"))
def settle(reached):
    end = time.monotonic() + 30
    while not reached() and time.monotonic() < end: time.sleep(0.01)
before = tasks()
leave = threading.Event()
crowd = waiting_threads._crowd({threads}, leave)
settle(lambda: {threads} + (tasks() - before) * ({threads} - 1) // {threads} > 8)
print({threads} + (tasks() - before) * ({threads} - 1) // {threads} > 8)
waiting_threads._end(leave, crowd)
settle(lambda: tasks() == before)
print(tasks() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.stdout.split() == ["True", "0"], done.stderr


@LINUX
def test_who_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one thread alone, nor who has a setting of their own; once in a process."""
    end, started = threading.Event(), []
    monkeypatch.setattr(waiting_threads, "_watch", lambda n, _: (started.append(n), end.wait(30)))
    monkeypatch.setattr(waiting_threads, "WATCH", "cores of this test")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    monkeypatch.setattr(waiting_threads.atexit, "register", lambda *_: None)
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (("OMP_WAIT_POLICY", "active"), ("GOMP_SPINCOUNT", "77")):
        monkeypatch.setenv(name, value)
        assert not waiting_threads.sleep_beside_others(2)
        monkeypatch.delenv(name)
    assert not waiting_threads.sleep_beside_others(1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5, 7}, raising=False)
    assert not waiting_threads.sleep_beside_others(2), "two cores are left for others"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 5}, raising=False)
    assert waiting_threads.sleep_beside_others(2)
    assert waiting_threads.sleep_beside_others(3)
    end.set()
    for thread in threading.enumerate():
        if thread.name == "cores of this test":
            thread.join(30)
    assert started == [2]


@LINUX
def test_the_end_of_a_process_waits_for_the_threads(tmp_path: Path) -> None:
    """One that is in PyTorch while Python ends would take the process down."""
    code = """
import torch
from utils.processes import waiting_threads

def once(threads, end):
    yield 1.0
    print(end.wait(30))

waiting_threads._lacking_cores = once
waiting_threads.sleep_beside_others(2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
