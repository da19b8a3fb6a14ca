"""What a disk can refuse, said in one line: no room, no permission, another kind of thing there."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.exit_codes import DISK_FAULTS
from utils.images import shown


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turns a fault of the file system into one line that says where, for work that can go on.

    Raises:
        OSError: the disk is full or failing.
        ValueError: anything that is wrong with the path.
    """
    try:
        yield
    except OSError as error:
        where = shown(error.filename2 or error.filename or path)
        line = f"{where}: not written ({error.strerror})"
        if error.errno in DISK_FAULTS:
            line = f"{line}; make room and run it again, it goes on"
            raise OSError(error.errno, line) from None
        raise ValueError(f"{line}; mend that, or choose another folder") from None


def check_folder(folder: Path) -> None:
    """Refuses a folder that cannot be made or written, before the work; leaves no trace.

    Raises:
        ValueError: where, and why.
    """
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with blaming(folder), tempfile.TemporaryDirectory(dir=there, prefix=".streetseg-"):
        pass


def check_room(folder: Path, need: int) -> None:
    """Refuses `need` bytes that the disk of a folder does not have.

    Raises:
        ValueError: what is needed and what is free.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ValueError(f"{shown(folder)}: {need / 1e6:,.1f} MB are to be written, "
                         f"{free / 1e6:,.1f} MB are free; make room, or choose another folder")


def size_of(path: Path) -> int:
    """Bytes of a regular file, -1 if there is none."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except OSError:  # a name that is too long, a loop of links
        return -1
