"""Packages for benchmark servers: what belongs into one, and what is wrong with one.

A zip or a folder, whoever made it, is looked into by a second reader: PIL decodes here what cv2 has
encoded, and nothing is unpacked to the disk.
"""

import contextlib
import re
import stat
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL.PngImagePlugin import PngImageFile
from tqdm import tqdm

from utils.files import check_regular
from utils.images import Size, shown
from utils.labels import histogram
from utils.workers import map_in_threads

THREADS = 8
LINES = 5  # shown of each kind of fault
GRAY, PALETTE, COLORS = 0, 3, (2, 6)  # color types in the header of a PNG
MAX_RATIO = 200  # bytes per packed byte; data sets reach about 10
SMALL = 64_000_000  # bytes that no packing makes dangerous

_KINDS = (0, stat.S_IFREG, stat.S_IFDIR)  # 0: packed where files have no Unix mode
_ENCRYPTED = 0x2041  # flag bits: by password, strongly, with a hidden directory


@dataclass(frozen=True)
class Package:
    """What a server expects of a split."""

    sizes: dict[str, Size]  # path in the package -> (H, W) of its image
    legal: np.ndarray  # (256,) bool: the ids that the data set has
    train_id_to_id: list[int]  # the id of each class
    void: int = 0  # the id of what is no class
    anywhere: bool = False  # files may lie in any folder, with more between their name and `.png`
    published: int | None = None  # number of images of the published split, where it is known
    folder: str = ""  # that all of them are in, as "semantic/"

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


class Fault(NamedTuple):
    where: str
    what: str  # the same for all faults of a kind
    detail: str = ""


@dataclass
class Findings:
    """Of one package: files that were looked into, palette PNGs among them, faults."""

    files: int = 0
    palettes: int = 0
    faults: list[Fault] = field(default_factory=list)

    def raise_faults(self, path: Path) -> None:
        """Refuses the package: a ValueError lists some faults of each kind, and their number."""
        if not self.faults:
            return
        kinds: dict[str, list[Fault]] = defaultdict(list)
        for fault in self.faults:
            kinds[fault.what].append(fault)
        lines = [f"{shown(path)}: no server would score this rightly; faults: {len(self.faults)}"]
        for what, faults in kinds.items():
            lines += [f"  {shown(where)}: {what}{detail}" for where, _, detail in faults[:LINES]]
            if more := faults[LINES:]:
                lines.append(f"  and {len(more)} more: {what} ({len(faults)} in all)")
        raise ValueError("\n".join(lines))

    def report(self, path: Path, package: Package) -> str:
        """Says that a package is right, and what its author should know about it."""
        lines = [f"{shown(path)}: {self.files} predictions, each once, of its image's size, with "
                 "legal ids"]
        if self.palettes:
            lines.append(f"note: {self.palettes} are palette PNGs, whose indices were taken as "
                         "ids; the scorer of Cityscapes does the same")
        if package.published not in (None, len(package.sizes)):
            lines.append(f"note: {len(package.sizes)} images are here, the published split has "
                         f"{package.published}; a server expects them all")
        return "\n".join(lines)


def inspect(path: Path, package: Package) -> Findings:
    """What is in a zip or a folder, compared with what is expected.

    Raises FileNotFoundError, or ValueError: neither a folder nor a zip archive.
    """
    findings = Findings()
    with open_members(path) as members:
        pairs, findings.faults = _pair(members, package)
        # Decoding leaves the interpreter lock to the others.
        jobs = map_in_threads(lambda pair: _check_member(pair[0], pair[1], package), pairs, THREADS)
        for fault, is_palette in tqdm(jobs, "check", len(pairs), unit="file", disable=None):
            findings.files += 1
            findings.palettes += is_palette
            findings.faults += [fault] if fault else []
    return findings


