"""Pictures of label maps for people: colors, overlays, side by side, a legend."""

from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.images import Palette

# of a class: told apart by the color-blind too
RIGHT, MISSED, FALSE = (176, 184, 196), (230, 97, 1), (94, 60, 153)


def colorize(train_ids: np.ndarray, palette: Palette) -> np.ndarray:
    """(H, W, 3) uint8 RGB: each pixel in the color of its class.

    Args:
        train_ids: (H, W) integers; any outside 0..C-1, such as 255, is black.
        palette: (C, 3) RGB in 0..255, C at most 255.
    """
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    return cv2.LUT(cv2.cvtColor(_to_uint8(train_ids, len(palette)), cv2.COLOR_GRAY2RGB), table)


def overlay(
    image: np.ndarray,
    train_ids: np.ndarray,
    palette: Palette,
    opacity: float = 0.5,
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the image, tinted by class; a pixel without a class stays as it is.

    Args:
        image: (H, W, 3) uint8 RGB.
        train_ids: (H, W) integers; outside 0..C-1 there is no class.
        palette: (C, 3) RGB in 0..255, C at most 255.
        opacity: of the colors, from 0 (only the image) to 1 (only the colors).

    Raises:
        ValueError: the sizes differ, or the opacity is outside 0..1.
    """
    if image.shape[:2] != train_ids.shape:
        raise ValueError(f"an image of {image.shape[:2]} and train ids of {train_ids.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity}, expected 0..1")
    mixed = cv2.addWeighted(image, 1 - opacity, colorize(train_ids, palette), opacity, 0)
    # By id and not by color, as black may also be the color of a class.
    unclassed = (_to_uint8(train_ids, len(palette)) >= len(palette)).view(np.uint8)
    return cv2.copyTo(image, unclassed, mixed)


def difference(
    prediction: np.ndarray, truth: np.ndarray, palette: Palette, ignored: Sequence[bool]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the predicted color where it is wrong, white where right, else black.

    Args:
        prediction: (H, W) uint8 labels.
        truth: likewise.
        palette: (C, 3) RGB in 0..255, by label.
        ignored: C truth values, of the labels that are not scored and therefore black.
    """
    picture = colorize(prediction, palette)
    picture[prediction == truth] = 255
    picture[_ignored(truth, ignored)] = 0
    return picture


def class_difference(
    prediction: np.ndarray, truth: np.ndarray, label: int, ignored: Sequence[bool]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: one class in `RIGHT`, `MISSED`, `FALSE`; white elsewhere, else black.

    Args:
        prediction: (H, W) uint8 labels.
        truth: likewise.
        label: of the class.
        ignored: by label, whether it is not scored; such pixels of the truth are black.
    """
    kinds = (truth == label) + 2 * (prediction == label).astype(np.uint8)
    colors = np.array([(255, 255, 255), MISSED, FALSE, RIGHT], np.uint8)
    picture = colorize(kinds, colors)
    picture[_ignored(truth, ignored)] = 0
    return picture


def side_by_side(*pictures: np.ndarray, gap: int = 4) -> np.ndarray:
    """(H, sum of W and gaps, 3) uint8 RGB: the pictures from left to right.

    Args:
        pictures: (H, W, 3) uint8 RGB, of one height.
        gap: white columns between two of them.

    Raises:
        ValueError: the heights differ, or there is no picture.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(f"pictures of heights {sorted(heights)}, expected one height")
    line = np.full((heights.pop(), gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (line, picture)]
    return np.concatenate(parts[1:], axis=1)


def legend(
    names: Sequence[str], palette: Palette, height: int, room: Sequence[str] | None = None
) -> np.ndarray:
    """(height, W, 3) uint8 RGB: a swatch and a name for each class, in one column or more.

    Args:
        names: C class names.
        palette: (C, 3) RGB in 0..255.
        height: of the strip in pixels, to stand `side_by_side` with pictures; at least 16.
        room: texts that would fit too: strips with the same ones have the same layout.

    Raises:
        ValueError: names and colors differ in number, or the strip is too low for a line.
    """
    if len(names) != len(palette) or not names or height < 16:
        raise ValueError(
            f"{len(names)} names, {len(palette)} colors, {height} pixels; expected as many colors "
            "as names, at least 1, and at least 16 pixels"
        )
    row = min(max(height // len(names), 16), 32)
    per_column = height // row
    font = ImageFont.load_default(size=0.7 * row)
    widths = [row + int(font.getlength(name)) + row // 2 for name in room or names]
    columns = [range(i, min(i + per_column, len(names))) for i in range(0, len(names), per_column)]
    strip = Image.new("RGB", (sum(max(widths[i] for i in c) for c in columns), height), "white")
    draw, left = ImageDraw.Draw(strip), 0
    for column in columns:
        for line, i in enumerate(column):
            top, color = line * row, tuple(int(value) for value in palette[i])
            draw.rectangle((left + 2, top + 2, left + row - 4, top + row - 4), fill=color)
            draw.text((left + row, top + row // 2), names[i], fill=0, font=font, anchor="lm")
        left += max(widths[i] for i in column)
    return np.array(strip)


def _ignored(truth: np.ndarray, ignored: Sequence[bool]) -> np.ndarray:
    """(H, W) bool; what is no label is not scored either."""
    table = np.ones(256, bool)
    table[: len(ignored)] = ignored
    return table[truth]


def _to_uint8(train_ids: np.ndarray, classes: int) -> np.ndarray:
    """The ids with 255 for all that are outside 0..classes-1; one pass less if they are uint8."""
    if train_ids.dtype == np.uint8:
        return train_ids
    return np.where((train_ids >= 0) & (train_ids < classes), train_ids, 255).astype(np.uint8)
