"""Times alternatives beside each other, on machines that are never quite idle."""

import itertools
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import torch

Times = dict[str, list[float]]  # name -> seconds of a call, one value a round
REST = 0.05  # seconds before a turn: idle threads of another process spin a while before they sleep


def take_turns(
    alternatives: Mapping[str, Callable[[int], object]],
    rounds: int,
    least: float = 0.2,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """Seconds of a call of each alternative, in every round.

    A slow minute of the machine slows all alternatives of a round, so ratios within a round hold.

    Args:
        alternatives: are called with 0, 1, 2, ...; calls with one number do the same work. 0 is the
            warm-up.
        rounds: how often each has its turn.
        least: seconds of a turn, in which the quick ones are called several times.
        clock: time.process_time, of what is to run in one thread, does not count other programs.
    """
    numbers = {name: itertools.count() for name in alternatives}
    times: Times = {name: [] for name in alternatives}
    for name, work in alternatives.items():
        work(next(numbers[name]))
    for _ in range(rounds):
        for name, work in alternatives.items():
            time.sleep(REST)
            calls, start = 0, clock()
            while not calls or clock() - start < least:
                work(next(numbers[name]))
                calls += 1
            times[name].append((clock() - start) / calls)
    return times


def medians(functions: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of each function, the median over rounds; one call before warms up."""
    calls = {name: lambda _, work=work: work() for name, work in functions.items()}
    return {name: median(seconds) for name, seconds in take_turns(calls, rounds, 0).items()}


def ratio(times: Times, slow: str, fast: str) -> float:
    """How many times as long `slow` takes: the median over rounds."""
    return median(s / f for s, f in zip(times[slow], times[fast], strict=True))


def table(times: Times, unit: str, bases: Mapping[str, str]) -> str:
    """Units per second of each alternative, and how many times that of each base it is.

    Args:
        times: of a unit.
        unit: for example "images".
        bases: heading of a column of ratios -> the alternative that is 1 in it.
    """
    width = max(map(len, times)) + 2
    heads = [f"{unit}/s", *(f"x {heading}" for heading in bases)]
    rows = ["".ljust(width) + "".join(f"{head:>16}" for head in heads)]
    for name, seconds in times.items():
        figures = [1 / median(seconds), *(ratio(times, base, name) for base in bases.values())]
        rows.append(name.ljust(width) + "".join(f"{figure:16.2f}" for figure in figures))
    return "\n".join(rows)


def bf16_flags() -> dict[str, bool]:
    """What speeds up bfloat16 on a CPU -> whether this one has it."""
    return {"AVX512-BF16": torch.cpu._is_avx512_bf16_supported(),
            "AMX": torch.cpu._is_amx_tile_supported()}


def machine() -> str:
    """The CPU that figures are of, what speeds up bfloat16 on it, and the threads that compute."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    has = (f"{name} {'yes' if there else 'no'}" for name, there in bf16_flags().items())
    return (f"{next(model, platform.processor() or platform.machine())}, {', '.join(has)}, "
            f"{torch.get_num_threads()} threads")


def resident(key: str) -> int:
    """Bytes of this process in main memory: now (VmRSS) or at most (VmHWM). Of Linux."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(key)))
