"""Packages for benchmark servers: what belongs into one, how a zip is written and opened."""

import contextlib
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from utils.files import check_regular
from utils.images import shown

Size = tuple[int, int]

MAX_RATIO = 200  # bytes per packed byte; data sets reach about 10
SMALL = 64_000_000  # bytes that no packing makes dangerous

_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: packed where files have no Unix mode
_ENCRYPTED = 0x2041  # flag bits: by password, strongly, with a hidden directory


@dataclass(frozen=True)
class Package:
    """What a server expects of a split.

    Args:
        sizes: path in the package -> (H, W) of its image.
        legal: (256,) bool: the ids that the data set has.
        train_id_to_id: the id of each class.
        void: the id of what is no class.
        anywhere: files may lie in any folder and have more between their name and `.png`.
        published: number of images of the published split, where it is known.
        folder: that all of them are in, as "semantic/".
    """

    sizes: dict[str, Size]
    legal: np.ndarray
    train_id_to_id: list[int]
    void: int = 0
    anywhere: bool = False
    published: int | None = None
    folder: str = ""

    def owner(self, path: str) -> str | None:
        """The expected file that a server takes `path` for; None if it does not look at it."""
        if path in self.sizes:
            return path
        name = PurePosixPath(path).name
        if not self.anywhere or not name.endswith(".png"):
            return None
        starts = (f"{name[:end]}.png" for end in range(len(name), 0, -1))
        return next((start for start in starts if start in self.sizes), None)


@dataclass(frozen=True)
class Member:
    """A file in a package; `fault` is why no server would take it, whatever is in it."""

    path: str
    length: int  # bytes
    read: Callable[[], bytes]
    fault: str = ""


def write_zip(path: Path, folder: Path, package: Package) -> None:
    """Writes the files of a package that are in `folder`, the same bytes for the same files.

    Raises:
        OSError: no room, no permission.
    """
    with zipfile.ZipFile(path, "w") as archive:
        for name in tqdm(package.sizes, desc="pack", unit="file", disable=None):
            if not (folder / name).is_file():  # the check of the package says which are missing
                continue
            member = zipfile.ZipInfo(name)
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(member, (folder / name).read_bytes(), compresslevel=1)


@contextlib.contextmanager
def open_members(path: Path) -> Iterator[list[Member]]:
    """The files in a zip or a folder; what is read is read then, and nothing is unpacked.

    Raises:
        FileNotFoundError: no such file or folder.
        ValueError: neither a folder nor a whole zip archive.
    """
    if path.is_dir():
        yield [
            Member(file.relative_to(path).as_posix(), file.stat().st_size, file.read_bytes)
            if file.is_file() else
            Member(file.relative_to(path).as_posix(), 0, bytes, "a broken link or a device")
            for file in sorted(path.rglob("*")) if not file.is_dir()
        ]
        return
    with opened(path) as archive:
        yield [
            Member(info.orig_filename, info.file_size, partial(archive.read, info),
                   find_fault(info))
            for info in archive.infolist() if not info.is_dir()
        ]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive to read from.

    Raises:
        FileNotFoundError: there is none.
        ValueError: not a zip archive, or one that is cut off.
    """
    try:
        check_regular(path)
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(path)}: no such archive") from None
    except OSError as error:
        raise ValueError(f"{shown(path)}: cannot be read ({error.strerror})") from None
    except Exception as error:  # zipfile raises six types for damaged files
        raise ValueError(f"{shown(path)}: not a whole zip archive ({shown(str(error))}); delete it "
                         "and fetch it again") from None
    with archive:
        yield archive


def find_fault(info: zipfile.ZipInfo) -> str:
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
