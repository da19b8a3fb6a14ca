"""The processor's cores, as far as they are ours."""

import os


def count_cores() -> int:
    """Those that this process may use: schedulers and containers give a part of a machine's."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
