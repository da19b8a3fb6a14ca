"""KITTI semantics 2015: https://www.cvlibs.net/datasets/kitti, 200 labelled images.

Alhaija et al., IJCV 2018, https://arxiv.org/abs/1708.01566. Labels are Cityscapes ids.
"""

from pathlib import Path

from datasets.base import SegmentationDataset
from datasets.cityscapes_labels import TABLE
from datasets.classes import ClassTable
from datasets.samples import Files, Sample, by_name

# There is no official val; these are the places in the sorted list that Zhu et al., CVPR 2019,
# https://arxiv.org/abs/1812.01593, validate on. They were drawn at random.
CV_SPLITS = (
    (1, 5, 11, 29, 35, 49, 57, 68, 72, 82, 93, 115, 119, 130, 145, 154, 156, 167, 169, 189, 198),
    (0, 12, 24, 31, 42, 50, 63, 71, 84, 96, 101, 112, 121, 133, 141, 155, 164, 171, 187, 191, 197),
    (3, 6, 13, 21, 41, 54, 61, 73, 88, 91, 110, 121, 126, 131, 142, 149, 150, 163, 173, 183, 199),
)


class Kitti(SegmentationDataset):
    """The 19 classes of Cityscapes.

    Splits: train (179) and val (21) by `cv_split`, default 0; trainval (200); test (200 images
    without labels).
    """

    SPLITS = {"trainval": 200, "test": 200}
    CV_SPLITS = len(CV_SPLITS)
    CV_DEFAULT = 0
    INSTANCE_FACTOR = 256

    def table(self) -> ClassTable:
        return TABLE

    def files(self, split: str) -> Files:
        folder = "testing" if split == "test" else "training"
        if split not in ("train", "val", "trainval", "test"):
            raise ValueError(f"--split {split}: KITTI has train, val, trainval and test")
        pattern = f"{folder}/image_2/NNNNNN_10.png"
        hint = "; the folder that holds training/ and testing/ is expected"
        images = by_name((self.root / folder / "image_2").glob("*.png"))
        labelled = self.root / folder / "semantic"
        # Beside the labelled frames, _10, there may be some that were propagated from them.
        images = {name: path for name, path in images.items()
                  if name.endswith("_10") or (labelled / path.name).exists()}
        if split == "test":
            return Files(images, pattern, hint=hint)
        labels = by_name(labelled.glob("*.png"))
        return Files(images, pattern, labels, f"{folder}/semantic/NNNNNN_10.png", hint)

    def instance(self, label: Path) -> Path | None:
        path = label.parent.with_name("instance") / label.name
        return path if path.exists() else None

    def cross_validate(self, samples: list[Sample], number: int) -> set[str]:
        """The published places in the list of 200, which are the numbers of the images."""
        names = {f"{place:06d}_10" for place in CV_SPLITS[number]}
        return {sample.name for sample in samples if sample.name in names}
