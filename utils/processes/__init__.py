"""Several processes: how they are launched, whether they live, how their threads wait; cores."""

import os
from contextlib import suppress
from pathlib import Path

QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds of a period, or "max"


def count_cores() -> int:
    """Those that this process may use: schedulers and containers give a part of a machine's."""
    linux = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if linux else os.cpu_count() or 1
    with suppress(OSError, ValueError):
        quota, period = map(int, QUOTA.read_text().split())
        cores = min(cores, -(-quota // period))
    return cores
