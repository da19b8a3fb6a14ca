"""Class-uniform sampling: a share of an epoch's crops is drawn around all classes alike.

Zhu et al., CVPR 2019, https://arxiv.org/abs/1812.01593, section 4.1: labels are cut into tiles, the
centroid of each class in each tile is stored, and an epoch takes equally many centroids per class.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np

from datasets.base import SegmentationDataset
from datasets.cache.per_label import per_label
from utils.labels import IGNORE
from utils.workers import Stream

Item = tuple[int, tuple[int, int] | None]  # index, (x, y) of the crop's center


def tile_centroids(train_ids: np.ndarray, tile: int) -> np.ndarray:
    """(K, 3) int32 train id, x, y: where the pixels of each class in each tile are on average.

    Args:
        train_ids: (H, W) uint8.
        tile: side in pixels. Only whole tiles count, as published, so the right and bottom rest of
            a label have none, and a label smaller than a tile none at all.

    Returns:
        Tiles row by row, classes ascending; the mean is rounded down.
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
                for weights in (lengths, lengths * (2 * x + lengths - 1) // 2, lengths * y)
            )
            present = np.flatnonzero(areas[:IGNORE])
            x, y = (each[present] // areas[present] for each in sums)
            rows.append(np.column_stack([present, left + x, top + y]).astype(np.int32))
    return np.concatenate(rows)


def find_centroids(dataset: SegmentationDataset, tile: int, threads: int = 1) -> np.ndarray:
    """(K, 4) int32 index, train id, x, y over all labels of a split; computed once, then cached."""
    found = per_label(dataset, f"centroids{tile}", partial(tile_centroids, tile=tile), threads)
    indices = np.repeat(np.arange(len(found), dtype=np.int32), [len(rows) for rows in found])
    return np.column_stack([indices, np.concatenate(found)])


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
