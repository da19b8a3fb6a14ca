"""CamVid, the 11-class tutorial version: `{train,val,test}/NAME.png`, labels in `{split}annot/`.

Brostow, Fauqueur, Cipolla, "Semantic object classes in video", 2009. Labels are 0..10, 11 = void.
"""

from pathlib import Path

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, lookup_table
from datasets.pairing import Sample, by_name, pair
from utils.metrics import IGNORE

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
TABLE = ClassTable(
    class_names=[name for name, _ in CLASSES],
    palette=[color for _, color in CLASSES],
    train_id_to_id=list(range(11)),
    id_to_train_id=lookup_table({**{i: i for i in range(11)}, 11: IGNORE}),
)


class CamVid(SegmentationDataset):
    """Splits train (367), val (101, one clip), test (233). Groups are the sequences.

    `SPLIT.txt`, where there is one, says which images belong to the split.
    """

    def table(self) -> ClassTable:
        return TABLE

    def find(self, split: str) -> list[Sample]:
        images = by_name((self.root / split).glob("*.png"))
        labels = by_name((self.root / f"{split}annot").glob("*.png"))
        names = self.root / f"{split}.txt"
        if names.exists():  # lines "/SegNet/CamVid/train/NAME.png /SegNet/CamVid/trainannot/..."
            lines = [line.split() for line in names.read_text().splitlines()]
            listed = [Path(words[0]).stem for words in lines if words]
            if missing := [name for name in listed if name not in images]:
                raise FileNotFoundError(
                    f"{names}: lists {missing[0]}, which {self.root / split} does not have"
                )
            images = {name: images[name] for name in listed}
            labels = {name: labels[name] for name in listed if name in labels}
        if not images:
            raise FileNotFoundError(
                f"{self.root}: no {split}/*.png; the folder that holds train/, trainannot/, val/, "
                "valannot/ is expected"
            )
        if not labels and split != "test":
            raise FileNotFoundError(f"{self.root}: no {split}annot/*.png beside {split}/")
        return pair(images, labels, lambda name, _: name.split("_")[0])
