"""While a cache is made: kills at any instant, several processes, full disks, damaged images."""

import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import draw_camvid
from test_cache import cached, camvid, check_equal, data_files, made, root

from datasets.cache import decoded
from datasets.cache.decoded import open_cache
from utils import locks

__all__ = ["made", "root"]  # fixtures


def in_fork(work: Callable[[], None]) -> int:
    """Process id of a child that does it."""
    pid = os.fork()
    if not pid:
        work()
        os._exit(0)
    return pid


def wait(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("number", [1, 3, 4])
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_killed_while_it_is_made(
    call: str, number: int, root: Path, made: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls 1 and 3 are of the first two parts, 2 and 4 of their indices; finished parts stay."""
    monkeypatch.setattr(decoded, "PART_BYTES", 60 * 80 * 4)  # a sample each

    def make_and_die() -> None:
        calls, original = 0, getattr(os, call)

        def count(*args: object) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                os.kill(os.getpid(), signal.SIGKILL)
            original(*args)

        setattr(os, call, count)
        open_cache(camvid(root))

    assert wait(in_fork(make_and_die)) == -signal.SIGKILL
    left = set(os.listdir(root / ".streetseg"))
    finished = {name for name in left if name.endswith(".json") and not name.startswith(".")}
    check_equal(cached(root), camvid(root))
    assert len(made) == 5 - len(finished)
    now = set(os.listdir(root / ".streetseg"))
    assert finished < now
    assert len(now) == 5 * 2 + 1  # parts, indices, the lock


@pytest.mark.slow
def test_killed_at_any_instant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_camvid(tmp_path, size=(480, 640))
    monkeypatch.setattr(decoded, "PART_BYTES", 2 * 480 * 640 * 4)
    rng, kills, files = random.Random(0), 0, camvid(root)

    def start() -> int:
        return in_fork(lambda: open_cache(camvid(root), 2))

    def forget() -> None:
        for path in (root / ".streetseg").iterdir():
            path.unlink()

    begun = time.monotonic()
    assert wait(start()) == 0
    whole = time.monotonic() - begun
    forget()
    for _ in range(15):
        for _ in range(rng.randint(1, 3)):  # the second goes on where the first was killed
            pid = start()
            time.sleep(rng.uniform(0, 0.8 * whole))
            os.kill(pid, signal.SIGKILL)
            kills += wait(pid) == -signal.SIGKILL
        check_equal(cached(root), files)
        forget()
    assert kills > 10
    check_equal(cached(root, verify=True), files)


def test_made_once_by_several_processes(root: Path) -> None:
    """The others wait and read what the first one made."""
    children = [in_fork(lambda: check_equal(cached(root), camvid(root))) for _ in range(4)]
    assert [wait(pid) for pid in children] == [0] * 4
    assert len(data_files(root)) == 1


def test_a_file_system_without_locks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    check_equal(cached(root), camvid(root))
    assert not list((root / ".streetseg").glob("*.held"))


def test_no_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=5 * 60 * 80 * 4 - 1))
    with pytest.raises(OSError, match=r"0\.1 MB are to be written"):
        cached(root)
    assert not data_files(root)


def test_full_disk(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="not written .No space left on device."):
        cached(root)
    assert [path.suffix for path in (root / ".streetseg").iterdir()] == [".lock"]


def test_a_file_that_cannot_be_decoded(root: Path) -> None:
    image = camvid(root).samples[1].image
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(ValueError, match=f"{image}: truncated or damaged PNG"):
        cached(root)
    assert not data_files(root)
