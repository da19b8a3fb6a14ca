"""Label maps: the ignore label, colors to ids, and runs of equal pixels."""

from functools import lru_cache

import cv2
import numpy as np

from utils.images import Palette, PathLike, open_image, stored_as

NONE = 255  # the pixel's color is not in the palette
IGNORE = 255  # in targets: does not count, in training and scoring
EXACT = 1 << 24  # largest count that a float32 of cv2.calcHist holds exactly


def is_color(path: PathLike) -> bool:
    """Whether a PNG has color channels of 8 bits, not gray or palette indices; by its header."""
    with open_image(path) as file:
        return "8-bit RGB" in stored_as(file.read(26))


def color_ids(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    """(H, W) uint8: the index of each pixel's color in the palette, 255 where it is none of them.

    Colors are compared exactly. Of equal colors in the palette, the first one's index is given.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        palette: (C, 3) RGB in 0..255, C at most 255.

    Raises ValueError: another array, or a palette that is not of this kind.
    """
    if rgb.dtype != np.uint8 or rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"a {rgb.dtype} array {rgb.shape}, expected uint8 (H, W, 3)")
    colors = np.asarray(palette)
    if colors.ndim != 2 or colors.shape[1] != 3 or len(colors) > NONE:
        raise ValueError(f"a palette of shape {colors.shape}, expected (C, 3), C at most {NONE}")
    if colors.size and (colors.min() < 0 or colors.max() > 255):
        raise ValueError(f"colors from {colors.min()} to {colors.max()}, expected 0..255")
    # Four bytes a pixel are one number: red is the lowest byte, alpha the highest.
    rgba = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2RGBA)
    codes = rgba.view("<u4")[..., 0]
    codes &= 0xFFFFFF
    return _index_of_code(colors.astype(np.uint8).tobytes()).take(codes)


@lru_cache(maxsize=4)  # 16 MB each; a program rarely has more than one palette
def _index_of_code(colors: bytes) -> np.ndarray:
    """(2^24,) uint8 from red + 256 green + 65536 blue -> index, of RGB colors in a row."""
    palette = np.frombuffer(colors, np.uint8).reshape(-1, 3).astype(np.uint32)
    table = np.full(1 << 24, NONE, np.uint8)
    codes = palette[:, 0] | palette[:, 1] << 8 | palette[:, 2] << 16
    # Written from the last to the first, one by one, since numpy does not promise an order.
    for index in reversed(range(len(codes))):
        table[codes[index]] = index
    table.flags.writeable = False  # shared by all callers
    return table


def to_ids(train_ids: np.ndarray, train_id_to_id: list[int], void: int = 0) -> np.ndarray:
    """(H, W) uint8 train ids -> the data set's ids; anything beyond the classes is `void`."""
    table = np.full(256, void, np.uint8)
    table[: len(train_id_to_id)] = train_id_to_id
    return table[train_ids]


def histogram(*maps: np.ndarray, bins: int = 256) -> np.ndarray:
    """(bins,) int64 pixels by value, (bins, bins) by the pair of values of two maps, and so on.

    The maps are (H, W) uint8 of one size; values from `bins` on are not counted. From 4 to 8 times
    as fast as np.bincount.
    """
    counts = np.zeros((bins,) * len(maps), np.int64)
    rows = max(1, EXACT // maps[0].shape[1])
    for top in range(0, len(maps[0]), rows):
        bands = [each[top : top + rows] for each in maps]
        found = cv2.calcHist(bands, [*range(len(maps))], None, [*counts.shape],
                             [0, bins] * len(maps))
        counts += found.astype(np.int64).reshape(counts.shape)
    return counts


def to_runs(pixels: np.ndarray) -> np.ndarray:
    """(H, W) integers -> (2, R) int32, the length and the value of each run in raster order."""
    flat = pixels.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return np.stack([np.diff(starts, append=flat.size), flat[starts]]).astype(np.int32)


def from_runs(runs: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, what `to_runs` was given."""
    return np.repeat(runs[1].astype(np.uint8), runs[0]).reshape(shape)
