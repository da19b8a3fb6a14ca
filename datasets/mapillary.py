"""Mapillary Vistas, 1.1/1.2 and 2.0: https://www.mapillary.com/dataset/vistas

Neuhold et al., ICCV 2017. Classes and colors come from the `config*.json` of the set itself; what
it does not evaluate is ignored.
"""

import json
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, lookup_table
from datasets.samples import Files, by_name
from utils.files import read_text
from utils.images import read_label
from utils.labels import IGNORE

FOLDERS = {"train": "training", "val": "validation", "test": "testing"}
# fmt: off
CLASSES = (  # name, color, two a row; the id is the place in the list, 65 is unlabeled
    ("Bird",                     (165, 42, 42)),    ("Ground Animal",            (0, 192, 0)),
    ("Curb",                     (196, 196, 196)),  ("Fence",                    (190, 153, 153)),
    ("Guard Rail",               (180, 165, 180)),  ("Barrier",                  (90, 120, 150)),
    ("Wall",                     (102, 102, 156)),  ("Bike Lane",                (128, 64, 255)),
    ("Crosswalk - Plain",        (140, 140, 200)),  ("Curb Cut",                 (170, 170, 170)),
    ("Parking",                  (250, 170, 160)),  ("Pedestrian Area",          (96, 96, 96)),
    ("Rail Track",               (230, 150, 140)),  ("Road",                     (128, 64, 128)),
    ("Service Lane",             (110, 110, 110)),  ("Sidewalk",                 (244, 35, 232)),
    ("Bridge",                   (150, 100, 100)),  ("Building",                 (70, 70, 70)),
    ("Tunnel",                   (150, 120, 90)),   ("Person",                   (220, 20, 60)),
    ("Bicyclist",                (255, 0, 0)),      ("Motorcyclist",             (255, 0, 100)),
    ("Other Rider",              (255, 0, 200)),    ("Lane Marking - Crosswalk", (200, 128, 128)),
    ("Lane Marking - General",   (255, 255, 255)),  ("Mountain",                 (64, 170, 64)),
    ("Sand",                     (230, 160, 50)),   ("Sky",                      (70, 130, 180)),
    ("Snow",                     (190, 255, 255)),  ("Terrain",                  (152, 251, 152)),
    ("Vegetation",               (107, 142, 35)),   ("Water",                    (0, 170, 30)),
    ("Banner",                   (255, 255, 128)),  ("Bench",                    (250, 0, 30)),
    ("Bike Rack",                (100, 140, 180)),  ("Billboard",                (220, 220, 220)),
    ("Catch Basin",              (220, 128, 128)),  ("CCTV Camera",              (222, 40, 40)),
    ("Fire Hydrant",             (100, 170, 30)),   ("Junction Box",             (40, 40, 40)),
    ("Mailbox",                  (33, 33, 33)),     ("Manhole",                  (100, 128, 160)),
    ("Phone Booth",              (142, 0, 0)),      ("Pothole",                  (70, 100, 150)),
    ("Street Light",             (210, 170, 100)),  ("Pole",                     (153, 153, 153)),
    ("Traffic Sign Frame",       (128, 128, 128)),  ("Utility Pole",             (0, 0, 80)),
    ("Traffic Light",            (250, 170, 30)),   ("Traffic Sign (Back)",      (192, 192, 192)),
    ("Traffic Sign (Front)",     (220, 220, 0)),    ("Trash Can",                (140, 140, 20)),
    ("Bicycle",                  (119, 11, 32)),    ("Boat",                     (150, 0, 255)),
    ("Bus",                      (0, 60, 100)),     ("Car",                      (0, 0, 142)),
    ("Caravan",                  (0, 0, 90)),       ("Motorcycle",               (0, 0, 230)),
    ("On Rails",                 (0, 80, 100)),     ("Other Vehicle",            (128, 64, 64)),
    ("Trailer",                  (0, 0, 110)),      ("Truck",                    (0, 0, 70)),
    ("Wheeled Slow",             (0, 0, 192)),      ("Car Mount",                (32, 32, 32)),
    ("Ego Vehicle",              (120, 10, 10)),
)
# fmt: on
TABLE = ClassTable(
    class_names=[name for name, _ in CLASSES],
    palette=[color for _, color in CLASSES],
    train_id_to_id=list(range(len(CLASSES))),
    id_to_train_id=lookup_table({i: i for i in range(len(CLASSES))} | {len(CLASSES): IGNORE}),
)


def read_config(path: Path) -> ClassTable:
    """The table in a `config*.json`, where a class's id is its place; ValueError if it is none."""
    try:
        labels = json.loads(read_text(path))["labels"]
        names = [str(label["readable"]) for label in labels]
        colors = [(int(r), int(g), int(b)) for r, g, b in (label["color"] for label in labels)]
        counted = [i for i, label in enumerate(labels) if label.get("evaluate", True)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: not a Mapillary Vistas config ({error!r}); take the one that "
                         "came with the data") from None
    if not counted or len(names) > IGNORE:
        raise ValueError(f"{path}: {len(counted)} of {len(names)} classes are evaluated; at least "
                         "one, of at most 255, is expected")
    train_ids = {i: IGNORE for i in range(len(names))} | {i: n for n, i in enumerate(counted)}
    return ClassTable([names[i] for i in counted], [colors[i] for i in counted], counted,
                      lookup_table(train_ids))


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
        return read_label(label, palette=True)


class MapillaryV2(Mapillary):
    """Version 2.0, 124 classes in its config."""

    CONFIGS = ("config_v2.0.json",)
    LABELS = ("v2.0/labels",)
