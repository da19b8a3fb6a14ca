"""Label maps as runs of equal pixels: some ten thousand of them for two million pixels."""

import numpy as np


def to_runs(pixels: np.ndarray) -> np.ndarray:
    """(H, W) integers -> (2, R) int32, the length and the value of each run in raster order."""
    flat = pixels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.stack([np.diff(starts, append=flat.size), flat[starts]]).astype(np.int32)


def from_runs(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, what `to_runs` was given."""
    return np.repeat(runs[1].astype(np.uint8), runs[0]).reshape(shape)
