"""Mapillary Vistas, 1.1/1.2 and 2.0: https://www.mapillary.com/dataset/vistas

Neuhold et al., ICCV 2017. Classes and colors come from the `config*.json` of the set itself; what
it does not evaluate is ignored.
"""

import json
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, lookup_table
from datasets.pairing import Files, by_name
from utils.images import read_label
from utils.metrics import IGNORE

FOLDERS = {"train": "training", "val": "validation", "test": "testing"}


def read_config(path: Path) -> ClassTable:
    """The table in a `config*.json`: a class's id is its place in the list.

    Raises:
        ValueError: not such a file.
    """
    try:
        labels = json.loads(path.read_text(encoding="utf-8"))["labels"]
        names = [str(label["readable"]) for label in labels]
        colors = [(int(r), int(g), int(b)) for r, g, b in (label["color"] for label in labels)]
        counted = [i for i, label in enumerate(labels) if label.get("evaluate", True)]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a Mapillary Vistas config ({error!r}); take the one that "
                         "came with the data") from None
    if not counted or len(names) > IGNORE:
        raise ValueError(f"{path}: {len(counted)} of {len(names)} classes are evaluated; at least "
                         "one, of at most 255, is expected")
    train_ids = {i: IGNORE for i in range(len(names))} | {i: n for n, i in enumerate(counted)}
    return ClassTable(
        class_names=[names[i] for i in counted],
        palette=[colors[i] for i in counted],
        train_id_to_id=counted,
        id_to_train_id=lookup_table(train_ids),
    )


class Mapillary(SegmentationDataset):
    """Version 1.2, 65 classes. Splits train (18000), val (2000), test (5000, without labels)."""

    SPLITS = {"train": 18000, "val": 2000, "test": 5000}
    CONFIGS: tuple[str, ...] = ("config_v1.2.json", "config.json")
    LABELS: tuple[str, ...] = ("v1.2/labels", "labels")

    def table(self) -> ClassTable:
        found = [self.root / name for name in self.CONFIGS if (self.root / name).is_file()]
        if not found:
            raise FileNotFoundError(f"{self.root}: no {' or '.join(self.CONFIGS)}; the folder that "
                                    "holds it, training/ and validation/ is expected")
        return read_config(found[0])

    def files(self, split: str) -> Files:
        folder = FOLDERS.get(split, split)
        images = by_name((self.root / folder / "images").glob("*.jpg"))
        pattern = f"{folder}/images/*.jpg"
        if split == "test":
            return Files(images, pattern)
        labels: dict[str, Path] = {}
        for place in self.LABELS:
            labels = labels or by_name((self.root / folder / place).glob("*.png"))
        return Files(images, pattern, labels, f"{folder}/{self.LABELS[0]}/*.png")

    def read_label(self, label: Path) -> np.ndarray:
        """(H, W) uint8, the indices of its palette PNGs."""
        return read_label(label, palette=True)


class MapillaryV2(Mapillary):
    """Version 2.0, 124 classes in its config."""

    CONFIGS = ("config_v2.0.json",)
    LABELS = ("v2.0/labels",)
