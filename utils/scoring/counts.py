"""Scores of label maps: integers per image, gathered over ranks, ratios at the end.

Pixels are counted over *labels*, which are the scored classes and those that are not scored: for
Cityscapes its 34 ids, as its official scorer does, else the classes and void.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np

from utils import distributed
from utils.labels import histogram


class ScoredLabel(Protocol):
    """A row of a class table; a label's number is its place in the list of labels."""

    name: str
    id: int
    category: str
    has_instances: bool
    ignored: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ImageCounts:
    """What is kept of each image, all integers."""

    classes: np.ndarray  # (3, L): hits, pixels of the truth, false positives
    instances: np.ndarray | None  # (K, 4): label, size, hits, hits of its category
    boundary: np.ndarray | None = None  # see `boundary_counts`


def instance_table(runs: np.ndarray, prediction: np.ndarray, categories: np.ndarray) -> np.ndarray:
    """(K, 4) int64 label, size, hits and category hits of each instance, ids ascending.

    Args:
        runs: (2, R) of the instance map, see `utils.labels`; label * 1000 + n, or the bare label
            where there is no instance.
        prediction: (H, W) uint8 labels.
        categories: (L, L) bool, whether a hit of the column's label is one of the row's category.
    """
    labels = len(categories)
    ends = np.cumsum(runs[0])
    inside = runs[1] > 1000
    lengths, own, ends = runs[0][inside], runs[1][inside], ends[inside]
    if not len(own):
        return np.zeros((0, 4), np.int64)
    ids = np.flatnonzero(np.bincount(own))
    place = np.zeros(ids[-1] + 1, np.int32)
    place[ids] = np.arange(len(ids)) * labels
    gaps = (ends - np.cumsum(lengths)).astype(np.int32)  # pixels of no instance before each run
    pixels = np.arange(lengths.sum(), dtype=np.int32) + np.repeat(gaps, lengths)
    cells = np.repeat(place[own], lengths) + prediction.ravel()[pixels]
    table = np.bincount(cells, minlength=len(ids) * labels).reshape(len(ids), labels)
    label = ids // 1000
    hits = table[np.arange(len(ids)), label]
    return np.stack([label, table.sum(1), hits, (table * categories[label]).sum(1)], axis=1)


@dataclass
class Scores:
    """Counts over a data set."""

    labels: Sequence[ScoredLabel]  # all, scored or not, by number
    # Name -> average size in pixels of an instance, which weighs instances.
    sizes: Mapping[str, float] = field(default_factory=dict)
    ratio: float = 0.0  # width of the boundary, as part of an image's diagonal; 0: none is counted
    trimaps: tuple[int, ...] = (1, 3, 5, 9)  # pixels around true boundaries that are scored alone
    images: dict[int, ImageCounts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.labels)
        self.matrix = np.zeros((count, count), np.int64)
        self.scored = np.array([not label.ignored for label in self.labels])
        names = [label.category for label in self.labels]
        self.same_category = np.array([[a == b for b in names] for a in names])

    def measure(
        self, truth: np.ndarray, prediction: np.ndarray, instances: np.ndarray | None = None
    ) -> tuple[np.ndarray, ImageCounts]:
        """The matrix and the rest of one image; changes nothing, so threads may call it.

        Args:
            truth, prediction: (H, W) uint8 labels.
            instances: (2, R) int32 runs of label * 1000 + n, or None.

        Raises ValueError: another size, or a number that is no label.
        """
        if truth.shape != prediction.shape:
            raise ValueError(f"a prediction of {prediction.shape[1]}x{prediction.shape[0]} for a "
                             f"label of {truth.shape[1]}x{truth.shape[0]}")
        matrix = histogram(truth, prediction, bins=len(self.labels))
        if matrix.sum() != truth.size:
            strange = np.unique(np.concatenate([truth, prediction]))
            raise ValueError(f"ids {strange[strange >= len(self.labels)].tolist()} are no labels")
        hits = matrix.diagonal()
        counts = np.stack([hits, matrix.sum(1), matrix[self.scored].sum(0) - hits * self.scored])
        table = (None if instances is None
                 else instance_table(instances, prediction, self.same_category))
        band = (boundary_counts(truth, prediction, self.scored, self.ratio, self.trimaps)
                if self.ratio else None)
        return matrix, ImageCounts(counts, table, band)

    def add(self, index: int, measured: tuple[np.ndarray, ImageCounts]) -> None:
        """Counts an image; its number decides the order of sums."""
        self.matrix += measured[0]
        self.images[index] = measured[1]

    def gather(self) -> None:
        """Brings the counts of all ranks to every rank."""
        parts = distributed.gather((self.matrix, self.images))
        self.matrix = sum(matrix for matrix, _ in parts)
        merged = {index: counts for _, images in parts for index, counts in images.items()}
        self.images = dict(sorted(merged.items()))


def near_boundary(labels: np.ndarray, width: int, frame: bool) -> np.ndarray:
    """(H, W) bool: another label lies within a square of `width` pixels around.

    One erosion and one dilation of the whole map do for all labels: where they agree, a pixel's
    neighborhood has one label. Equal to eroding each label's mask `width` times by 3x3.

    `labels` are (H, W) uint8, below 255; with `frame` the image's edge is a boundary, as in
    boundary IoU.
    """
    kernel = np.ones((2 * width + 1,) * 2, np.uint8)
    kind = cv2.BORDER_CONSTANT if frame else cv2.BORDER_REPLICATE
    least = cv2.erode(labels, kernel, borderType=kind, borderValue=255)
    return least != cv2.dilate(labels, kernel, borderType=kind, borderValue=255)


def boundary_counts(
    truth: np.ndarray, prediction: np.ndarray, scored: np.ndarray, ratio: float,
    trimaps: tuple[int, ...],
) -> np.ndarray:
    """(1 + T, 2, L) int64: intersection and union per label, of boundaries and in each trimap.

    Pixels whose true label is not scored do not count.

    Args:
        truth, prediction: (H, W) uint8 labels.
        scored: (L,) bool.
        ratio: width of the boundary, as part of the image's diagonal.
        trimaps: T widths in pixels.
    """
    width = max(1, round(ratio * math.hypot(*truth.shape)))
    counted, same = scored[truth], truth == prediction
    own, said = (counted & near_boundary(labels, width, frame=True)
                 for labels in (truth, prediction))
    bands = [counted & near_boundary(truth, pixels, frame=False) for pixels in trimaps]
    rows = []
    for here, there in [(own, said), *zip(bands, bands, strict=True)]:
        true, predicted, both = (
            np.bincount(labels[mask], minlength=256)[: len(scored)]
            for labels, mask in ((truth, here), (prediction, there), (truth, here & there & same))
        )
        rows.append(np.stack([both, true + predicted - both]))
    return np.stack(rows)
