"""What every data set is: a list of files, a class table, and how a sample is read."""

from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from utils.images import read_image, read_label, read_size
from utils.metrics import IGNORE

UNKNOWN = 254  # in id_to_train_id: an id that the data set does not have

Key = tuple[int, int, int, tuple[int, int] | None]


@dataclass(frozen=True)
class ClassTable:
    """Names and numbers of a data set's classes; lists are in train-id order."""

    class_names: list[str]
    palette: list[tuple[int, int, int]]
    train_id_to_id: list[int]
    id_to_train_id: np.ndarray  # (256,) uint8: a train id, IGNORE or UNKNOWN


@dataclass(frozen=True)
class Sample:
    image: Path
    label: Path | None
    instance: Path | None
    name: str  # unique in its split; predictions are named after it
    group: str  # city or sequence


def lookup_table(id_to_train_id: dict[int, int]) -> np.ndarray:
    """(256,) uint8 from id -> train id; 255 is always ignored, other ids are UNKNOWN."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[list(id_to_train_id)] = list(id_to_train_id.values())
    return table


def visible(paths: Iterable[Path]) -> list[Path]:
    """Sorted, without hidden files (`._x.png` of unpacked Mac archives)."""
    return sorted(path for path in paths if not path.name.startswith("."))


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
            source = "train" if split == "val" else split
            listed = [s for s in self._listed(source) if (s.group == holdout) == (split == "val")]
            if len(listed) in (0, len(self._listed(source))) and split in ("train", "val"):
                groups = sorted({s.group for s in self._listed("train")})
                raise ValueError(f"holdout {holdout!r}: the groups are {', '.join(groups)}")
            self.samples = listed
        else:
            self.samples = self._listed(split)

    def table(self) -> ClassTable:
        """The classes."""
        raise NotImplementedError

    def find(self, split: str) -> tuple[list[Sample], list[Path]]:
        """The samples of a split, and the labels that belong to none of them.

        Raises:
            FileNotFoundError: no image; the message says where and for what it looked.
        """
        raise NotImplementedError

    def _listed(self, split: str) -> list[Sample]:
        samples, orphans = [], []
        for part in ("train", "val") if split == "trainval" else (split,):
            found, rest = self.find(part)
            samples, orphans = samples + found, orphans + rest
        bare = [sample.image for sample in samples if sample.label is None]
        if bare and len(bare) < len(samples):
            raise ValueError(
                f"{bare[0]}: no label; {len(bare)} of {len(samples)} images of {split} have none"
            )
        if orphans:
            raise ValueError(f"{orphans[0]}: no image; {len(orphans)} labels of {split} have none")
        name, count = Counter(sample.name for sample in samples).most_common(1)[0]
        if count > 1:
            raise ValueError(f"{self.root}: {count} images of {split} are called {name}")
        return samples

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
