"""CamVid: the 480x360 tutorial version with 11 classes, or the original 960x720 with 32 colors.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009. The original's classes are
merged into the same 11; both have the split of the SegNet tutorial.
"""

from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, lookup_table
from datasets.samples import Files, by_name
from utils.files import read_text
from utils.images import read_image
from utils.labels import IGNORE, color_ids

CLASSES = (
    ("sky", (128, 128, 128)),
    ("building", (128, 0, 0)),
    ("pole", (192, 192, 128)),
    ("road", (128, 64, 128)),
    ("sidewalk", (0, 0, 192)),
    ("tree", (128, 128, 0)),
    ("sign", (192, 128, 128)),
    ("fence", (64, 64, 128)),
    ("car", (64, 0, 128)),
    ("pedestrian", (64, 64, 0)),
    ("bicyclist", (0, 128, 192)),
)
# fmt: off
ORIGINAL = (  # name, color, which of the 11
    ("Animal",            (64, 128, 64),   "pedestrian"),
    ("Archway",           (192, 0, 128),   "building"),
    ("Bicyclist",         (0, 128, 192),   "bicyclist"),
    ("Bridge",            (0, 128, 64),    "building"),
    ("Building",          (128, 0, 0),     "building"),
    ("Car",               (64, 0, 128),    "car"),
    ("CartLuggagePram",   (64, 0, 192),    "pedestrian"),
    ("Child",             (192, 128, 64),  "pedestrian"),
    ("Column_Pole",       (192, 192, 128), "pole"),
    ("Fence",             (64, 64, 128),   "fence"),
    ("LaneMkgsDriv",      (128, 0, 192),   "road"),
    ("LaneMkgsNonDriv",   (192, 0, 64),    "road"),
    ("Misc_Text",         (128, 128, 64),  "sign"),
    ("MotorcycleScooter", (192, 0, 192),   "bicyclist"),
    ("OtherMoving",       (128, 64, 64),   "car"),
    ("ParkingBlock",      (64, 192, 128),  "sidewalk"),
    ("Pedestrian",        (64, 64, 0),     "pedestrian"),
    ("Road",              (128, 64, 128),  "road"),
    ("RoadShoulder",      (128, 128, 192), "sidewalk"),
    ("Sidewalk",          (0, 0, 192),     "sidewalk"),
    ("SignSymbol",        (192, 128, 128), "sign"),
    ("Sky",               (128, 128, 128), "sky"),
    ("SUVPickupTruck",    (64, 128, 192),  "car"),
    ("TrafficCone",       (0, 0, 64),      "pole"),
    ("TrafficLight",      (0, 64, 64),     "sign"),
    ("Train",             (192, 64, 128),  "car"),
    ("Tree",              (128, 128, 0),   "tree"),
    ("Truck_Bus",         (192, 128, 192), "car"),
    ("Tunnel",            (64, 0, 64),     "building"),
    ("VegetationMisc",    (192, 192, 0),   "tree"),
    ("Void",              (0, 0, 0),       ""),
    ("Wall",              (64, 192, 0),    "building"),
)
# fmt: on
NAMES = [name for name, _ in CLASSES]
TABLE = ClassTable(
    class_names=NAMES,
    palette=[color for _, color in CLASSES],
    train_id_to_id=list(range(11)),
    id_to_train_id=lookup_table({**{i: i for i in range(11)}, 11: IGNORE}),
)
MERGED = lookup_table(
    {i: NAMES.index(name) if name else IGNORE for i, (_, _, name) in enumerate(ORIGINAL)})
STILLS, LABELED = "701_StillsRaw_full", "LabeledApproved_full"


class CamVid(SegmentationDataset):
    """Splits train (367), val (101, one clip), test (233). Groups are the sequences.

    In the tutorial version `SPLIT.txt`, where there is one, says which images are of the split.
    """

    SPLITS = {"train": 367, "val": 101, "test": 233}

    def table(self) -> ClassTable:
        return TABLE

    def files(self, split: str) -> Files:
        if (self.root / STILLS).is_dir():
            return self._original(split)
        images = by_name((self.root / split).glob("*.png"))
        labels = by_name((self.root / f"{split}annot").glob("*.png"))
        names, missing = self.root / f"{split}.txt", []
        if names.exists():  # lines "/SegNet/CamVid/train/NAME.png /SegNet/CamVid/trainannot/..."
            lines = [line.split() for line in read_text(names).splitlines()]
            listed = [Path(words[0]).stem for words in lines if words]
            missing = [(names, name) for name in listed if name not in images]
            images = {name: images[name] for name in listed if name in images}
            labels = {name: labels[name] for name in listed if name in labels}
        wanted = None if split == "test" and not labels else f"{split}annot/*.png"
        hint = "; the folder that holds train/, trainannot/, val/, valannot/ is expected"
        return Files(images, f"{split}/*.png", labels, wanted, hint, missing=missing)

    def _original(self, split: str) -> Files:
        lines = Path(__file__).with_name("camvid_split.txt").read_text().splitlines()
        names = {name for name, part in map(str.split, lines) if part == split}
        images, labels = (
            {name: path for name, path in found.items() if name in names}
            for found in (by_name((self.root / STILLS).glob("*.png")),
                          by_name((self.root / LABELED).glob("*_L.png"), "_L.png")))
        return Files(images, f"{STILLS}/NAME.png", labels, f"{LABELED}/NAME_L.png",
                     f"; {len(names)} names are known of {split}")

    def group(self, name: str, image: Path) -> str:
        return name.split("_")[0]

    def read_label(self, label: Path) -> np.ndarray:
        """(H, W) uint8, of the original the places in ORIGINAL; ValueError for other colors."""
        if not label.name.endswith("_L.png"):
            return super().read_label(label)
        ids = color_ids(read_image(label), [color for _, color, _ in ORIGINAL])
        if (strange := (ids == IGNORE).mean()) > 0.01:  # a few stray pixels are ignored
            raise ValueError(f"{label}: {100 * strange:.0f} % of its pixels have none of the "
                             "32 colors of CamVid; other data set, or saved as JPEG?")
        return ids

    def lookup(self, label: Path) -> np.ndarray:
        return self.merged(MERGED) if label.name.endswith("_L.png") else self.id_to_train_id
