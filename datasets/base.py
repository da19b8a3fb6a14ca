"""What every data set is: a list of files, a class table, and how a sample is read."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.classes import UNKNOWN, ClassTable
from datasets.pairing import Sample
from utils.images import read_image, read_label, read_size

Key = tuple[int, int, int, tuple[int, int] | None]


class SegmentationDataset(Dataset):
    """Images with labels, as (H, W, 3) uint8 RGB and (H, W) uint8 train ids.

    A subclass gives `table()` and `find()`.

    Args:
        root: folder of the data set.
        split: for example "train"; "trainval" is train and val together.
        transform: `transform(image, ids, epoch, position, center) -> (image, ids)`.
        holdout: a group (city, sequence) that leaves train and becomes val.

    Raises:
        FileNotFoundError: nothing found under `root`.
        ValueError: images without label, labels without image.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        transform: Callable | None = None,
        holdout: str | None = None,
    ) -> None:
        self.root, self.split, self.transform = Path(root).resolve(), split, transform
        table = self.table()
        self.class_names, self.palette = table.class_names, table.palette
        self.train_id_to_id, self.id_to_train_id = table.train_id_to_id, table.id_to_train_id
        if holdout:
            self.samples = self._hold_out(holdout)
        else:
            parts = ("train", "val") if split == "trainval" else (split,)
            self.samples = [sample for part in parts for sample in self.find(part)]

    def _hold_out(self, group: str) -> list[Sample]:
        samples = self.find("train")
        groups = {sample.group for sample in samples}
        if self.split not in ("train", "val") or group not in groups or len(groups) == 1:
            raise ValueError(
                f"--holdout {group!r} with --split {self.split}: one of the groups of train "
                f"({', '.join(sorted(groups))}), and split train or val, are expected"
            )
        return [s for s in samples if (s.group == group) == (self.split == "val")]

    def table(self) -> ClassTable:
        """The classes."""
        raise NotImplementedError

    def find(self, split: str) -> list[Sample]:
        """The samples of a split.

        Raises:
            FileNotFoundError: there are none; the message says where and for what it looked.
        """
        raise NotImplementedError

    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of every image, from the headers.

        Raises:
            ValueError: a label has another size than its image.
        """
        def size(sample: Sample) -> tuple[int, int]:
            image = read_size(sample.image)
            if sample.label and (label := read_size(sample.label)) != image:
                raise ValueError(
                    f"{sample.label}: {label[1]}x{label[0]}, its image {image[1]}x{image[0]}"
                )
            return image

        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(size, self.samples))

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Key) -> tuple[Tensor, Tensor | None]:
        """One sample; the key is an index or (epoch, position in it, index, crop center)."""
        epoch, position, index, center = key if isinstance(key, tuple) else (0, key, key, None)
        image = self.read_image(index)
        ids = self.read_ids(index) if self.samples[index].label else None
        if ids is not None and ids.shape != image.shape[:2]:
            raise ValueError(f"{self.samples[index].label}: not the size of its image")
        if self.transform:
            image, ids = self.transform(image, ids, epoch, position, center)
        target = None if ids is None else torch.from_numpy(self.to_train_ids(ids, index))
        return torch.from_numpy(image), target

    def read_image(self, index: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return read_image(self.samples[index].image)

    def read_ids(self, index: int) -> np.ndarray:
        """(H, W) uint8, as stored in the label file."""
        return read_label(self.samples[index].label)

    def to_train_ids(self, ids: np.ndarray, index: int) -> np.ndarray:
        """(H, W) uint8 ids -> train ids; sample `index` is named when an id is none.

        Raises:
            ValueError: an id that the data set does not have.
        """
        target = cv2.LUT(ids, self.id_to_train_id)
        if (wrong := target == UNKNOWN).any():
            unknown = np.unique(ids[wrong]).tolist()
            known = np.flatnonzero(self.id_to_train_id < UNKNOWN)
            raise ValueError(
                f"{self.samples[index].label}: ids {unknown[:5]} are not of this data set, whose "
                f"classes have ids {known.min()} to {known.max()}; other data set, or colors?"
            )
        return target
