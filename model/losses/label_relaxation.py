"""Boundary label relaxation: at a border, every class that is near is right.

Zhu et al., Improving Semantic Segmentation via Video Propagation and Label Relaxation, CVPR 2019,
https://arxiv.org/abs/1812.01593, section 3.3
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from utils.labels import IGNORE

CACHED = 2**19  # logits
IMAGE_WEIGHTED = ("image_weighted", "label_relaxation")  # each image weighs its classes itself


@dataclass(frozen=True)
class LossOptions:
    """Of the losses in `IMAGE_WEIGHTED`.

    Args:
        window: side in pixels within which a class may be a pixel's own; odd.
        strict: classes whose pixels have no other class.
        relax_until: the last epoch, from 0, with the whole window; None for all.
        class_weight_bound: a class that is rare in an image weighs up to this more than 1.
        batch_weighting: rare in the images of a forward together, not in one.
        upstream_batch_scale: images are added up, not averaged; label relaxation takes each once
            with the set sizes of every image of the forward, as the published code does by mistake.
        upstream_last_bin: void counts as the last class when it is told how rare classes are.
        double_borders: pixels beside another class count twice, for epochs after `relax_until`.
    """

    window: int = 3
    strict: tuple[int, ...] = ()
    relax_until: int | None = None
    class_weight_bound: float = 1.0
    batch_weighting: bool = False
    upstream_batch_scale: bool = False
    upstream_last_bin: bool = False
    double_borders: bool = False

    def at(self, epoch: int) -> "LossOptions":
        """Those of an epoch: after `relax_until` half the reach, none of 3x3, double borders."""
        if self.relax_until is None or epoch <= self.relax_until:
            return self
        return replace(self, window=self.window // 4 * 2 + 1, double_borders=True)


def label_relaxation(logits: Tensor, target: Tensor, options: LossOptions | None = None) -> Tensor:
    """-log of the probability that a pixel has one of the classes in its window.

    A void pixel with a class in its window counts; one without does not. Finite for finite logits
    up to 1e36.

    Args:
        logits: (N, C, H, W) float, unnormalized; C at most 254.
        target: (N, H, W) int64 train ids; 255 is void.
        options: window, strict classes, weights of the classes; how an image's sum is divided.

    Returns:
        () float32 (float64 of float64): mean over the images of the sum over pixels, by their
        number and one, as published; 0 when none counts.
    """
    options = options or LossOptions()
    sets = class_sets(target, logits.shape[1], options.window, options.strict)
    thick = thick_borders(target) if options.double_borders else None
    factor = pixel_factors(sets, thick, options)
    return weighted_sum(logits, sets.only, factor.view_as(target), sets)


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


def pixel_factors(sets: ClassSets, thick: Tensor | None, options: LossOptions) -> Tensor:
    """(N, H * W) float32: what multiplies a pixel's -log p in the loss.

    It is the mean weight of the pixel's classes, twice that on `thick` borders, divided by the
    image's counted pixels and the number of images; 0 for pixels that do not count.
    """
    weights = weigh(*count_members(sets, thick), options)
    labelled = sets.labelled.flatten(1)
    summed = by_class(weights).gather(1, sets.only.flatten(1).long())
    summed.view(-1)[sets.places] = (weights[sets.images] * sets.members).sum(1)
    size = sets.members.sum(1).float()
    # Published code takes the sum over the doubled set for its inverse once borders are doubled.
    wrong = options.upstream_batch_scale and options.double_borders
    share = torch.ones_like(summed)
    share.view(-1)[sets.places] = size if wrong else 1 / size
    if thick is not None:
        share *= 1 + (thick.flatten(1) & labelled)
    counted = labelled.sum(1, keepdim=True) + 1
    if options.upstream_batch_scale:  # every image is added once with the set sizes of each image
        return summed * share.sum(0) / counted
    return summed * share / (counted * len(counted))


def count_members(sets: ClassSets, thick: Tensor | None) -> tuple[Tensor, Tensor]:
    """(N, C) pixels that may have a class, and (N,) the sums of these and of void; thick twice."""
    classes = sets.members.shape[1]
    counts, several = count_classes(sets.only), sets.members.long()
    void = sets.void.flatten(1).sum(1)
    if thick is not None:
        counts = counts + count_classes(sets.only.where(thick, IGNORE))
        several = several * (1 + thick.view(-1)[sets.places][:, None])
        void = void + (sets.void & thick).flatten(1).sum(1)
    counts = counts[:, :classes].index_add(0, sets.images, several)
    return counts, counts.sum(1) + void


def weighted_sum(
    logits: Tensor, target: Tensor, factor: Tensor, sets: ClassSets | None = None
) -> Tensor:
    """Sum of factor * -log p over the pixels, p of a pixel's class, or of all that it may have.

    Args:
        logits: (N, C, H, W) float.
        target: (N, H, W) integers below C; or 255, where the factor is 0.
        factor: (N, H, W) float32.
        sets: of the pixels that may have several classes.

    Raises ValueError: the target has another size than the logits.
    """
    if target.shape != logits[:, 0].shape:
        raise ValueError(f"a target of {tuple(target.shape)} for logits {tuple(logits.shape)}")
    if logits.dtype == torch.float16:  # the gradient is made before it is multiplied to fit
        logits = logits.float()
    return _WeightedSum.apply(logits, target.where(target != IGNORE, 0), factor, sets)


class _WeightedSum(torch.autograd.Function):
    """That sum, with gradient factor * (p - p within the set).

    The gradient is made with the sum, from the same log p, part by part: it is the only tensor as
    large as the logits. Parts stay within a CPU's cache, which takes half the time of whole ones.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, target: Tensor, factor: Tensor, sets: ClassSets | None
    ) -> Tensor:
        factor = factor.to(torch.promote_types(logits.dtype, torch.float32))
        lowest = torch.finfo(factor.dtype).min  # where a difference of logits overflows
        total = factor.new_zeros(())
        if sets is not None:
            where = torch.unravel_index(sets.places, target.shape)
            rows = log_softmax(logits.movedim(1, -1)[where])
            members = rows.clamp_(min=lowest).masked_fill(~sets.members, -torch.inf)
            log_set, several = members.logsumexp(1), factor[where]
            total -= (several * log_set).sum()
            change = several[:, None] * (rows.exp_() - (members - log_set[:, None]).exp_())
            factor = factor.index_put(where, total.new_zeros(()))  # done with
        result = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        for images, lines in parts(logits):
            log_p = log_softmax(logits[images, :, lines])
            weight, place = factor[images, None, lines], target[images, None, lines].long()
            own = log_p.gather(1, place)  # not finite: said, unless the pixel does not count
            own = own.masked_fill_(weight == 0, 0) if sets is None else own.clamp_(min=lowest)
            total -= (weight * own).sum()
            if result is not None:
                log_p.exp_().mul_(weight).scatter_(1, place, own.expm1_().mul_(weight))
                result[images, :, lines] = log_p
        if result is not None:
            if sets is not None:
                result.movedim(1, -1)[where] = change.to(result.dtype)
            ctx.save_for_backward(result)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        result, = ctx.saved_tensors
        one = grad.device.type == "cpu" and grad == 1  # as nearly always
        return result if one else result * grad, None, None, None


