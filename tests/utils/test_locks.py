"""Locks of folders, by the system and without: nobody writes where another process does."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT, forks

from utils import locks
from utils.locks import Lock, hold_folder


@pytest.fixture(params=["system", "no fcntl", "no locks"])
def path(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of a lock, on systems of three kinds."""
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    if request.param == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    elif request.param == "no locks":
        monkeypatch.setattr(locks.fcntl, "lockf", refuse)
    return tmp_path / ".lock"


@contextmanager
def held_by_another(path: Path) -> Iterator[int]:
    """A process that has a lock until this ends, by a kill, and a name that is no text."""
    read, write = os.pipe()
    if not (pid := os.fork()):
        try:
            if sys.platform == "linux":
                ctypes.CDLL(None).prctl(15, b"\xff) 1 (")
            lock = Lock(path)
            os.write(write, b"!" if lock.take() == "" else b"?")
            signal.pause()
        finally:  # never on into the tests
            os._exit(1)
    os.close(write)  # so that the end of the process is seen
    try:
        assert os.read(read, 1) == b"!"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)


def test_one_process_at_a_time(path: Path, capsys: pytest.CaptureFixture) -> None:
    """What a killed process leaves is taken over at once."""
    with held_by_another(path) as pid:
        assert Lock(path).take() == f"process {pid} on {socket.gethostname()}"
        with pytest.raises(ValueError, match=f"in use by process {pid} on .*; wait until it"):
            hold_folder(path.parent)
    lock = Lock(path)
    marked = lock.mark.exists()
    assert lock.take() == ""
    assert ("taken over from process" in capsys.readouterr().out) is marked
    lock.release()
    with held_by_another(path):
        assert Lock(path).take()


def test_no_rank_goes_on_where_the_main_one_was_refused(tmp_path: Path) -> None:
    (tmp_path / "hold.py").write_text(
        "import os, sys\nfrom pathlib import Path\nfrom utils import distributed\n"
        "from utils.locks import hold_folder\nfrom utils.stopping import run\n\ndef main():\n"
        "    distributed.start('cpu')\n    hold_folder(Path(sys.argv[1]))\n"
        "    Path(sys.argv[1], os.environ['RANK']).touch()\n\nrun(main)\n")
    with held_by_another(tmp_path / ".lock"):
        done = forks()(tmp_path / "hold.py", tmp_path, ranks=2)
    assert done.returncode
    assert "in use by process" in done.stderr
    assert not [path for path in tmp_path.iterdir() if path.name in "01"]


def test_marks_of_other_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They count until nobody has touched them for five minutes."""
    monkeypatch.setattr(locks, "fcntl", None)
    lock = Lock(tmp_path / ".lock")
    lock.mark.write_bytes(b"\xff")  # of nobody knows what
    assert lock.take()
    lock.mark.write_text("process 1 on elsewhere\x1b[31m, started 5")
    assert lock.take() == r"process 1 on elsewhere\x1b[31m"
    for age, owner in ((290, True), (310, False)):
        os.utime(lock.mark, (lock.mark.stat().st_atime, locks.time.time() - age))
        assert bool(lock.take()) is owner
    assert lock.mark.read_text().startswith(f"process {os.getpid()} on {socket.gethostname()}")
    del lock
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_marks_of_processes_that_are_not_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's lives, whatever is known of its start; none has a number of that size."""
    monkeypatch.setattr(locks, "fcntl", None)
    lock = Lock(tmp_path / ".lock")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    lock.mark.write_text(f"process 1 on {socket.gethostname()}, started 5")
    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", refuse)
        assert lock.take() == f"process 1 on {socket.gethostname()}"
    lock.mark.write_text(f"process {10**20} on {socket.gethostname()}, started 5")
    assert not lock.take()


def test_a_mark_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "TOUCHED", 0.01)
    lock = Lock(tmp_path / ".lock")
    assert not lock.take()
    os.utime(lock.mark, (1, 1))
    for _ in range(500):
        if lock.mark.stat().st_mtime > 1:
            break
        locks.time.sleep(0.01)
    assert lock.mark.stat().st_mtime > 1


def test_a_mark_that_was_taken_over_is_of_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first owner, which slept for long, neither touches nor removes it."""
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "TOUCHED", 0.01)
    lock = Lock(tmp_path / ".lock")
    assert not lock.take()
    other = tmp_path / "other"
    other.write_text("process 1 on elsewhere, started 5")
    os.utime(other, (1, 1))
    other.replace(lock.mark)
    locks.time.sleep(0.1)
    assert lock.mark.stat().st_mtime == 1
    lock.release()
    assert lock.mark.read_text().startswith("process 1 on elsewhere")


def test_a_folder_whose_lock_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / ".lock").symlink_to(tmp_path / "victim")
    with pytest.raises(ValueError, match=r"\.lock: not written .*or choose another folder"):
        hold_folder(tmp_path)
    assert (tmp_path / "victim").read_text() == "precious"


def test_scripts_start_where_unix_modules_are_missing(tmp_path: Path) -> None:
    """As on Windows: fcntl, resource and some signals."""
    code = """import sys, signal
for name in ("fcntl", "resource"): sys.modules[name] = None
for name in ("pthread_sigmask", "SIGHUP", "SIGKILL"): delattr(signal, name)
sys.argv = ["x", "--help"]
for name in sys.stdin.read().split():
    try: __import__(name).parse_args()
    except SystemExit as stop: assert not stop.code
"""
    names = [path.stem for path in ROOT.glob("*.py")]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                          text=True, input=" ".join(names), timeout=120,
                          env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr[-800:]
    assert done.stdout.count("usage: ") == len(names)
