"""Files written whole or not at all, and what a disk can refuse, said in one line."""

import codecs
import errno
import glob
import hashlib
import json
import math
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from utils.stopping import DISK_FAULTS

PathLike = str | os.PathLike[str]
T = TypeVar("T")
TRIES, PAUSE = 3, 1.0  # of a network disk, and seconds between them
# Listed or read: may be missing for a moment, while another machine replaces them.
known: set[str] = set()


def shown(path: PathLike) -> str:
    """The path as it is safe to print: control characters and undecodable bytes are escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in os.fsdecode(path))


def reason(error: Exception) -> str:
    """What a library says of a file that it does not read, as far as it fits into a line."""
    return shown(str(error)[:200])


def check_regular(path: PathLike) -> None:
    """Raises OSError for a pipe, a socket or a device, whose writer would be waited for."""
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise OSError(errno.EINVAL, "not a file, but a pipe or a device", os.fspath(path))


def read_file(path: PathLike) -> bytes:
    """The bytes of a regular file. Raises OSError for what is none, or is not there."""
    def read() -> bytes:
        check_regular(path)
        return Path(path).read_bytes()

    return patiently(path, read)


def patiently(path: PathLike, read: Callable[[], T]) -> T:
    """What `read()` of a path gives, tried again where a network disk refuses it for a moment.

    A path that is `known` may be missing at first.
    """
    name = os.fspath(path)
    for left in range(TRIES)[::-1]:
        try:
            result = read()
            break
        except OSError as error:
            missing = error.errno == errno.ENOENT and name in known
            if not left or not (missing or error.errno == errno.ESTALE):
                raise
            time.sleep(PAUSE)
    known.add(name)
    return result


@contextmanager
def replacing(path: PathLike, need: int = 0, durable: bool = True) -> Iterator[Path]:
    """A file beside `path` to write into, which becomes `path` if the block succeeds, else goes.

    At every instant `path` is the old file or the new one, whole. Its folder is made.

    Args:
        path: of the file that is wanted.
        need: bytes that are to be written, for the message of a full disk.
        durable: the file and then its name are on the disk when this ends.

    Raises OSError: no room, no permission; the old file stays.
    """
    path = Path(path)
    # Random, so that nobody can put a link there; short, since names may be as long as they can.
    part = path.with_name(f".{path.name[:40]}-{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.open("xb").close()
        yield part
        if durable:
            with part.open("rb") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        if error.errno is None:  # says itself what it is
            raise
        message = f"{shown(path)}: not written ({error.strerror})"
        if need and error.errno in DISK_FAULTS:
            message += f"; it needs {math.ceil(need / 1e6)} MB"
        raise OSError(error.errno, message) from error  # the number decides on the exit code
    finally:
        with suppress(OSError):  # gone if all went well
            part.unlink()
    if durable:
        with suppress(OSError):  # some network file systems cannot, and need not
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def open_own(path: Path, mode: str) -> IO[Any]:
    """As open(), of a file in a folder of results; OSError for a link or a pipe in its place."""
    def opener(name: str, flags: int) -> int:
        strict = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.open(name, flags | strict, 0o666)

    return open(path, mode, encoding=None if "b" in mode else "utf-8", opener=opener)


def write_file(path: PathLike, data: bytes | memoryview, durable: bool = True) -> None:
    """Writes a file whole or not at all, as `replacing` does; into a pipe or a device at once."""
    given = Path(path)
    special = os.path.exists(given) and not (given.is_file() or given.is_dir())
    if special or os.fspath(path).startswith(("/dev/std", "/dev/fd/")):
        try:
            with given.open("wb") as file:
                file.write(data)
        except OSError as error:
            raise OSError(error.errno, f"{shown(given)}: not written ({error.strerror})") from error
        return
    with replacing(path, len(data), durable) as part:
        part.write_bytes(data)


def write_json(path: PathLike, content: Any) -> None:
    """As `write_file`, for people too."""
    write_file(path, json.dumps(content, indent=1).encode())


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, or in what the mark at its beginning says. Raises ValueError."""
    data, encoding = read_file(path), "utf-8-sig"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ValueError(f"{shown(path)}: line {line} is no text in UTF-8; save "
                         "it as UTF-8") from None


def sweep(folder: Path, start: str = "") -> None:
    """Removes what killed processes left in a folder of files whose names begin with `start`."""
    token = "[0-9a-f]" * 16
    for part in folder.rglob(f".{glob.escape(start)}*-{token}.part"):
        if part.is_file():
            part.unlink(missing_ok=True)


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Turns a fault of the file system into one line that says where, for work that can go on.

    Raises OSError: the disk is full or failing; ValueError: anything wrong with the path.
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
    """Refuses a folder that cannot be made or written; leaves no trace. Raises ValueError."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with blaming(folder), tempfile.TemporaryDirectory(dir=there, prefix=".streetseg-"):
        pass


def check_room(folder: Path, need: int) -> None:
    """Refuses `need` bytes that the disk of a folder does not have. Raises OSError."""
    free = shutil.disk_usage(folder).free
    if need > free:
        raise OSError(errno.ENOSPC, f"{shown(folder)}: {need / 1e6:,.1f} MB are to be written, "
                      f"{free / 1e6:,.1f} MB are free; make room, or choose another folder")


def settings_of(
    options: dict[str, Any], passing: Collection[str], files: Collection[str]
) -> dict[str, Any]:
    """What decides about predictions among the options of a script, as JSON has it.

    Those named in `passing` have no influence; of those in `files` the content counts, as best.pth
    may be a new one.
    """
    settings = {key: value for key, value in options.items() if key not in passing}
    for key in files:
        if settings[key]:
            with open(settings[key], "rb") as file:
                settings[key] = f"sha256 {hashlib.file_digest(file, 'sha256').hexdigest()}"
    return json.loads(json.dumps(settings))


def begin(record: Path, settings: dict[str, Any]) -> None:
    """Records what the folder of a record is made with; removes what a killed attempt left."""
    with blaming(record.parent):
        sweep(record.parent)
    write_json(record, settings)


def read_settings(record: Path) -> dict[str, Any]:
    """Settings; none if they cannot be read."""
    try:
        found = json.loads(read_file(record))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def check_settings(record: Path, settings: dict[str, Any], what: str) -> None:
    """Refuses to go on in a folder whose `record` is of other settings; names `what` is there.

    Raises ValueError: no record, or which settings differ.
    """
    if not (found := read_settings(record)):
        raise ValueError(f"{record}: missing or damaged, so nobody knows what made the {what} "
                         "beside it; choose another --save-dir")
    differ = [key for key in {**found, **settings} if found.get(key) != settings.get(key)]
    if differ:
        raise ValueError(f"{record}: the {what} beside it were made with another "
                         f"{', '.join(differ)}; give the same, or choose another --save-dir")
