"""Boundary label relaxation: at a border, every class that is near is right.

Zhu et al., Improving Semantic Segmentation via Video Propagation and Label Relaxation, CVPR 2019,
https://arxiv.org/abs/1812.01593, section 3.3
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.class_sets import ClassSets, class_sets, thick_borders
from model.image_weighted import by_class, count_classes, weigh
from utils.loss_options import LossOptions
from utils.metrics import IGNORE

CACHED = 2**19  # logits


def label_relaxation(
    logits: Tensor, target: Tensor, options: LossOptions | None = None
) -> Tensor:
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
    return _RelaxedSum.apply(logits, sets, factor.view_as(target))


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


class _RelaxedSum(torch.autograd.Function):
    """Sum of factor * -log p(set), with gradient factor * (p - p within the set).

    log p is made twice, part by part, and never kept: the gradient is the only tensor as large as
    the logits. Parts stay within a CPU's cache, which takes half the time of whole tensors.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, sets: ClassSets, factor: Tensor) -> Tensor:
        where = torch.unravel_index(sets.places, sets.only.shape)
        rows = log_softmax(logits.movedim(1, -1)[where])
        lowest = torch.finfo(rows.dtype).min  # where a difference of logits overflows
        members = rows.clamp_(min=lowest).masked_fill(~sets.members, -torch.inf)
        log_set = members.logsumexp(1)
        several = factor[where].to(rows.dtype)
        total = (several * log_set).sum()
        change = several[:, None] * (rows.exp_() - (members - log_set[:, None]).exp_())

        # The others are those with one class: where there are several, or none, the factor is 0.
        only = sets.only.clamp(max=logits.shape[1] - 1)
        factor = factor.index_put(where, factor.new_zeros(())).to(rows.dtype)
        for images, lines in parts(logits):
            log_p = log_softmax(logits[images, :, lines])
            log_one = log_p.gather(1, only[images, None, lines].long()).clamp_(min=lowest)
            total += (factor[images, None, lines] * log_one).sum()
        ctx.save_for_backward(logits, only, factor, sets.places, change)
        return -total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, only, factor, places, change = ctx.saved_tensors
        result = torch.empty_like(logits)
        for images, lines in parts(logits):
            p = log_softmax(logits[images, :, lines]).exp_()
            weight = factor[images, None, lines] * grad
            result[images, :, lines] = p.mul_(weight).scatter_add_(
                1, only[images, None, lines].long(), -weight)
        where = torch.unravel_index(places, only.shape)
        result.movedim(1, -1)[where] = (change * grad).to(result.dtype)
        return result, None, None


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
