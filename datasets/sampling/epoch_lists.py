"""What a training draws from: its own images, propagated frames, coarse labels of rare classes."""

import copy
import hashlib
import re
from dataclasses import dataclass

import numpy as np

from datasets.base import SegmentationDataset
from datasets.samples import Sample
from datasets.sampling.class_uniform import ClassUniformLists, Item, find_centroids
from utils import distributed
from utils.stopping import no_class


@dataclass(frozen=True)
class ListOptions:
    """How epochs are made; the defaults are every image once.

    Args:
        class_uniform: share of an epoch that is class-uniform crops, 0..1.
        tile: side in pixels of the tiles that give one crop center per class.
        until: epoch from which propagated frames and coarse labels are left out.
        coarse_boost: classes that get crop centers from the coarse labels of train_extra too.
        propagated_root: folder of propagated frames, in the data set's own layout.
        skips: k adds the frames k before and k after each labelled one.
        limit: coarsely labelled images that are looked at.
        seed: of the training.
    """

    class_uniform: float = 0.0
    tile: int = 1024
    until: int | None = None
    coarse_boost: tuple[str, ...] = ()
    propagated_root: str | None = None
    skips: tuple[int, ...] = ()
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class AllImages:
    """Every image once per epoch: (own, all) numbers of images, from epoch `until` the own."""

    images: tuple[int, int]
    until: int | None = None

    def length(self, epoch: int) -> int:
        """Items in an epoch's list."""
        return self.images[0 if self.until is not None and epoch >= self.until else 1]

    def build(self, epoch: int) -> list[Item]:
        """An epoch's list."""
        return [(index, None) for index in range(self.length(epoch))]


# What an epoch consists of, before it is shuffled; a function of the epoch alone.
EpochLists = AllImages | ClassUniformLists


def make_lists(
    train: SegmentationDataset, options: ListOptions, threads: int = 1
) -> tuple[EpochLists, list[Sample]]:
    """The lists of the epochs, and the samples that they refer to, those of `train` first.

    Raises:
        FileNotFoundError, ValueError: no such frames, labels or classes.
    """
    boosted = [_class_number(train, name) for name in options.coarse_boost]
    fine = len(train)
    train = copy.copy(train)  # the caller's own keeps its samples
    if options.propagated_root:
        train.samples = train.samples + propagated(train, options.propagated_root, options.skips)
    images = fine, len(train)
    if not options.class_uniform:
        return AllImages(images, options.until), train.samples
    centroids = find_centroids(train, options.tile, threads)
    if not len(centroids):
        raise ValueError(f"--tile {options.tile}: no label holds a whole tile of that many pixels; "
                         "give a smaller one, for example half of a label's height")
    if boosted:
        coarse, samples = find_coarse(train, boosted, options, threads)
        centroids = np.concatenate([centroids, coarse])
        train.samples = train.samples + samples
    absent = set(range(len(train.class_names))) - set(centroids[:, 1].tolist())
    if absent:
        names = ", ".join(train.class_names[train_id] for train_id in sorted(absent))
        distributed.say(f"note: no crop centers of {names}: epochs are shorter for it")
    lists = ClassUniformLists(images, len(train.class_names), centroids, options.class_uniform,
                              options.until, options.seed)
    return lists, train.samples


def find_coarse(
    train: SegmentationDataset, boosted: list[int], options: ListOptions, threads: int
) -> tuple[np.ndarray, list[Sample]]:
    """(K, 4) centroids of the boosted classes in train_extra, and its samples that have them.

    The centroids count these samples on from those of `train`.
    """
    coarse = copy.copy(train)
    coarse.split = "train_extra"
    coarse.samples = train.find("train_extra")[: options.limit]
    centroids = find_centroids(coarse, options.tile, threads)
    centroids = centroids[np.isin(centroids[:, 1], boosted)]
    used, centroids[:, 0] = np.unique(centroids[:, 0], return_inverse=True)
    centroids[:, 0] += len(train)
    return centroids, [coarse.samples[index] for index in used]


def shifted(name: str, frames: int) -> str:
    """The name of a neighboring frame: the number at the end of a name, counted on."""
    return re.sub(r"\d+$", lambda m: f"{int(m[0]) + frames:0{len(m[0])}d}", name)


def propagated(train: SegmentationDataset, root: str, skips: tuple[int, ...]) -> list[Sample]:
    """The frames `skips` before and after each sample of `train` that are under `root`.

    Raises:
        FileNotFoundError: there are none.
    """
    names = {shifted(s.name, sign * k) for s in train.samples for k in skips for sign in (-1, 1)}
    there = type(train)(root, "")
    parts = [part for part in ("train", "val") if there.files(part).images] or ["train"]
    found = list(dict.fromkeys(sample for part in parts for sample in there.find(part)))
    samples = [sample for sample in found if sample.name in names]
    if not samples:
        raise FileNotFoundError(
            f"{there.root}: none of its {len(found)} frames is {' or '.join(map(str, skips))} "
            f"before or after a frame of {train.root}"
        )
    return samples


def _class_number(train: SegmentationDataset, name: str) -> int:
    if name not in train.class_names:
        raise ValueError(f"--coarse-boost {no_class(name, train.class_names)}")
    return train.class_names.index(name)


def lists_digest(dataset: SegmentationDataset, lists: EpochLists) -> str:
    """Changes when samples or epochs do, not when the files are copied elsewhere."""
    names = [sample.name for sample in dataset.samples]
    return hashlib.sha256(repr((names, lists.until, lists.build(0))).encode()).hexdigest()[:16]
