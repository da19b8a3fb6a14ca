"""Cityscapes, fine labels: https://www.cityscapes-dataset.com

Cordts et al., CVPR 2016, https://arxiv.org/abs/1604.01685. Two layouts are found: flat
(`leftImg8bit/`, `gtFine/`) and one folder per archive (`leftImg8bit_trainvaltest/leftImg8bit/`).
"""

from pathlib import Path
from typing import NamedTuple

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, lookup_table
from datasets.pairing import Sample, by_name, pair
from utils.metrics import IGNORE


class Label(NamedTuple):
    name: str
    id: int
    train_id: int
    category: str
    has_instances: bool
    ignored: bool  # in scoring
    color: tuple[int, int, int]


# fmt: off
LABELS = (
    #     name                   id  train  category        inst.  ignored color
    Label("unlabeled",            0, 255, "void",         False, True,  (0, 0, 0)),
    Label("ego vehicle",          1, 255, "void",         False, True,  (0, 0, 0)),
    Label("rectification border", 2, 255, "void",         False, True,  (0, 0, 0)),
    Label("out of roi",           3, 255, "void",         False, True,  (0, 0, 0)),
    Label("static",               4, 255, "void",         False, True,  (0, 0, 0)),
    Label("dynamic",              5, 255, "void",         False, True,  (111, 74, 0)),
    Label("ground",               6, 255, "void",         False, True,  (81, 0, 81)),
    Label("road",                 7,   0, "flat",         False, False, (128, 64, 128)),
    Label("sidewalk",             8,   1, "flat",         False, False, (244, 35, 232)),
    Label("parking",              9, 255, "flat",         False, True,  (250, 170, 160)),
    Label("rail track",          10, 255, "flat",         False, True,  (230, 150, 140)),
    Label("building",            11,   2, "construction", False, False, (70, 70, 70)),
    Label("wall",                12,   3, "construction", False, False, (102, 102, 156)),
    Label("fence",               13,   4, "construction", False, False, (190, 153, 153)),
    Label("guard rail",          14, 255, "construction", False, True,  (180, 165, 180)),
    Label("bridge",              15, 255, "construction", False, True,  (150, 100, 100)),
    Label("tunnel",              16, 255, "construction", False, True,  (150, 120, 90)),
    Label("pole",                17,   5, "object",       False, False, (153, 153, 153)),
    Label("polegroup",           18, 255, "object",       False, True,  (153, 153, 153)),
    Label("traffic light",       19,   6, "object",       False, False, (250, 170, 30)),
    Label("traffic sign",        20,   7, "object",       False, False, (220, 220, 0)),
    Label("vegetation",          21,   8, "nature",       False, False, (107, 142, 35)),
    Label("terrain",             22,   9, "nature",       False, False, (152, 251, 152)),
    Label("sky",                 23,  10, "sky",          False, False, (70, 130, 180)),
    Label("person",              24,  11, "human",        True,  False, (220, 20, 60)),
    Label("rider",               25,  12, "human",        True,  False, (255, 0, 0)),
    Label("car",                 26,  13, "vehicle",      True,  False, (0, 0, 142)),
    Label("truck",               27,  14, "vehicle",      True,  False, (0, 0, 70)),
    Label("bus",                 28,  15, "vehicle",      True,  False, (0, 60, 100)),
    Label("caravan",             29, 255, "vehicle",      True,  True,  (0, 0, 90)),
    Label("trailer",             30, 255, "vehicle",      True,  True,  (0, 0, 110)),
    Label("train",               31,  16, "vehicle",      True,  False, (0, 80, 100)),
    Label("motorcycle",          32,  17, "vehicle",      True,  False, (0, 0, 230)),
    Label("bicycle",             33,  18, "vehicle",      True,  False, (119, 11, 32)),
    Label("license plate",       -1,  -1, "vehicle",      False, True,  (0, 0, 142)),
)
# fmt: on
CLASSES = [label for label in LABELS if 0 <= label.train_id < IGNORE]  # already in that order
TABLE = ClassTable(
    class_names=[label.name for label in CLASSES],
    palette=[label.color for label in CLASSES],
    train_id_to_id=[label.id for label in CLASSES],
    id_to_train_id=lookup_table({label.id: label.train_id for label in LABELS if label.id >= 0}),
)
TRAIN_IDS = lookup_table({label.train_id: label.train_id for label in CLASSES})
LAYOUTS = {  # flat, then one folder per archive
    "leftImg8bit": ("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit"),
    "gtFine": ("gtFine", "gtFine_trainvaltest/gtFine"),
}


class Cityscapes(SegmentationDataset):
    """Splits train, val, test; 19 classes. Reads `labelIds`, or `labelTrainIds` without them."""

    def table(self) -> ClassTable:
        return TABLE

    def find(self, split: str) -> list[Sample]:
        images = self._glob("leftImg8bit", split, "_leftImg8bit.png")
        if not images:
            raise FileNotFoundError(
                f"{self.root}: no leftImg8bit/{split}/CITY/*_leftImg8bit.png{self._hint()}"
            )
        # The test split comes with dummy labels in which nothing counts.
        labels = {} if split == "test" else self._glob("gtFine", split, "_gtFine_labelIds.png")
        if not labels and split != "test":
            labels = self._glob("gtFine", split, "_gtFine_labelTrainIds.png")
            if not labels:
                raise FileNotFoundError(
                    f"{self.root}: no gtFine/{split}/CITY/*_gtFine_labelIds.png, only the images"
                )
            self.id_to_train_id, self.train_id_to_id = TRAIN_IDS, list(range(len(CLASSES)))
        return pair(images, labels, lambda _, path: path.parent.name, instances)

    def _glob(self, kind: str, split: str, suffix: str) -> dict[str, Path]:
        for folder in LAYOUTS[kind]:
            if found := by_name((self.root / folder / split).glob(f"*/*{suffix}"), suffix):
                return found
        return {}

    def _hint(self) -> str:
        near = [self.root.parent, *(path for path in self.root.glob("*") if path.is_dir())]
        for folder in near:
            if any((folder / layout).is_dir() for layout in LAYOUTS["leftImg8bit"]):
                return f"; did you mean {folder}?"
        return "; the folder that holds leftImg8bit/ and gtFine/ is expected"


def instances(label: Path) -> Path | None:
    """The instance map beside a label, if there is one."""
    path = label.with_name(f"{label.name.rsplit('_', 1)[0]}_instanceIds.png")
    return path if path.exists() else None
