"""Large street pictures, made of the shipped ones side by side: enlarged, they decode too fast."""

from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from datasets import build_dataset
from datasets.base import SegmentationDataset
from utils.images import read_instances

CITY = Path(__file__).parent.parent / "data" / "city"
INSTANCES = 19  # of an image of Cityscapes, on average: Cordts et al., CVPR 2016
BLUR = 0.8  # pixels; PNGs are then as large as those of Cityscapes, 1.1 bytes a pixel


@dataclass
class Street:
    """One picture of many."""

    image: np.ndarray  # (H, W, 3) uint8 RGB
    ids: np.ndarray  # (H, W) uint8
    instances: np.ndarray  # (H, W) uint16, numbered as in Cityscapes


@cache
def shipped() -> SegmentationDataset:
    """The training split of data/city."""
    return build_dataset("cityscapes", CITY, "train")


def make_street(number: int, size: tuple[int, int]) -> Street:
    """The middle of shipped pictures side by side at their own size; others for each number.

    Args:
        number: from 0.
        size: (H, W).
    """
    city = shipped()
    h, w = city.sizes()[0]
    rows, columns = -(-size[0] // h), -(-size[1] // w)
    street = Street(*(np.empty((rows * h, columns * w, *more), kind) for more, kind in
                      (((3,), np.uint8), ((), np.uint8), ((), np.uint16))))
    taken = np.zeros(256, int)
    for k, (y, x) in enumerate(product(range(rows), range(columns)), number * rows * columns):
        index = k % len(city)
        tile = slice(y * h, y * h + h), slice(x * w, x * w + w)
        street.image[tile] = city.read_image(index)
        street.ids[tile] = city.read_ids(index)
        street.instances[tile] = renumber(read_instances(city.samples[index].instance), taken)
    top, left = (rows * h - size[0]) // 2, (columns * w - size[1]) // 2
    cut = slice(top, top + size[0]), slice(left, left + size[1])
    return Street(street.image[cut], street.ids[cut], street.instances[cut])


def renumber(instances: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Instances of one more picture, with numbers that their classes do not have yet.

    cityscapesScripts scans the image for each: as many are kept as is usual, others are groups.

    Args:
        instances: (h, w) uint16, id * 1000 + number, or an id alone.
        taken: (256,) numbers given so far by id; is changed.
    """
    table = np.arange(1 << 16, dtype=np.uint16)
    for value in np.unique(instances[instances >= 1000]):
        kind, kept = value // 1000, taken.sum() < INSTANCES
        table[value] = kind * 1000 + taken[kind] if kept else kind
        taken[kind] += kept
    return table[instances]


def write_streets(folder: Path, count: int, size: tuple[int, int]) -> float:
    """Writes a training split in the layout of Cityscapes, all as PNG.

    Args:
        folder: becomes the root.
        count: of images, with labels and instances.
        size: (H, W).

    Returns:
        The mean size of an image in MB.
    """
    total = 0
    for number in tqdm(range(count), desc="making images", disable=None):
        street, name = make_street(number, size), f"train/city/city_{number:06d}_000019"
        png = _encode(cv2.GaussianBlur(street.image, (0, 0), BLUR))
        total += len(png)
        for kind, content in (("leftImg8bit", png), ("gtFine_labelIds", _encode(street.ids)),
                              ("gtFine_instanceIds", _encode(street.instances))):
            path = folder / kind.partition("_")[0] / f"{name}_{kind}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return total / count / 1e6


def _encode(array: np.ndarray) -> bytes:
    """A PNG as other programs write it: slower to decode than OpenCV's own."""
    file = BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()
