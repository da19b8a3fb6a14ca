"""The classes that occur around each pixel, found where labels change and nowhere else."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.metrics import IGNORE


class ClassSets(NamedTuple):
    """Which classes a pixel may have: one for nearly all, several beside borders.

    A list of the few is smaller and quicker than a mask per class, and knows no limit of classes.
    """

    only: Tensor  # (N, H, W) uint8: the one class; 255 where there are several, or none
    places: Tensor  # (M,) int64: of the pixels that have several, in the flattened (N, H, W)
    members: Tensor  # (M, C) bool: the classes that they have
    void: Tensor  # (N, H, W) bool: void is in the window too, as it is beyond the image

    @property
    def labelled(self) -> Tensor:
        """(N, H, W) bool: there is a class in the window."""
        return (self.only != IGNORE).view(-1).index_fill(0, self.places, True).view_as(self.only)

    @property
    def images(self) -> Tensor:
        """(M,) int64: the image that each of `places` is in."""
        return self.places // self.only[0].numel()


def class_sets(target: Tensor, classes: int, window: int, strict: Sequence[int] = ()) -> ClassSets:
    """The classes in the window around each pixel; void is none.

    Args:
        target: (N, H, W) train ids; 255 is void.
        classes: number of them, at most 254.
        window: side in pixels, odd.
        strict: a pixel of one of these has no other class.
    """
    labels = target.to(torch.uint8)  # an eighth of the bytes to look through
    from_one = labels + 1  # void wraps to 0
    lowest = extreme(labels, window, torch.minimum, IGNORE)
    highest = extreme(from_one, window, torch.maximum, 0) - 1
    void = extreme(from_one, window, torch.minimum, 0) == 0
    several = lowest != highest  # both are 255 where there is none
    if strict:
        fixed = torch.isin(labels, labels.new_tensor(strict))
        several &= ~fixed
        void &= ~fixed
        lowest = labels.where(fixed, lowest)
    places = several.flatten().nonzero()[:, 0]
    only = lowest.masked_fill_(several, IGNORE)
    return ClassSets(only, places, classes_at(places, labels, classes, window), void)


def extreme(
    values: Tensor, window: int, which: Callable[[Tensor, Tensor], Tensor], outside: int
) -> Tensor:
    """(N, H, W) lowest or highest value in each window, rows first, then columns."""
    values = F.pad(values, [window // 2] * 4, value=outside)
    for axis in (1, 2):
        size = values.shape[axis] - window + 1
        values = reduce(which, (values.narrow(axis, start, size) for start in range(window)))
    return values


def classes_at(places: Tensor, labels: Tensor, classes: int, window: int) -> Tensor:
    """(M, C) bool, the classes in the windows around some pixels of (N, H, W) labels."""
    padded = F.pad(labels, [window // 2] * 4, value=IGNORE)
    (_, height, width), (_, high, wide) = labels.shape, padded.shape
    row, image = places // width, places // (height * width)
    corner = places + row * (wide - width) + image * (high - height) * wide
    line = corner[:, None] + torch.arange(window, device=places.device)
    found = torch.zeros(len(places), classes + 1, dtype=torch.bool, device=places.device)
    for down in range(window):  # not all at once: the lists grow with the square of the window
        near = padded.view(-1).index_select(0, (line + down * wide).view(-1)).view_as(line)
        found.scatter_(1, near.clamp_(max=classes).long(), True)
    return found[:, :classes]


def thick_borders(target: Tensor) -> Tensor:
    """(N, H, W) bool: one of the four neighbors has another value, void being a value too."""
    thick = torch.zeros_like(target, dtype=torch.bool)
    for axis in (1, 2):
        size = target.shape[axis] - 1
        first, second = (0, size), (1, size)
        differ = target.narrow(axis, *first) != target.narrow(axis, *second)
        thick.narrow(axis, *first).logical_or_(differ)
        thick.narrow(axis, *second).logical_or_(differ)
    return thick
