"""True labels and instances on disk as runs of equal pixels, which read faster than PNGs decode.

They take some 300 kB of an image of 1024x2048, and do not change from one evaluation to the next.
"""

from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.cache.decoded import Cache, CacheFiles
from datasets.samples import Sample
from utils.images import read_instances
from utils.labels import to_runs


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