def find_fault(path: str, data: bytes, size: Size, package: Package) -> Fault | None:
    """What is wrong with the bytes of an id map for an image of `size` (H, W)."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return Fault(path, "not a PNG")
    try:
        PngImageFile(BytesIO(data)).verify()  # the checksums of all parts, and the end
        image = PngImageFile(BytesIO(data))
    except Exception:  # PIL raises a dozen types for damaged files
        return Fault(path, "a damaged or half-written PNG")
    bits, kind = data[24], data[25]
    if kind in COLORS:
        return Fault(path, "a color picture, not ids")
    if kind != PALETTE and (kind, bits) != (GRAY, 8):
        return Fault(path, "not one channel of 8 bits", f": {bits} bits, mode {image.mode}")
    if (image.height, image.width) != size:
        return Fault(path, "not the size of its image",
                     f": {image.width}x{image.height} instead of {size[1]}x{size[0]}")
    try:
        ids = np.asarray(image)
    except Exception:
        return Fault(path, "a damaged or half-written PNG")
    counts = histogram(ids)
    if _are_train_ids(counts, package):
        return Fault(path, "train ids, not ids",
                     f": {package.train_id_to_id[0]} is the id of the first class, not 0")
    if (wrong := (counts > 0) & ~package.legal).any():
        some = ", ".join(map(str, wrong.nonzero()[0][:5]))
        return Fault(path, "ids that the data set does not have", f": {some}")
    return None


def _are_train_ids(counts: np.ndarray, package: Package) -> bool:
    """Whether ids, all of them legal perhaps, make sense only as train ids.

    Low numbers alone, and most pixels with one that no class has: as ids, the train ids of road,
    building and sky in Cityscapes are unlabeled, rectification border and rail track.
    """
    classes = len(package.train_id_to_id)
    if package.train_id_to_id == list(range(classes)):
        return False
    no_class = np.ones(255, bool)
    no_class[[i for i in package.train_id_to_id if i < 255]] = False
    counts = counts[:255]
    strange = counts * no_class
    low = not counts[classes + 1 :].any()  # one more, as some networks have a train id for void
    return low and strange.sum() > counts.sum() / 2 and strange.sum() > strange[package.void]


def _check_member(member: Member, owner: str, package: Package) -> tuple[Fault | None, bool]:
    """Its fault, and whether it is a palette PNG."""
    size = package.sizes[owner]
    if member.length > 8 * size[0] * size[1] + 1_000_000:  # four raw channels of 16 bits
        return Fault(member.path, "larger than any picture of that size",
                     f": {member.length:,} bytes"), False
    try:
        data = member.read()
    except Exception as error:  # zipfile raises six types for damaged files
        return Fault(member.path, "cannot be read", f": {shown(str(error))}"), False
    fault = find_fault(member.path, data, size, package)
    return fault, not fault and data[25] == PALETTE


def _pair(members: list[Member], package: Package) -> tuple[list[tuple[Member, str]], list[Fault]]:
    """Members with the expected file they are taken for; what is missing, twice, misplaced."""
    found: dict[str, list[Member]] = defaultdict(list)
    faults, strays = [], []
    for member in members:
        if member.fault:
            faults.append(Fault(member.path, member.fault))
        elif owner := package.owner(member.path):
            found[owner].append(member)
        else:
            strays.append(member)
    names = {PurePosixPath(path).name: path for path in package.sizes}
    for member in strays:
        owner = names.get(PurePosixPath(member.path).name)
        if owner and owner not in found:
            faults.append(Fault(member.path, "in the wrong folder", f": expected as {owner}"))
            found[owner].append(member)
        else:
            faults.append(Fault(member.path, "does not belong here"))
    for owner, several in found.items():
        if len(several) > 1:
            paths = ", ".join(shown(member.path) for member in several[:3])
            faults.append(Fault(owner, "there more than once", f": {paths}"))
    faults += [Fault(path, "missing") for path in package.sizes if path not in found]
    return [(member, owner) for owner, several in found.items() for member in several], faults


@contextlib.contextmanager
def open_members(path: Path) -> Iterator[list[Member]]:
    """The files in a zip or a folder; what is read is read then, and nothing is unpacked.

    Raises FileNotFoundError, or ValueError: neither a folder nor a whole zip archive.
    """
    if path.is_dir():
        yield [
            Member(file.relative_to(path).as_posix(), file.stat().st_size, file.read_bytes)
            if file.is_file() else
            Member(file.relative_to(path).as_posix(), 0, bytes, "a broken link or a device")
            for file in sorted(path.rglob("*")) if not file.is_dir()
        ]
        return
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
        yield [
            Member(info.orig_filename, info.file_size, partial(archive.read, info), _distrust(info))
            for info in archive.infolist() if not info.is_dir()
        ]


def _distrust(info: zipfile.ZipInfo) -> str:
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
