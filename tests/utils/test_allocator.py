"""Freed memory is kept for the next tensor."""

import platform
import subprocess
import sys

import pytest
from conftest import ROOT

from utils import distributed

FAULTS = """
import resource, sys, torch
from utils import distributed
if len(sys.argv) > 1:
    distributed.start("cpu", 1)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(30):
    torch.ones(20 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(*words: str) -> int:
    """Pages that the kernel has to map for 30 tensors of 80 MB, one after the other."""
    done = subprocess.run([sys.executable, "-c", FAULTS, *words], cwd=ROOT, check=True,
                          capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the GNU C library")
def test_pages_are_mapped_once() -> None:
    assert faults("start") < faults() / 2  # the first few do not fit where others were


def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(distributed.ctypes, "CDLL", None)
    assert not distributed.keep_freed_memory()


def test_what_an_old_glibc_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds above 32 MB are refused there."""
    given = []

    class Old:
        def mallopt(self, what: int, value: int) -> int:
            given.append((what, value))
            return int(what != distributed.M_MMAP_THRESHOLD or value <= 2**25)

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(distributed.ctypes, "CDLL", lambda _: Old())
    assert distributed.keep_freed_memory()
    assert given == [(-3, 2**30), (-3, 2**25), (-1, 2**31 - 1)]
