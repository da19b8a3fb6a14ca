"""Paired transforms on uint8 images and labels, stateless: the same key, the same result."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from utils.images import resize_image
from utils.labels import IGNORE
from utils.workers import Stream

PADDING = (124, 116, 104)  # the ImageNet mean, nearly zero after normalization
SIGMA = 0.15, 1.3  # pixels, of the Gaussian blur
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
YIQ_TO_RGB = np.linalg.inv(RGB_TO_YIQ)
Pair = tuple[np.ndarray, np.ndarray | None]
Mapping = Callable[[np.ndarray], np.ndarray] | None  # ids to train ids; None: they are those


class Draw(NamedTuple):
    """What is random about one training sample."""

    window: tuple[int, int, int, int]  # top, left, height, width of what becomes the crop
    flip: bool
    change: np.ndarray  # (4,) of brightness, contrast, saturation as offsets from 1; hue in turns
    sigma: float  # of the blur, 0 for none


@dataclass(frozen=True)
class TrainTransform:
    """Random scale and crop, flip, color jitter, blur.

    Args:
        crop_size: (H, W) of the result.
        scale: lowest and highest magnification.
        flip: probability of mirroring.
        jitter: brightness, contrast and saturation change by up to this factor.
        hue: changes by up to this part of a turn.
        blur: probability of a Gaussian one.
        pre_size: the longer side of every image at magnification 1; None leaves its size.
        seed: of the training.
    """

    crop_size: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    jitter: float = 0.25
    hue: float = 0.05
    blur: float = 0.5
    pre_size: int | None = None
    seed: int = 0

    def __call__(
        self, image: np.ndarray, ids: np.ndarray, epoch: int, position: int,
        center: tuple[int, int] | None = None, mapping: Mapping = None,
    ) -> Pair:
        """(H, W, 3) image and (H, W) ids, uint8 -> image and train ids at `crop_size`.

        `center` is (x, y) or None. What lies outside the image is ignored: an id 255 may be a
        class, a train id 255 never is.
        """
        draw = self.draw(image.shape[:2], epoch, position, center)
        image = cut(image, draw.window, self.crop_size, PADDING)
        ids = cut(ids, draw.window, self.crop_size, IGNORE, mapping)
        if draw.flip:
            image, ids = cv2.flip(image, 1), cv2.flip(ids, 1)
        image = color_jitter(image, draw.change)
        if draw.sigma:
            image = cv2.GaussianBlur(image, (0, 0), draw.sigma)
        return image, ids

    def draw(
        self, size: tuple[int, int], epoch: int, position: int, center: tuple[int, int] | None
    ) -> Draw:
        """What happens to the image of `size` (H, W) at a place in the training."""
        rng = np.random.default_rng((Stream.AUGMENTATION, self.seed, epoch, position))
        window = self.draw_window(rng, size, center)
        limits = np.array([self.jitter, self.jitter, self.jitter, self.hue])
        flip, change = rng.random() < self.flip, rng.uniform(-limits, limits)
        sigma = rng.uniform(*SIGMA) if rng.random() < self.blur else 0.0
        return Draw(window, flip, change, sigma)

    def draw_window(
        self, rng: np.random.Generator, size: tuple[int, int], center: tuple[int, int] | None
    ) -> tuple[int, int, int, int]:
        """Top, left, height, width of the part of the image that becomes the crop.

        It sticks out of the image where the image is smaller. With a center, the center is in it.
        """
        magnification = rng.uniform(*self.scale) * (self.pre_size or max(size)) / max(size)
        window = [max(1, round(side / magnification)) for side in self.crop_size]
        start = []
        for axis in (0, 1):
            slack = size[axis] - window[axis]
            low, high = min(0, slack), max(0, slack)
            if center is not None:
                place = center[1 - axis]
                low = max(low, min(place - window[axis] + 1, high))
                high = min(high, max(place, low))
            start.append(int(rng.integers(low, high, endpoint=True)))
        return start[0], start[1], window[0], window[1]


def cut(
    array: np.ndarray, window: tuple[int, int, int, int], size: tuple[int, int],
    padding: int | tuple[int, ...], mapping: Mapping = None,
) -> np.ndarray:
    """Resizes a window (top, left, height, width) of an array to `size`, padded outside the array.

    Only the window's pixels are touched, not the whole image. Two-dimensional arrays are labels
    and get the nearest pixel; they are mapped before they are padded.
    """
    scale = [size[axis] / window[2 + axis] for axis in (0, 1)]
    source, filled = [], []
    for axis in (0, 1):
        start, stop = window[axis], window[axis] + window[2 + axis]
        inside = max(start, 0), min(stop, array.shape[axis])
        source.append(slice(*inside))
        low = round((inside[0] - start) * scale[axis])
        high = max(low + 1, round((inside[1] - start) * scale[axis]))
        filled.append((low, min(high, size[axis])))
    (top, bottom), (left, right) = filled
    method = cv2.INTER_AREA if scale[0] < 1 else cv2.INTER_LINEAR
    if array.ndim == 2:
        method = cv2.INTER_NEAREST_EXACT
    resized = cv2.resize(array[tuple(source)], (right - left, bottom - top), interpolation=method)
    if mapping:
        resized = mapping(resized)
    if resized.shape[:2] == tuple(size):
        return resized
    return cv2.copyMakeBorder(resized, top, size[0] - bottom, left, size[1] - right,
                              cv2.BORDER_CONSTANT, value=padding)


def color_jitter(image: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Brightness and contrast as one table, saturation and hue as one matrix.

    Args:
        image: (H, W, 3) uint8 RGB.
        change: brightness, contrast, saturation as offsets from factor 1; hue in turns.
    """
    brightness, contrast = change[:2]
    if not change.any():
        return np.ascontiguousarray(image)
    mean = image[::8, ::8].mean() * (1 + brightness)
    table = (np.arange(256) * (1 + brightness) - mean) * (1 + contrast) + mean
    image = cv2.LUT(image, np.clip(table + 0.5, 0, 255).astype(np.uint8))
    # Chroma is a plane in YIQ: saturation scales it, hue turns it.
    saturation, hue = change[2:]
    cos, sin = ((1 + saturation) * f(2 * math.pi * hue) for f in (math.cos, math.sin))
    turn = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    return cv2.transform(image, YIQ_TO_RGB @ turn @ RGB_TO_YIQ)


@dataclass(frozen=True)
class EvalTransform:
    """Resizes the image; the label keeps its own size, which is the one scored.

    Args:
        size: (H, W), or (N,) for a longer side of N pixels; None for no resize.
        crop: (H, W) of the center that is scored, padded where the image is smaller, with the
            label at the image's new size, as the validation that Mapillary results are quoted
            with; None for the whole image at the label's size.
    """

    size: tuple[int, ...] | None = None
    crop: tuple[int, int] | None = None

    def __call__(
        self, image: np.ndarray, ids: np.ndarray | None, *_: object, mapping: Mapping = None
    ) -> Pair:
        if mapping and ids is not None:
            ids = mapping(ids)
        if self.size:
            image = resize_image(image, self.size)
        if self.crop:
            height, width = image.shape[:2]
            window = (height - self.crop[0]) // 2, (width - self.crop[1]) // 2, *self.crop
            if ids is not None:
                ids = cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
                ids = cut(ids, window, self.crop, IGNORE)
            image = cut(image, window, self.crop, PADDING)
        return image, ids