def parts(logits: Tensor) -> Iterator[tuple[slice, slice]]:
    """Images and lines that a CPU's cache holds at once; on other devices all of them."""
    count, classes, height, width = logits.shape
    if logits.device.type != "cpu":
        yield slice(None), slice(None)
        return
    lines = max(1, CACHED // (classes * width))
    for image in range(count):
        for line in range(0, height, lines):
            yield slice(image, image + 1), slice(line, line + lines)


def log_softmax(logits: Tensor) -> Tensor:
    """(M, C) or (N, C, H, W) in at least float32; of channels_last without torch's copy."""
    dtype = torch.promote_types(logits.dtype, torch.float32)
    if logits.ndim == 4 and logits.is_contiguous(memory_format=torch.channels_last):
        return F.log_softmax(logits.movedim(1, -1), -1, dtype=dtype).movedim(-1, 1)
    return F.log_softmax(logits, 1, dtype=dtype)


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


def image_weighted(logits: Tensor, target: Tensor, options: LossOptions | None = None) -> Tensor:
    """Cross entropy, each pixel weighted by how rare its class is in its image.

    Args:
        logits: (N, C, H, W) float, unnormalized.
        target: (N, H, W) int64 train ids; 255 does not count.
        options: of the weights.

    Returns:
        () float32 (float64 of float64): mean over the images of their weighted means over pixels,
        0 for an image in which none counts.
    """
    options = options or LossOptions()
    counts = count_classes(target)
    void, counts = counts[:, IGNORE], counts[:, : logits.shape[1]]
    if options.upstream_last_bin:
        counts = torch.cat([counts[:, :-1], counts[:, -1:] + void[:, None]], dim=1)
    table = by_class(weigh(counts, counts.sum(1), options))
    weights = table.gather(1, target.flatten(1))
    weights /= weights.sum(1, keepdim=True).clamp(min=1)
    if not options.upstream_batch_scale:
        weights /= len(weights)
    return weighted_sum(logits, target, weights.view_as(target))


def count_classes(target: Tensor) -> Tensor:
    """(N, 256) int64 pixels of every value in (N, H, W) train ids."""
    return torch.stack([torch.bincount(ids.flatten(), minlength=256) for ids in target])


def weigh(counts: Tensor, total: Tensor, options: LossOptions) -> Tensor:
    """(N, C) float32 weights: 1 + bound * (1 - share) of a class that occurs, else 1.

    Args:
        counts: (N, C) pixels of a class in an image.
        total: (N,) pixels that are the whole.
        options: `class_weight_bound`, and whether all images are one (`batch_weighting`).
    """
    if options.batch_weighting:
        total, counts = total.sum().expand(len(counts)), counts.sum(0).expand_as(counts)
    share = counts.float() / total.clamp(min=1)[:, None]
    return 1 + options.class_weight_bound * (1 - share) * (counts > 0)


def by_class(weights: Tensor) -> Tensor:
    """(N, 256) of (N, C): a table of train ids, with 0 for void."""
    return F.pad(weights, (0, 256 - weights.shape[1]))
