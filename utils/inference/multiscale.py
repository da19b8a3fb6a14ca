"""Scores of an image averaged over sizes, mirror images and overlapping windows.

The multi-scale sliding mode that Cityscapes results are published with (Zhu et al., CVPR 2019,
https://arxiv.org/abs/1812.01593), without two faults of its published code: that code indexes its
counts of windows per pixel by class and row instead of row and column, so that overlaps are summed
and rows divided; and its whole-image mode, there called pooling, forgets to normalize the pixels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.images import resize_image
from utils.inference.settings import SMALLEST, Inference

BLOCK = 2**22  # values of a block of classes: with 16 MB twice as fast as with 128 MB


@dataclass(frozen=True)
class View:
    """An image at one size, plain or mirrored, and the windows over it.

    Args:
        pixels: (1, 3, h, w) uint8 RGB, at least `SMALLEST` a side.
        size: (h, w) without the padding.
        mirrored: left to right.
        weight: in the mean of all views.
        window: height and width of the windows.
        tops: of the windows.
        lefts: of the windows.
    """

    pixels: Tensor
    size: tuple[int, int]
    mirrored: bool
    weight: float
    window: tuple[int, int]
    tops: list[int]
    lefts: list[int]

    def place(self, top: int, left: int) -> tuple[slice, slice]:
        """Rows and columns of a window."""
        return slice(top, top + self.window[0]), slice(left, left + self.window[1])

    def share(self, device: torch.device) -> Tensor:
        """(h, w), what each of the windows over a pixel contributes to the mean of all views."""
        height, width = self.pixels.shape[-2:]
        counts = torch.zeros(height), torch.zeros(width)
        for count, begins, side in zip(counts, (self.tops, self.lefts), self.window, strict=True):
            for begin in begins:
                count[begin : begin + side] += 1
        rows, columns = (1 / count.to(device) for count in counts)
        return torch.outer(rows * self.weight, columns)


Forward = Callable[[Tensor], Tensor]
Upsample = Callable[[Tensor, Sequence[int]], Tensor]
Held = list[tuple[tuple[slice, slice], Tensor]]


def mean_scores(
    forward: Forward, upsample: Upsample, image: Tensor, size: tuple[int, int], how: Inference
) -> Tensor:
    """(C, H, W) logits or probabilities at `size`, mean of all windows, mirror images and scales.

    Besides the network this takes memory for the result, for the scores of a group of windows (as
    many bytes as an fp32 result, or one batch) and for few classes at the largest size. As
    averaging is linear, every group is resized and added by itself, and so are blocks of classes.

    Args:
        forward: (N, 3, h, w) uint8 -> (N, C, h', w') coarse logits.
        upsample: coarse logits and (h, w) -> (N, C, h, w), each class by itself.
        image: (h, w, 3) uint8 RGB.
        size: (H, W).
        how: what is averaged.
    """
    if how.average == "probabilities":
        forward, upsample = _probabilities(forward, upsample), lambda scores, _: scores
    mean = torch.empty(0)
    for view in _views(image, how):
        for held in _windows(forward, view, size, how.batch):
            if not len(mean):
                mean = held[0][1].new_zeros(held[0][1].shape[1], *size, dtype=torch.float32)
            _add(mean, held, view, upsample)
    return mean


def as_input(image: Tensor) -> Tensor:
    """(h, w, 3) -> (1, 3, h, w), at least `SMALLEST` a side by repeating the last row, column."""
    height, width = image.shape[:2]
    if height < SMALLEST or width < SMALLEST:
        rows, columns = (torch.arange(max(n, SMALLEST)).clamp(max=n - 1) for n in (height, width))
        image = image[rows][:, columns]
    return image.permute(2, 0, 1)[None]


def starts(length: int, side: int, overlap: float) -> list[int]:
    """Where windows of `side` pixels begin that cover `length`, the last one moved inward."""
    if side >= length:
        return [0]
    step = math.ceil(side * (1 - overlap))
    return [*range(0, length - side, step), length - side]


def _views(image: Tensor, how: Inference) -> Iterator[View]:
    directions = (False, True) if how.flip else (False,)
    weight = 1 / (len(how.scales) * len(directions))
    for scale in how.scales:
        size = max(1, int(image.shape[0] * scale)), max(1, int(image.shape[1] * scale))
        seen = image
        if scale != 1:
            seen = torch.from_numpy(resize_image(image.cpu().numpy(), size))
        for mirrored in directions:
            pixels = as_input(seen.flip(1) if mirrored else seen)
            height, width = pixels.shape[-2:]
            side = int(how.window * max(1, scale)) if how.window else max(height, width)
            window = min(side, height), min(side, width)
            corners = starts(height, side, how.overlap), starts(width, side, how.overlap)
            yield View(pixels, size, mirrored, weight, window, *corners)


def _windows(forward: Forward, view: View, size: tuple[int, int], batch: int) -> Iterator[Held]:
    """Places of windows and their scores (1, C, h', w'), no more bytes at a time than a result."""
    places = [view.place(*corner) for corner in product(view.tops, view.lefts)]
    held: Held = []
    for first in range(0, len(places), batch):
        some = places[first : first + batch]
        # Classes one by one in memory, as they are added.
        scores = forward(torch.cat([view.pixels[..., y, x] for y, x in some])).contiguous()
        held += zip(some, scores.split(1), strict=True)
        result = 4 * scores.shape[1] * math.prod(size)
        if sum(part.nbytes for _, part in held) + scores.nbytes > result:
            del scores
            yield held
            held.clear()  # before the next forward, whoever has the list
    if held:
        yield held


def _add(mean: Tensor, held: Held, view: View, upsample: Upsample) -> None:
    """Adds a share of the scores of windows to (C, H, W) `mean`, at its size and unmirrored."""
    height, width = view.size
    share = view.share(held[0][1].device)
    step = max(1, BLOCK // share.numel())
    canvas = share.new_empty(1, min(step, len(mean)), *share.shape)
    for first in range(0, len(mean), step):
        classes = slice(first, first + step)
        part = canvas[:, : len(mean[classes])].zero_()
        for place, scores in held:
            full = upsample(scores[:, classes].float(), view.window)
            part[(..., *place)].addcmul_(full, share[place])
        resized = part[..., :height, :width]
        if mean.shape[1:] != view.size:
            resized = F.interpolate(resized, mean.shape[1:], mode="bilinear", align_corners=False)
        resized = resized.flip(-1) if view.mirrored else resized
        mean[classes].add_(resized[0])


def _probabilities(forward: Forward, upsample: Upsample) -> Forward:
    def probabilities(images: Tensor) -> Tensor:
        logits = upsample(forward(images).float().contiguous(), images.shape[-2:])
        for rows in logits.split(64, dim=2):
            rows.copy_(rows.softmax(1))
        return logits

    return probabilities
