"""What a training draws from: its own images, propagated frames, crops around all classes alike.

Class-uniform sampling: Zhu et al., CVPR 2019, https://arxiv.org/abs/1812.01593, section 4.1. Labels
are cut into tiles, the centroid of each class in each tile is stored, and an epoch takes equally
many centroids per class; those of rare classes come from coarse labels too.
"""

import copy
import hashlib
import re
from dataclasses import dataclass
from functools import partial

import numpy as np

from datasets.base import SegmentationDataset
from datasets.cache.per_label import per_label
from datasets.samples import Sample
from utils import distributed
from utils.labels import IGNORE
from utils.stopping import no_class
from utils.workers import Stream

Item = tuple[int, tuple[int, int] | None]  # index, (x, y) of the crop's center


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


@dataclass(frozen=True)
class ClassUniformLists:
    """The list of every epoch, a function of (seed, epoch).

    A list has as many items as there are images. int(images * share / C) of them per class are
    crops around a centroid, each centroid of the class once before any is taken again; the rest
    are images, each at most once. A class without centroids is skipped and the epoch is shorter.

    Args:
        images: (fine, all): images 0..fine-1 are the data set's own, the others up to `all`
            propagated from them.
        num_classes: C.
        centroids: (K, 4) int32 index, train id, x, y. Indices from `all` on are coarsely labelled
            images, of which only centroids are used.
        share: part of the epoch that is class-uniform, 0..1.
        until: epoch from which only the fine images, and only their centroids, are used. (The
            published code means this too, but its lists of fine and of all centroids are the same
            objects, so that coarse ones stay in.)
        seed: of the training.
    """

    images: tuple[int, int]
    num_classes: int
    centroids: np.ndarray
    share: float = 0.5
    until: int | None = None
    seed: int = 0

    def usable(self, epoch: int) -> tuple[int, np.ndarray]:
        """Number of images and centroids that an epoch draws from."""
        if self.until is None or epoch < self.until:
            return self.images[1], self.centroids
        return self.images[0], self.centroids[self.centroids[:, 0] < self.images[0]]

    def per_class(self, total: int) -> int:
        """Crops of each class in an epoch that draws from `total` images."""
        return int(total * self.share / self.num_classes)

    def length(self, epoch: int) -> int:
        """Items in an epoch's list."""
        total, centroids = self.usable(epoch)
        absent = (np.bincount(centroids[:, 1], minlength=self.num_classes) == 0).sum()
        return total - int(absent) * self.per_class(total)

    def build(self, epoch: int) -> list[Item]:
        """An epoch's list: plain images, then the crops of each class."""
        rng = np.random.default_rng((Stream.CROP_CENTERS, self.seed, epoch))
        total, centroids = self.usable(epoch)
        per_class = self.per_class(total)
        plain = rng.permutation(total)[: total - per_class * self.num_classes]
        items: list[Item] = [(int(index), None) for index in plain]
        for train_id in range(self.num_classes):
            own = centroids[centroids[:, 1] == train_id]
            if len(own):
                order = np.resize(rng.permutation(len(own)), per_class)
                items += [(int(i), (int(x), int(y))) for i, _, x, y in own[order]]
        return items


# What an epoch consists of, before it is shuffled; a function of the epoch alone.
EpochLists = AllImages | ClassUniformLists


def make_lists(
    train: SegmentationDataset, options: ListOptions, threads: int = 1
) -> tuple[EpochLists, list[Sample]]:
    """The lists of the epochs, and the samples that they refer to, those of `train` first.

    Raises FileNotFoundError, ValueError: no such frames, labels or classes.
    """
    for name in options.coarse_boost:
        if name not in train.class_names:
            raise ValueError(f"--coarse-boost {no_class(name, train.class_names)}")
    boosted = [train.class_names.index(name) for name in options.coarse_boost]
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


def tile_centroids(train_ids: np.ndarray, tile: int) -> np.ndarray:
    """(K, 3) int32 train id, x, y: where the pixels of each class in each tile are on average.

    Args:
        train_ids: (H, W) uint8.
        tile: side in pixels. Only whole tiles count, as published, so the right and bottom rest of
            a label have none, and a label smaller than a tile none at all.

    Returns tiles row by row, classes ascending; the mean is rounded down.
    """
    rows = [np.empty((0, 3), np.int32)]
    height, width = train_ids.shape
    for top in range(0, height - tile + 1, tile):
        for left in range(0, width - tile + 1, tile):
            part = np.ascontiguousarray(train_ids[top : top + tile, left : left + tile])
            # Rows are cut into runs of one class, which are a hundredth of the pixels.
            begins = np.ones(part.shape, bool)
            np.not_equal(part[:, 1:], part[:, :-1], out=begins[:, 1:])
            first = np.flatnonzero(begins)
            lengths = np.diff(first, append=part.size)
            y, x = np.divmod(first, tile)
            classes = part.ravel()[first]
            areas, *sums = (  # whole numbers below 2**53, so exact
                np.bincount(classes, weights, 256).astype(np.int64)
                for weights in (lengths, lengths * (2 * x + lengths - 1) // 2, lengths * y))
            present = np.flatnonzero(areas[:IGNORE])
            x, y = (each[present] // areas[present] for each in sums)
            rows.append(np.column_stack([present, left + x, top + y]).astype(np.int32))
    return np.concatenate(rows)


def find_centroids(dataset: SegmentationDataset, tile: int, threads: int = 1) -> np.ndarray:
    """(K, 4) int32 index, train id, x, y over all labels of a split; computed once, then cached."""
    found = per_label(dataset, f"centroids{tile}", partial(tile_centroids, tile=tile), threads)
    indices = np.repeat(np.arange(len(found), dtype=np.int32), [len(rows) for rows in found])
    return np.column_stack([indices, np.concatenate(found)])


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
    """The frames `skips` before and after each of `train` under `root`; FileNotFoundError: none."""
    names = {shifted(s.name, sign * k) for s in train.samples for k in skips for sign in (-1, 1)}
    there = type(train)(root, "")
    parts = [part for part in ("train", "val") if there.files(part).images] or ["train"]
    found = list(dict.fromkeys(sample for part in parts for sample in there.find(part)))
    samples = [sample for sample in found if sample.name in names]
    if not samples:
        raise FileNotFoundError(
            f"{there.root}: none of its {len(found)} frames is {' or '.join(map(str, skips))} "
            f"before or after a frame of {train.root}")
    return samples


def lists_digest(dataset: SegmentationDataset, lists: EpochLists) -> str:
    """Changes when samples or epochs do, not when the files are copied elsewhere."""
    names = [sample.name for sample in dataset.samples]
    return hashlib.sha256(repr((names, lists.until, lists.build(0))).encode()).hexdigest()[:16]
