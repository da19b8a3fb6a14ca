"""What every data set is: a list of files, a class table, and how a sample is read."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.classes import ClassTable, map_ids, merge_classes
from datasets.samples import Files, Sample, check_sizes, choose, distinct_names
from utils.images import read_image, read_label, read_size


class SampleKey(NamedTuple):
    """What a training asks a data set for."""

    epoch: int
    position: int  # in the epoch, which the random draws of a sample depend on
    sample: int  # its index
    center: tuple[int, int] | None = None  # x and y that the crop has to contain


class SampleReader(Protocol):
    """What may read samples in place of their files, for example a cache."""

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""

    def read_ids(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8 ids."""


class SegmentationDataset(Dataset):
    """Images with labels, as (H, W, 3) uint8 RGB and (H, W) uint8 train ids.

    A subclass gives `table()` and `files()`, and replaces what else is different in it.

    Args:
        root: folder of the data set.
        split: for example "train"; "train+train_extra" is both, "trainval" is train+val; "" is
            none, for what needs the classes and `files()` alone.
        transform: `transform(image, ids, epoch, position, center, mapping=f) -> (image, train ids)`
            where f maps ids, or a part of them, to train ids.
        holdout: a group (city, sequence) that leaves train and becomes val, or a share of train.
        cv_split: number of a published cross-validation, which redistributes train and val.

    Raises:
        FileNotFoundError: nothing found under `root`.
        ValueError: images without label, labels without image, no such group or number.
    """

    SPLITS: dict[str, int] = {}  # published parts and their numbers of images
    CV_SPLITS = 0  # published cross-validations
    CV_DEFAULT: int | None = None  # where no train and val but these are published
    cache: SampleReader | None = None  # of every sample; files are read where there is none
    exif: str | None = None  # apply or ignore it, where the label's size does not tell
    bits: int | None = None  # of values in 16-bit images; None is all 16
    class_map: dict[str, str] | None = None  # from its own classes to those it has
    label_colors: dict[int, tuple[int, int, int]] = {}  # of ids, where labels may hold colors
    INSTANCE_FACTOR = 1000  # instance maps hold id * this + number, or the bare id

    def __init__(
        self, root: str | Path, split: str, transform: Callable | None = None,
        holdout: str | float | None = None, cv_split: int | None = None,
    ) -> None:
        self.root, self.split, self.transform = Path(root).resolve(), split, transform
        self.own_classes = self.table()
        self._use(self.own_classes)
        self.holdout_fraction = holdout if isinstance(holdout, float) else None
        self.cv_split = cv_split
        self.samples = choose(self, split, holdout, cv_split) if split else []

    def _use(self, table: ClassTable) -> None:
        self.classes = table
        self.class_names, self.palette = table.class_names, table.palette
        self.train_id_to_id, self.id_to_train_id = table.train_id_to_id, table.id_to_train_id

    def merge(self, class_map: dict[str, str]) -> None:
        """Has classes in place of its own, which labels are mapped to, as of `merge_classes`."""
        table, self._onto = merge_classes(self.own_classes, class_map)
        self.class_map = class_map
        self._use(table)

    def merged(self, table: np.ndarray) -> np.ndarray:
        """(256,) uint8 from ids to train ids of its own classes -> to those it has now."""
        return self._onto[table] if self.class_map else table

    def table(self) -> ClassTable:
        """The classes."""
        raise NotImplementedError

    def files(self, split: str) -> Files:
        """What is on disk of one part, by name; nothing is an empty answer, not an error."""
        raise NotImplementedError

    def parts(self) -> list[str]:
        """Names that `files()` takes, whether they are on disk or not."""
        return list(self.SPLITS)

    def group(self, name: str, image: Path) -> str:
        """City or sequence of an image."""
        return self.split

    def instance(self, label: Path) -> Path | None:
        """The instance map that belongs to a label."""
        return None

    def cross_validate(self, samples: list[Sample], number: int) -> set[str]:
        """Names of those of train and val that are val in a published cross-validation."""
        raise NotImplementedError

    def find(self, split: str) -> list[Sample]:
        """The samples of one part. Raises as the constructor."""
        return [
            Sample(image, label, label and self.instance(label), name, self.group(name, image))
            for name, image, label in self.files(split).pairs(self.root)
        ]

    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of every image, from the headers; ValueError if a label has another."""
        return check_sizes(self)

    @property
    def names(self) -> list[str]:
        """Of all samples, each another one."""
        return distinct_names(self.samples, self.root)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | SampleKey) -> tuple[Tensor, Tensor | None]:
        """One sample; an index stands for that position of epoch 0."""
        key = key if isinstance(key, tuple) else SampleKey(0, key, key)
        epoch, position, index, center = key
        image = self.read_image(index)
        ids = self.read_ids(index) if self.samples[index].label else None
        if ids is not None and ids.shape != image.shape[:2]:
            raise ValueError(f"{self.samples[index].label}: not the size of its image")
        mapping = partial(self.to_train_ids, index=index)
        if self.transform:
            image, target = self.transform(image, ids, epoch, position, center, mapping=mapping)
        else:
            target = None if ids is None else mapping(ids)
        return (torch.from_numpy(np.require(image, requirements="W")),
                None if target is None else torch.from_numpy(target))

    def read_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB, perhaps read-only."""
        sample = self.samples[index]
        if self.cache:
            return self.cache.read_image(sample)
        return self.read_picture(sample.image, sample.label)

    def read_picture(self, image: Path, label: Path | None) -> np.ndarray:
        """(H, W, 3) uint8 RGB of an image file, turned as it belongs to its label."""
        return read_image(image, bits=self.bits, **self._turned(label))

    def picture_size(self, image: Path, label: Path | None) -> tuple[int, int]:
        """(H, W) of what `read_picture` gives, without decoding it."""
        return read_size(image, **self._turned(label))

    def _turned(self, label: Path | None) -> dict[str, Any]:
        return {"upright": self.exif == "apply",
                "label_size": label and partial(self.label_size, label)}

    def read_ids(self, index: int) -> np.ndarray:
        """(H, W) uint8, as stored in the label file, perhaps read-only."""
        label = self.samples[index].truth
        return self.cache.read_ids(self.samples[index]) if self.cache else self.read_label(label)

    def to_train_ids(self, ids: np.ndarray, index: int) -> np.ndarray:
        """(H, W) uint8 ids -> train ids; ValueError with the file's name if an id is none."""
        label = self.samples[index].truth
        return map_ids(ids, self.lookup(label), label)

    def read_label(self, label: Path) -> np.ndarray:
        """(H, W) uint8 ids of a label file."""
        return read_label(label)

    def label_size(self, label: Path) -> tuple[int, int]:
        """(H, W) of a label file, without decoding it."""
        return read_size(label)

    def lookup(self, label: Path) -> np.ndarray:
        """(256,) uint8 table from the ids of a label file to train ids."""
        return self.id_to_train_id
