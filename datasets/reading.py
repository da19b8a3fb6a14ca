"""How the images of a training are to be read: what EXIF says of them, and the bits they have."""

from collections.abc import Iterable
from pathlib import Path

from datasets.base import SegmentationDataset
from datasets.samples import Sample
from utils import distributed
from utils.images import needed_bits, read_orientation, read_size
from utils.workers import map_in_threads

THREADS = 8


def unclear_orientation(image: Path, label: Path | None) -> int:
    """The orientation of an image if EXIF turns it and the size of its label does not tell; or 0.

    Labels are drawn on the pixels as they are stored, or on the picture as it is seen. Half a turn,
    a mirror image or a turned square have the size of both, and without a label nothing tells.
    """
    orientation = read_orientation(image)
    height, width = read_size(image) if label and orientation >= 5 else (0, 0)
    return 0 if orientation == 1 or height != width else orientation


def check_exif(dataset: SegmentationDataset) -> None:
    """Raises ValueError for images that EXIF turns, unless it was said what to do with them."""
    if dataset.exif:
        return
    turns = map_in_threads(lambda each: unclear_orientation(each.image, each.label),
                           dataset.samples, THREADS)
    if found := [each.image for each, turn in zip(dataset.samples, turns, strict=True) if turn]:
        raise ValueError(f"{found[0]}: EXIF turns it, and {len(found)} of {len(dataset)} images of "
                         f"{dataset.split}; give --exif apply if labels are drawn on the "
                         "pictures as they are seen, --exif ignore if on the stored pixels")


def find_bits(samples: Iterable[Sample]) -> int | None:
    """The fewest of 8, 10, 12, 14, 16 bits that hold all 16-bit images; None if there is none.

    As they are decoded for that, each rank looks at a part of them.
    """
    paths = sorted({sample.image for sample in samples})
    own = [paths[index] for index in distributed.shard(len(paths))]
    found = max((bits or 0 for bits in map_in_threads(needed_bits, own, THREADS)), default=0)
    return max(distributed.gather(found, patiently=True)) or None


def settle(train: SegmentationDataset, val: SegmentationDataset, exif: str | None) -> None:
    """Makes a training read all its images in one way, and says so. Raises as `check_exif`."""
    for dataset in (train, val):
        dataset.exif = exif
        check_exif(dataset)
    train.bits = val.bits = find_bits(train.samples + val.samples)
    if train.bits:
        distributed.say(f"16-bit images: their values have {train.bits} bits, and are read as such")
