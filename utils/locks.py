"""Locks of files and folders, which end with the process that holds them."""

import contextlib
import os
import secrets
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from utils import distributed
from utils.files import blaming, open_own, shown

fcntl: Any = None
with contextlib.suppress(ImportError):  # not on Windows
    import fcntl

TOUCHED, GONE = 30.0, 300.0  # seconds: how often a mark is touched; then its process is gone


class Lock:
    """A file that one process has at a time: by the system, and where that has no locks by a mark.

    The file stays. A mark is made with O_EXCL and holds host, process and start time. Of a process
    of this host that is gone, or untouched for `GONE` seconds, it is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.mark = path, path.with_name(path.name + ".held")
        self.release: Callable[[], object] = lambda: None

    def take(self) -> str:
        """"" if this process has it now, until `release` or its end; else who has it."""
        file = open_own(self.path, "a+")
        taken = _try_system(file)
        if taken is None:
            file.close()
            return self._make_mark()
        if not taken:
            with file:
                file.seek(0)
                return shown(file.read().strip()) or "another process"
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        self.release = file.close
        return ""

    def _make_mark(self) -> str:
        me = f"process {os.getpid()} on {socket.gethostname()}, started {_start(os.getpid())}"
        while True:
            try:
                with os.fdopen(os.open(self.mark, os.O_CREAT | os.O_EXCL | os.O_WRONLY), "w") as f:
                    f.write(me)
                break
            except FileExistsError:
                if owner := self._owner():
                    return owner
        stop = threading.Event()
        threading.Thread(target=_keep, args=(self.mark, me, stop), daemon=True).start()
        self.release = weakref.finalize(self, _remove, self.mark, me, os.getpid(), stop)
        return ""

    def _owner(self) -> str:
        """Whose the mark is; "" if it was left behind, and is gone now."""
        try:
            found = self.mark.read_text(errors="replace")
            age = time.time() - self.mark.stat().st_mtime
            who, _, since = found.partition(", started ")
            number = who.removeprefix("process ").removesuffix(f" on {socket.gethostname()}")
            if age < GONE and not (number.isdecimal() and _start(int(number)) not in (since, "?")):
                return shown(who) or "another process"
            aside = self.mark.with_name(f".{self.mark.name}-{secrets.token_hex(8)}.part")
            os.rename(self.mark, aside)
            if aside.read_text(errors="replace") != found:  # somebody was faster
                os.rename(aside, self.mark)
                return "another process"
            aside.unlink()
        except FileNotFoundError:  # meanwhile
            return ""
        print(f"{shown(self.path)}: taken over from {shown(who)}, which is gone")
        return ""


def hold_folder(folder: Path) -> Lock:
    """A folder that results are collected in, locked while this is kept; made if it is not there.

    Ranks beside the main one hold nothing, but go on only where that has it.

    Raises ValueError: in use, or cannot be written; OSError: the disk is full or failing.
    """
    lock = Lock(folder / ".lock")
    if distributed.rank() == 0:
        with blaming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            owner = lock.take()
        if owner:
            raise ValueError(f"{shown(folder)}: in use by {owner}; wait until it is done, or "
                             "choose another folder")
    distributed.barrier()  # before one writes, too, all have seen what was there
    return lock


def _try_system(file: IO) -> bool | None:
    """Whether this process has the lock of an open file now; None if nobody can have one there."""
    if fcntl is None:
        return None
    try:
        # Not flock: workers would inherit that and keep it after a kill of the main process.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # some file systems over networks have none
        return None
    return True


def _start(number: int) -> str:
    """When a process of this host was started, in the system's ticks; "?" where nothing tells."""
    if sys.platform == "win32":  # where this look would end it
        return "?"
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text("latin-1").rpartition(")")[2].split()[19]
    except (ProcessLookupError, OverflowError):
        return "never"
    except (OSError, IndexError):
        return "?"


def _has(mark: Path, me: str) -> bool:
    """Whether a mark is still of its maker: one that slept for long has lost it to another."""
    with contextlib.suppress(OSError, ValueError):
        return mark.read_text() == me
    return False


def _keep(mark: Path, me: str, stop: threading.Event) -> None:
    while not stop.wait(TOUCHED):
        with contextlib.suppress(OSError):
            if _has(mark, me):
                os.utime(mark)


def _remove(mark: Path, me: str, number: int, stop: threading.Event) -> None:
    stop.set()
    if number == os.getpid() and _has(mark, me):  # not a fork of it
        mark.unlink(missing_ok=True)
