"""What a data set is scored on: labels, true label maps, instances."""

from functools import partial
from typing import Any

import cv2
import numpy as np
from torch.utils.data import Dataset

from datasets.base import SegmentationDataset
from datasets.cityscapes_labels import AVERAGE_SIZES, LABELS, TABLE, Label
from datasets.classes import map_ids
from utils.images import read_instances
from utils.metrics import IGNORE

Item = tuple[np.ndarray | None, np.ndarray, np.ndarray | None]


class ScoredSet(Dataset):
    """The samples of a data set, each as (image, truth, instances) to be scored.

    Data sets with Cityscapes' classes are scored over its 34 ids, as the official scorer does,
    others over their classes and void.

    Args:
        dataset: with labels; its transform is that of evaluation.
        name: of the data set.
        images: False leaves out the image, where predictions are there already.

    Raises:
        ValueError: a sample has no label.
    """

    def __init__(self, dataset: SegmentationDataset, name: str, images: bool = True) -> None:
        self.dataset, self.name, self.images = dataset, name, images
        for sample in dataset.samples[:1]:
            _ = sample.truth
        classes = len(dataset.class_names)
        self.by_id = dataset.class_names == TABLE.class_names
        self.instances = self.by_id and all(sample.instance for sample in dataset.samples)
        self.sizes = AVERAGE_SIZES
        # from a channel of the logits, or a train id, to a label; what is no class is void
        self.from_ids = np.arange(256, dtype=np.uint8)
        self.from_ids[IGNORE] = 0
        self.from_train_ids = np.full(256, 0 if self.by_id else classes, np.uint8)
        if self.by_id:
            self.labels = [label for label in LABELS if label.id >= 0]
            self.from_train_ids[:classes] = TABLE.train_id_to_id
        else:
            make = partial(Label, category="", has_instances=False)
            ids = dataset.train_id_to_id
            rows = zip(dataset.class_names, ids, dataset.palette, strict=True)
            self.labels = [
                make(name=name, id=number, train_id=i, ignored=False, color=color)
                for i, (name, number, color) in enumerate(rows)
            ]
            void = min(set(range(256)) - set(ids))
            self.labels.append(
                make(name="void", id=void, train_id=IGNORE, ignored=True, color=(0, 0, 0))
            )
            self.from_train_ids[:classes] = np.arange(classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """(H, W, 3) uint8 or None; (h, w) uint8 labels; (h, w) uint16 label * 1000 + n, or None."""
        ids = self.dataset.read_ids(index)
        image: Any = self.dataset.read_image(index) if self.images else None
        transform = self.dataset.transform
        if image is not None and transform:
            whole = ids.shape
            image, ids = transform(image, ids)
            if ids.shape != whole:  # a crop of instances is none
                return image, self.to_labels(ids, index), None
        return image, self.to_labels(ids, index), self.read_instances(index)

    def to_labels(self, ids: np.ndarray, index: int) -> np.ndarray:
        """(H, W) uint8 ids of a label file -> labels."""
        train_ids = self.dataset.to_train_ids(ids, index)
        lookup = self.dataset.lookup(self.dataset.samples[index].truth)
        if self.by_id and lookup is self.dataset.id_to_train_id:
            return cv2.LUT(ids, self.from_ids)
        return cv2.LUT(train_ids, self.from_train_ids)

    def ids_to_labels(self, ids: np.ndarray, path: Any) -> np.ndarray:
        """(H, W) uint8 predicted ids of the data set -> labels.

        Raises:
            ValueError: an id that the data set does not have.
        """
        train_ids = map_ids(ids, self.dataset.id_to_train_id, path)
        return ids if self.by_id else cv2.LUT(train_ids, self.from_train_ids)

    def read_instances(self, index: int) -> np.ndarray | None:
        """(H, W) uint16 label * 1000 + n, or the bare label; None where no instances are known."""
        path = self.dataset.samples[index].instance
        if not self.instances or path is None:
            return None
        stored = read_instances(path)
        factor = self.dataset.INSTANCE_FACTOR
        if factor == 1000:
            return stored
        label, number = np.divmod(stored, factor)
        # a bare id has number 0
        return np.where(number > 0, label * np.uint16(1000) + number, label)
