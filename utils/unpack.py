"""Unpacks zip archives that may be damaged or hostile: whole, inside one folder, or not at all."""

import os
import re
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from zipfile import ZipFile, ZipInfo

from tqdm import tqdm

from utils.disk import blaming, check_room, size_of
from utils.images import shown

MAX_RATIO = 200  # bytes per packed byte; data sets reach about 10
SMALL = 64_000_000  # bytes that no packing makes dangerous
PARTIAL = ".unpack.partial"  # behind the archive's name: the folder of an unpacking under way

_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: packed where files have no Unix mode
_ENCRYPTED = 0x2041  # flag bits: by password, strongly, with a hidden directory


def unpack(path: Path, folder: Path, only: str | None = None) -> int:
    """The number of files written into `folder`; those there in their full size are passed over.

    Every member is checked before anything is written. Files are unpacked, with their checksums,
    into a folder of their own and moved when all are whole, so an interruption leaves `folder` as
    it was, or with some whole files if it was while moving; calling it again goes on. A file of
    another size is replaced; empty folders are not made.

    Args:
        path: the zip archive.
        folder: is made.
        only: unpack what is under this folder of the archive, without that beginning of the
            names; its parts may hold wildcards, as "*/CamVid".

    Raises:
        FileNotFoundError: no such archive.
        ValueError: damaged, hostile, too large for the disk, or without such a folder.
        OSError: no permission, or the disk is full after all.
    """
    with opened(path) as archive:
        members = _select(path, archive, only)
        missing = {name: info for name, info in members.items()
                   if size_of(folder / name) != info.file_size}
        stage = folder / f"{path.name}{PARTIAL}"
        with blaming(folder):
            folder.mkdir(parents=True, exist_ok=True)
            check_room(folder, sum(info.file_size - max(0, size_of(stage / name))
                                   for name, info in missing.items()))
        for name, info in tqdm(missing.items(), desc=path.name, unit="file", disable=None):
            _extract(path, archive, info, stage / name)
    with blaming(folder):
        # Once for all: a name must not outlive a power failure that its content does not.
        if missing:
            os.sync()
        for name in missing:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(stage / name, folder / name)
        if stage.exists():
            shutil.rmtree(stage)
    return len(missing)


@contextmanager
def opened(path: Path) -> Iterator[ZipFile]:
    """An archive to read from.

    Raises:
        FileNotFoundError: there is none.
        ValueError: not a zip archive, or one that is cut off.
    """
    try:
        archive = ZipFile(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(path)}: no such archive") from None
    except OSError as error:
        raise ValueError(f"{shown(path)}: cannot be read ({error.strerror})") from None
    except Exception as error:  # zipfile raises six types for damaged files
        raise ValueError(f"{shown(path)}: not a whole zip archive ({shown(str(error))}); delete it "
                         "and fetch it again") from None
    with archive:
        yield archive


def _select(path: Path, archive: ZipFile, only: str | None) -> dict[str, ZipInfo]:
    """Target name -> member, of the files to unpack.

    Raises:
        ValueError: a member that must not be unpacked, a bomb, or nothing to unpack.
    """
    wanted = only.strip("/").split("/") if only else []
    chosen: dict[str, ZipInfo] = {}
    for info in archive.infolist():
        parts = info.orig_filename.split("/")
        if len(parts) <= len(wanted) or not all(map(fnmatchcase, parts, wanted)):
            continue
        name = "/".join(parts[len(wanted):])
        if fault := "there twice" if name in chosen else find_fault(info):
            raise ValueError(
                f"{shown(path)}: {shown(info.orig_filename)}: {fault}; nothing is unpacked from "
                "such an archive"
            )
        if not info.is_dir():
            chosen[name] = info
    _check_whole(path, archive, chosen, only)
    return chosen


def _check_whole(
    path: Path, archive: ZipFile, chosen: Mapping[str, ZipInfo], only: str | None
) -> None:
    """Refuses what only all members together show."""
    if not chosen:
        tops = sorted({"/".join(name.split("/")[:2]) for name in archive.namelist()})
        raise ValueError(f"{shown(path)}: no files{f' in a folder {only}' if only else ''}; "
                         f"there are {', '.join(map(shown, tops[:5])) or 'none'}")
    folders = {str(parent) for name in chosen for parent in Path(name).parents}
    if both := sorted(folders & chosen.keys()):
        raise ValueError(f"{shown(path)}: {shown(both[0])}: a file and a folder; nothing is "
                         "unpacked from such an archive")
    # Not the members' packed sizes: those of a bomb overlap in the file.
    total = sum(info.file_size for info in chosen.values())
    if total > max(SMALL, MAX_RATIO * path.stat().st_size):
        raise ValueError(f"{shown(path)}: {total:,} bytes from {path.stat().st_size:,}, more than "
                         f"{MAX_RATIO} times as many: a bomb; delete it")


def find_fault(info: ZipInfo) -> str:
    """Why a member must not be unpacked; empty if it may be."""
    name = info.orig_filename
    parts = name.removesuffix("/").split("/")
    if name.startswith("/") or re.match("[A-Za-z]:", name):
        return "an absolute path"
    if ".." in parts:
        return "leads out of the folder"
    if "\\" in name or "." in parts or "" in parts or any(ord(letter) < 32 for letter in name):
        return "not a plain path"
    if stat.S_IFMT(info.external_attr >> 16) not in _KINDS:
        return "a link or a device"
    if info.flag_bits & _ENCRYPTED:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"compressed by method {info.compress_type}, which is neither stored nor deflated"
    if info.file_size > max(SMALL, MAX_RATIO * info.compress_size):
        return f"{info.file_size:,} bytes from {info.compress_size:,}: a bomb"
    return ""


def _extract(path: Path, archive: ZipFile, info: ZipInfo, target: Path) -> None:
    """Writes one file, unless an earlier attempt has.

    Raises:
        ValueError: damaged.
    """
    with blaming(target):
        if size_of(target) == info.file_size and _crc32(target) == info.CRC:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(info) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)  # checks the CRC at the end
            damage = "" if size_of(target) == info.file_size else "another size than announced"
        except OSError:
            raise
        except Exception as error:
            damage = str(error) or "cut off"
    if damage:
        raise ValueError(f"{shown(path)}: {shown(info.filename)}: damaged ({shown(damage)}); "
                         "delete the archive and fetch it again")


def _crc32(path: Path) -> int:
    value = 0
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            value = zlib.crc32(chunk, value)
    return value
