"""OpenMP threads that wait: they spin on a quiet machine, and sleep beside other programs.

GNU OpenMP, which computes PyTorch's operations on Linux, lets a thread spin for milliseconds before
it sleeps. On a quiet machine that is right: with threads that sleep at once, a training of many
short operations loses a quarter of its speed. With one other busy process it is wrong: the thread
that spins holds the core that the thread it waits for would need, and the speed falls to a third
and less. The choice is made when the library is loaded, but for one rule (libgomp's manual,
GOMP_SPINCOUNT): when a process has more OpenMP threads than cores, they hardly spin. So a process
that sees others at work starts a thread whose team of threads just sleeps, and ends it when the
cores are free again. What is computed does not change. A user's own OMP_WAIT_POLICY or
GOMP_SPINCOUNT stands. Others are what /proc/stat counts, in a container all of its host, without
this process's children and theirs: its loaders work a little all the time, and the threads that
spin lose less to them than they would by sleeping.
"""

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

STAT = Path("/proc/stat")
PERIOD = 0.5  # seconds between two looks
TAKEN, FREE = 0.4, 0.2  # cores lacking: from the one on threads sleep, below the other they spin
QUIET_LOOKS = 6  # that free the cores again
WATCH = "cores"  # name of the thread


def sleep_beside_others(threads: int) -> bool:
    """Watches the cores from now on, for a process that computes with so many threads.

    Returns whether they are watched: on Linux, with several threads, of which others may need the
    cores, and no setting of the user's own.
    """
    own = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys()
    if (own or threads < 2 or not STAT.exists()
            or 2 * threads <= len(os.sched_getaffinity(0))):
        return False
    if not any(thread.name == WATCH for thread in threading.enumerate()):
        end = threading.Event()
        watch = threading.Thread(target=_watch, args=(threads, end), name=WATCH, daemon=True)
        watch.start()
        # A thread that is in PyTorch while Python ends would take the process down with an error.
        atexit.register(_end, end, [watch])
    return True


def _watch(threads: int, end: threading.Event) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # are the main thread's
    crowd: list[threading.Thread] = []
    leave, quiet = threading.Event(), 0
    try:
        for lacking in _lacking_cores(threads, end):
            quiet = quiet + 1 if lacking < FREE else 0
            if not crowd and lacking > TAKEN:
                leave.clear()
                crowd = _crowd(threads, leave)
            elif crowd and quiet == QUIET_LOOKS:
                _end(leave, crowd)
                crowd = []
    except (OSError, ValueError, RuntimeError):
        pass  # of /proc/stat, or no more threads: they spin, as they do without a watch
    finally:
        _end(leave, crowd)


def _end(event: threading.Event, threads: list[threading.Thread]) -> None:
    event.set()
    for thread in threads:
        thread.join()


def _lacking_cores(threads: int, end: threading.Event) -> Iterator[float]:
    """Every PERIOD until `end`: `threads` + cores that others kept busy - cores, on average."""
    before = None
    while True:
        cores = os.sched_getaffinity(0)
        now = time.monotonic(), _busy_seconds(cores), _own_seconds()
        if before:
            wall, busy, own = (b - a for a, b in zip(before, now, strict=True))
            yield threads + (busy - own) / wall - len(cores)
        before = now
        if end.wait(PERIOD):
            return


def _busy_seconds(cores: set[int]) -> float:
    """Seconds since the start of the machine in which `cores` worked, for whomever."""
    ticks = 0
    for line in STAT.read_text().splitlines():
        name, *counts = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            user, nice, system, _idle, _iowait, *interrupts = map(int, counts[:8])
            ticks += user + nice + system + sum(interrupts)  # and what a host took away
    return ticks / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Seconds in which this process, its children and theirs worked, those too that have ended.

    Else a loader that ends would take its hours with it, as if another program had worked them.
    """
    ticks, waiting = 0, ["self"]
    while waiting:
        process = Path("/proc", waiting.pop())
        with suppress(OSError):  # it has just ended, and its parent has its time
            # A name may hold anything. In user and in kernel mode, its own and of the ended ones:
            fields = (process / "stat").read_bytes().rpartition(b")")[2].split()
            ticks += sum(map(int, fields[11:15]))
        for listed in (process / "task").glob("*/children"):
            with suppress(OSError):
                waiting += listed.read_text().split()
    return ticks / os.sysconf("SC_CLK_TCK")


def _crowd(threads: int, leave: threading.Event) -> list[threading.Thread]:
    """Threads with which there are more of OpenMP than cores; they do nothing until `leave`."""

    def gather() -> None:
        torch.ones(2**20).add_(1)  # large enough to be split: a team is started
        leave.wait()

    idle = len(os.sched_getaffinity(0)) - threads
    crowd = [threading.Thread(target=gather, daemon=True)
             for _ in range(1 + max(idle, 0) // (threads - 1))]
    for thread in crowd:
        thread.start()
    return crowd
