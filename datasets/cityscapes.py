"""Cityscapes: https://www.cityscapes-dataset.com, Cordts et al., CVPR 2016.

Two layouts are found: flat (`leftImg8bit/`, `gtFine/`) and one folder per archive
(`leftImg8bit_trainvaltest/leftImg8bit/`), each archive where it is. Images may be recompressed.
"""

from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.cityscapes_labels import TABLE, TRAIN_IDS
from datasets.classes import ClassTable
from datasets.polygons import draw_polygons, polygons_size
from datasets.samples import Files, Sample, by_name

IMAGES = (
    "leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit", "leftImg8bit_trainextra/leftImg8bit",
    "leftImg8bit_demoVideo/leftImg8bit",
)
SEQUENCES = ("leftImg8bit_sequence", "leftImg8bit_sequence_trainvaltest/leftImg8bit_sequence")
FINE = ("gtFine", "gtFine_trainvaltest/gtFine")
COARSE = ("gtCoarse", "gtCoarse/gtCoarse")
FORMATS = (".png", ".webp", ".jpg", ".jpeg")  # of images; labels must be exact
SUFFIXES = ("_labelIds.png", "_labelTrainIds.png", "_polygons.json")  # of labels, by preference


class Cityscapes(SegmentationDataset):
    """19 classes.

    Splits: train, val, test; train_extra, which has coarse labels only; train_coarse and
    val_coarse, the images of train and val with coarse labels; without labels demoVideo and
    train_sequence, val_sequence, test_sequence, the 30 frames of each snippet. Labels are read from
    `labelIds`, else `labelTrainIds`, else drawn from `polygons`.
    """

    SPLITS = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    CV_SPLITS = 3

    def table(self) -> ClassTable:
        return TABLE

    def files(self, split: str) -> Files:
        folder, _, kind = split.partition("_")
        if kind not in ("", "extra", "coarse", "sequence"):
            known = [*self.parts(), *(f"{part}_sequence" for part in ("train", "val", "test"))]
            raise ValueError(f"--split {split}: Cityscapes has {', '.join(known)}")
        coarse = kind in ("extra", "coarse")
        folder = split if kind == "extra" else folder
        # One frame in the folders of two cities, or in two formats.
        clashes: list[tuple[Path, Path]] = []
        places = SEQUENCES if kind == "sequence" else IMAGES
        images = self._glob(places, folder, "_leftImg8bit", clashes, FORMATS)
        pattern = f"{places[0]}/{folder}/CITY/*_leftImg8bit.png"
        hint = "" if images else self._hint()
        # The labels that come with test are those of an empty image.
        if folder in ("test", "demoVideo") or kind == "sequence":
            return Files(images, pattern, hint=hint, clashes=clashes)
        name = "gtCoarse" if coarse else "gtFine"
        labels: dict[str, Path] = {}
        for suffix in SUFFIXES:
            suffix = f"_{name}{suffix}"
            labels = self._glob(COARSE if coarse else FINE, folder, suffix, clashes) | labels
        labels = dict(sorted(labels.items()))
        return Files(images, pattern, labels, f"{name}/{folder}/CITY/*_{name}_labelIds.png", hint,
                     clashes)

    def parts(self) -> list[str]:  # without the sequences, 324 GB of frames between the labelled
        return [*self.SPLITS, "train_coarse", "val_coarse", "demoVideo"]

    def _glob(
        self, folders: tuple[str, ...], split: str, suffix: str,
        clashes: list[tuple[Path, Path]], formats: tuple[str, ...] = ("",),
    ) -> dict[str, Path]:
        for folder in folders:
            paths = (path for path in (self.root / folder / split).glob(f"*/*{suffix}*")
                     if path.name.endswith(tuple(suffix + each for each in formats)))
            if found := by_name(paths, suffix, clashes):
                return found
        return {}

    def group(self, name: str, image: Path) -> str:
        return image.parent.name

    def instance(self, label: Path) -> Path | None:
        path = label.with_name(f"{label.name.rsplit('_', 1)[0]}_instanceIds.png")
        return path if path.exists() else None

    def cross_validate(self, samples: list[Sample], number: int) -> set[str]:
        """Three of the 21 cities: 0 is the official val, 1 and 2 are of the sorted train cities."""
        official = {s.group for s in samples if s.image.parent.parent.name == "val"}
        cities = [*sorted(official), *sorted({sample.group for sample in samples} - official)]
        start = number * len(cities) // 3
        chosen = cities[start : start + 3] if number else official
        return {sample.name for sample in samples if sample.group in chosen}

    def read_label(self, label: Path) -> np.ndarray:
        return draw_polygons(label) if label.suffix == ".json" else super().read_label(label)

    def lookup(self, label: Path) -> np.ndarray:
        if label.name.endswith("_labelTrainIds.png"):
            return self.merged(TRAIN_IDS)
        return self.id_to_train_id

    def label_size(self, label: Path) -> tuple[int, int]:
        return polygons_size(label) if label.suffix == ".json" else super().label_size(label)

    def _hint(self) -> str:
        near = [self.root.parent, *(path for path in self.root.glob("*") if path.is_dir())]
        for folder in near:
            if any((folder / layout).is_dir() for layout in IMAGES):
                return f"; did you mean {folder}?"
        return "; the folder that holds leftImg8bit/ and gtFine/ is expected"
