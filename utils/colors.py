"""Color labels to ids: which entry of a palette each pixel has."""

from functools import lru_cache

import cv2
import numpy as np

from utils.images import Palette, PathLike, open_image, stored_as

NONE = 255  # the pixel's color is not in the palette


def is_color(path: PathLike) -> bool:
    """Whether a PNG has color channels, not gray or palette indices; from its header."""
    with open_image(path) as file:
        return "RGB" in stored_as(file.read(26))


def color_ids(rgb: np.ndarray, palette: Palette) -> np.ndarray:
    """(H, W) uint8: the index of each pixel's color in the palette, 255 where it is none of them.

    Colors are compared exactly. Of equal colors in the palette, the first one's index is given.

    Args:
        rgb: (H, W, 3) uint8 RGB.
        palette: (C, 3) RGB in 0..255, C at most 255.

    Raises:
        ValueError: another array, or a palette that is not of this kind.
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
