"""Reads one file of a data set and measures it; what cannot be read is a fault, no exception."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from datasets.base import SegmentationDataset
from datasets.camvid import MERGED
from datasets.classes import BLACK, UNKNOWN, Color, used_colors
from datasets.doctor.faults import Fault
from datasets.reading import unclear_orientation
from datasets.samples import Size
from utils.images import needed_bits, read_colors, read_image, read_instances, read_label, stored_as
from utils.labels import histogram

MOST_IDS = 64  # a gray photo has more values
LABEL_KINDS = {  # how labels are stored that hold no ids
    "RGB": "color-label", "RGBA": "color-label", "with alpha": "color-label",
    "palette": "palette-label", "16-bit gray": "deep-label", "1-bit gray": "shallow-label",
    "2-bit gray": "shallow-label", "4-bit gray": "shallow-label",
}


@dataclass(frozen=True)
class ImageFacts:
    """What was measured of an image; no size: it was not read."""

    path: Path
    size: Size | None = None
    digest: bytes = b""  # equal for equal pixels
    fault: Fault | None = None
    orientation: int = 0  # of EXIF, where the label's size does not tell
    bits: int | None = None  # that a 16-bit image has


@dataclass(frozen=True)
class LabelFacts:
    """What was measured of a label; no size: it was not read."""

    path: Path
    image: Path
    size: Size | None = None
    counts: dict[int, int] = field(default_factory=dict)  # pixels of each id, as stored
    lookup: Any = None  # (256,) uint8 from these ids to train ids
    has_instances: bool = False
    colors: dict[int, Color] = field(default_factory=dict)  # of indices, if of no class
    fault: Fault | None = None


def examine_image(dataset: SegmentationDataset, path: Path, label: Path | None) -> ImageFacts:
    """Size and digest of an image, which is decoded whole."""
    try:
        bits = needed_bits(path)
        pixels = read_image(path, dataset.exif == "apply", bits, partial(size_of, dataset, label))
        orientation = unclear_orientation(path, label) if label and not dataset.exif else 0
    except (FileNotFoundError, ValueError) as error:
        return ImageFacts(path, fault=why_not_read(path, error))
    digest = hashlib.blake2b(pixels.data, digest_size=16, key=repr(pixels.shape).encode()).digest()
    return ImageFacts(path, pixels.shape[:2], digest, None, orientation, bits)


def size_of(dataset: SegmentationDataset, label: Path | None) -> Size:
    """(H, W) of a label that can be read; any other is said to be wrong where it is read."""
    with suppress(FileNotFoundError, ValueError):
        return dataset.label_size(label) if label else (0, 0)
    return 0, 0


def examine_label(dataset: SegmentationDataset, path: Path, image: Path) -> LabelFacts:
    """Size and ids of a label, which is compared with its instance map.

    If it holds no ids, its image is looked at: they may be swapped.
    """
    try:
        ids = dataset.read_label(path)
        facts = measure_label(dataset, path, image, ids)
    except (FileNotFoundError, ValueError) as error:
        return LabelFacts(path, image, fault=_why_no_ids(dataset, path, image, error))
    if (instance := dataset.instance(path)) is None:
        return facts
    fault = _compare_instances(dataset, instance, ids, facts.lookup)
    return replace(facts, has_instances=True, fault=fault)


def measure_label(
    dataset: SegmentationDataset, path: Path, image: Path, ids: np.ndarray
) -> LabelFacts:
    """Size and ids of a label that has been read, and colors that its palette may have."""
    counts = histogram(ids)
    present = {int(i): int(counts[i]) for i in np.flatnonzero(counts)}
    colors: dict[int, Color] = {}
    if path.suffix.lower() == ".png" and read_colors(path):
        colors = used_colors(path, read_label(path, palette=True))
        if {*colors.values()} & {*dataset.label_colors.values()} - {BLACK}:  # read by them
            colors = {}
    return LabelFacts(path, image, ids.shape, present, dataset.lookup(path), colors=colors)


def why_not_read(path: Path, error: Exception) -> Fault:
    """The fault of a file that a reader refused."""
    reason = str(error).rpartition(": ")[2]
    try:
        if not path.is_file():  # a pipe must not be opened
            return Fault("unreadable", path, reason)
        with path.open("rb") as file:
            head = file.read(26)
    except OSError as denied:
        return Fault("unreadable", path, denied.strerror or "")
    if not head:
        return Fault("empty-file", path)
    if path.suffix == ".json":  # polygons
        return Fault("damaged", path, reason)
    if not (stored := stored_as(head)):
        markup = head.lstrip().startswith(b"<")
        return Fault("not-an-image", path, "a web page, saved in its place" if markup else "")
    if error.__cause__:  # what the decoder ran into; a kind that readers refuse has none
        return Fault("damaged", path, stored)
    return Fault("refused", path, reason)


def _why_no_ids(dataset: SegmentationDataset, path: Path, image: Path, error: Exception) -> Fault:
    fault = why_not_read(path, error)
    if fault.kind != "refused":
        return fault
    with path.open("rb") as file:
        stored = stored_as(file.read(26))
    kind = "lossy-label"
    if stored.endswith("PNG"):
        kind = next((kind for name, kind in LABEL_KINDS.items() if name in stored), "refused")
    if kind in ("color-label", "lossy-label") and _holds_ids(image, dataset.id_to_train_id):
        return Fault("swapped", path, f"its image is {image.name}")
    if dataset.lookup(path) is MERGED or fault.detail.startswith(("its palette", "its color")):
        return Fault("other-colors", path, fault.detail.partition(";")[0])
    return fault if kind == "refused" else Fault(kind, path, stored)


def _holds_ids(image: Path, lookup: np.ndarray) -> bool:
    """An image that could be a label: few values, all of them known."""
    try:
        ids = np.flatnonzero(histogram(read_label(image, palette=True)))
    except (FileNotFoundError, ValueError):
        return False
    return len(ids) <= MOST_IDS and bool((lookup[ids] != UNKNOWN).all())


@cache
def instance_ids(factor: int) -> np.ndarray:
    """(65536,) uint8: the id in each value of an instance map, id * factor + number or bare."""
    values = np.arange(1 << 16)
    return np.where(values < factor, values, values // factor).clip(max=255).astype(np.uint8)


def _compare_instances(
    dataset: SegmentationDataset, path: Path, ids: np.ndarray, lookup: np.ndarray
) -> Fault | None:
    try:
        instances = read_instances(path)
    except (FileNotFoundError, ValueError) as error:
        fault = why_not_read(path, error)
        return Fault("instances", path, fault.detail) if fault.kind == "refused" else fault
    if instances.shape != ids.shape:
        (h, w), (height, width) = instances.shape, ids.shape
        return Fault("size", path, f"{w}x{h}, its label {width}x{height}")
    expected = instance_ids(dataset.INSTANCE_FACTOR).take(instances)
    if lookup is not dataset.id_to_train_id:  # the label has train ids
        expected, ids = dataset.id_to_train_id.take(expected), lookup.take(ids)
    if differ := np.count_nonzero(expected != ids):
        return Fault("instances", path, f"in {100 * differ / ids.size:.2f} % of the pixels")
    return None
