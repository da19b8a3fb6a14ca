"""What a data set is scored on: labels, true label maps, instances.

These can be kept on disk as runs of equal pixels, which read faster than PNGs decode. They take
some 300 kB of an image of 1024x2048, and do not change from one evaluation to the next.
"""

from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch.utils.data import Dataset

from datasets.base import SegmentationDataset
from datasets.cache.decoded import Cache, CacheFiles
from datasets.cityscapes_labels import AVERAGE_SIZES, LABELS, TABLE, Label
from datasets.classes import map_ids
from datasets.samples import Sample
from utils.images import read_instances
from utils.labels import IGNORE, from_runs, to_runs

Item = tuple[np.ndarray | None, np.ndarray, np.ndarray | None]


class TruthCache(Cache):
    """Runs of every sample, see `utils.labels`."""

    def labels(self, sample: Sample) -> tuple[np.ndarray, tuple[int, int]]:
        """(2, R) int32 runs of ids as the label file has them, and (H, W)."""
        return self._runs(sample, 0), self.entries[sample].shape

    def instances(self, sample: Sample) -> np.ndarray:
        """(2, R) int32 runs of the instance map as its file has it."""
        return self._runs(sample, 1)

    def _runs(self, sample: Sample, part: int) -> np.ndarray:
        return self._bytes(sample, part).view(np.int32).reshape(2, -1)


def read_instance_runs(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """(2, R) int32 runs of an instance map; ValueError if it is not of its label's `shape`."""
    pixels = read_instances(path)
    if pixels.shape != shape:
        raise ValueError(f"{path}: {pixels.shape[1]}x{pixels.shape[0]}, its label "
                         f"{shape[1]}x{shape[0]}")
    return to_runs(pixels)


class TruthFiles(CacheFiles):
    """Makes a `TruthCache`. Arguments as of `open_truth`."""

    KIND = "truth"
    SOURCES = ("truth", "instance")

    def encode(self, index: int) -> tuple[tuple[int, int], list[np.ndarray]]:
        sample = self.dataset.samples[index]
        ids = self.dataset.read_label(sample.truth)
        runs = [to_runs(ids)]
        if sample.instance:
            runs.append(read_instance_runs(sample.instance, ids.shape))
        return ids.shape, runs


def open_truth(dataset: SegmentationDataset, threads: int = 1) -> TruthCache:
    """Labels and instances of all samples; what is missing or out of date is made first.

    Raises as `datasets.cache.decoded.open_cache`.
    """
    return TruthCache(TruthFiles(dataset, threads).complete())


class ScoredSet(Dataset):
    """The samples of a data set, each as (image, truth, instances) to be scored.

    Data sets with Cityscapes' classes are scored over its 34 ids, as the official scorer does,
    others over their classes and void. ValueError if a sample has no label.

    Args:
        dataset: with labels; its transform is that of evaluation.
        name: of the data set.
        images: False leaves out the image, where predictions are there already.
    """

    def __init__(self, dataset: SegmentationDataset, name: str, images: bool = True) -> None:
        self.dataset, self.name, self.images = dataset, name, images
        self.truth: TruthCache | None = None  # files are read where there is none
        for sample in dataset.samples[:1]:
            _ = sample.truth
        classes = len(dataset.class_names)
        own = dataset.class_names, dataset.train_id_to_id
        self.by_id = own == (TABLE.class_names, TABLE.train_id_to_id)
        self.instances = self.by_id and all(sample.instance for sample in dataset.samples)
        self.sizes = AVERAGE_SIZES
        self.countable = [label.id for label in LABELS if label.has_instances]
        # from a channel of the logits, or a train id, to a label; what is no class is void
        self.from_train_ids = np.full(256, 0 if self.by_id else classes, np.uint8)
        if self.by_id:
            self.labels = [label for label in LABELS if label.id >= 0]
            self.from_train_ids[:classes] = TABLE.train_id_to_id
        else:
            make = partial(Label, category="", has_instances=False)
            ids = dataset.train_id_to_id
            rows = zip(dataset.class_names, ids, dataset.palette, strict=True)
            self.labels = [make(name=name, id=number, train_id=i, ignored=False, color=color)
                           for i, (name, number, color) in enumerate(rows)]
            void = min(set(range(256)) - set(ids))
            self.labels.append(make(name="void", id=void, train_id=IGNORE, ignored=True,
                                    color=(0, 0, 0)))
            self.from_train_ids[:classes] = np.arange(classes)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        """(H, W, 3) uint8 or None; (h, w) uint8 labels; (2, R) int32 runs of label * 1000 + n, or
        None where no instances are known.
        """
        image: Any = self.dataset.read_image(index) if self.images else None
        transform = self.dataset.transform
        whole = labels = self.read_truth(index)
        if image is not None and transform:
            image, labels = transform(image, whole)
        if labels is not whole:  # a crop; what lies outside the image is 255
            labels = np.where(labels == IGNORE, self.from_train_ids[IGNORE], labels)
        cropped = not np.array_equal(labels, whole)  # a crop of instances is none
        return image, labels, None if cropped else self.read_instances(index, whole.shape)

    def read_truth(self, index: int) -> np.ndarray:
        """(H, W) uint8 labels."""
        if self.truth is None:
            return self.to_labels(self.dataset.read_ids(index), index)
        (lengths, ids), shape = self.truth.labels(self.dataset.samples[index])
        labels = self.to_labels(ids[None].astype(np.uint8), index)
        return from_runs(np.stack([lengths, labels[0]]), shape)

    def to_labels(self, ids: np.ndarray, index: int) -> np.ndarray:
        """(H, W) uint8 ids of a label file -> labels."""
        lookup = self.dataset.lookup(self.dataset.samples[index].truth)
        same = self.by_id and lookup is self.dataset.id_to_train_id
        if same and ids.max() < len(self.labels):
            return ids
        train_ids = self.dataset.to_train_ids(ids, index)
        if same:
            return np.where(ids == IGNORE, np.uint8(0), ids)
        return cv2.LUT(train_ids, self.from_train_ids)

    def ids_to_labels(self, ids: np.ndarray, path: Any) -> np.ndarray:
        """(H, W) uint8 predicted ids -> labels; ValueError if the data set lacks one."""
        if self.by_id and ids.max() < len(self.labels):
            return ids
        train_ids = map_ids(ids, self.dataset.id_to_train_id, path)
        if self.by_id:
            strange = np.unique(ids[ids >= len(self.labels)])
            raise ValueError(f"{path}: ids {strange.tolist()} are no labels of the data set; 0 is "
                             "unlabeled")
        return cv2.LUT(train_ids, self.from_train_ids)

    def read_instances(self, index: int, shape: tuple[int, ...]) -> np.ndarray | None:
        """(2, R) int32 runs of label * 1000 + n, or the bare label; None if none are known.

        ValueError if the map is not of the label's `shape`, or has instances of what has none.
        """
        sample = self.dataset.samples[index]
        if not self.instances or sample.instance is None:
            return None
        runs = (self.truth.instances(sample) if self.truth
                else read_instance_runs(sample.instance, shape))
        factor = self.dataset.INSTANCE_FACTOR
        if factor != 1000:
            label, number = np.divmod(runs[1], factor)
            # a bare id has number 0
            runs = np.stack([runs[0], np.where(number > 0, label * 1000 + number, label)])
        found = np.unique(runs[1][runs[1] > 1000])
        strange = found[~np.isin(found // 1000, self.countable)]
        if len(strange):
            raise ValueError(f"{sample.instance}: {strange[:5].tolist()} are no instances: id * "
                             "1000 + number of a class that has some")
        return runs
