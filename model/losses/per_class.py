"""Losses that look at every class by itself: a yes or no of each pixel, or a region of the batch.

Where segmentation_models_pytorch has them they equal its own, with class weights for all, and with
gradients of Lovasz-Softmax that stay precise in images of a million pixels.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.losses.label_relaxation import parts
from utils.labels import IGNORE

SMALL = 1e-7  # least divisor of a share


def bce(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Binary cross entropy of each class against the rest.

    The loss of CSPSG, Zhou et al., 2023, whose code multiplies it by the images of a forward and
    adds up accumulated forwards. This one is the mean, so its learning rate is theirs times the
    images of a step, and its weight decay theirs divided by them.

    Args:
        logits: (N, C, H, W) float, unnormalized.
        target: (N, H, W) int64 train ids; 255 does not count.
        class_weights: (C,) float of the average over classes, or None for 1.

    Returns:
        () float32 (float64 of float64): mean over counted pixels, then over classes; 0 when none
        counts.
    """
    dtype = torch.promote_types(logits.dtype, torch.float32)
    weights = logits.new_ones(logits.shape[1]) if class_weights is None else class_weights
    shares = weights.to(dtype) / weights.sum()
    return _BinarySum.apply(logits, target, shares / (target != IGNORE).sum().clamp(min=1))


class _BinarySum(torch.autograd.Function):
    """Sum of the classes' factors times softplus(logit, its sign changed at the own class).

    The gradient is the only tensor as large as the logits that outlives a part of them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, target: Tensor, factor: Tensor) -> Tensor:
        factor = factor[:, None, None]
        total = factor.new_zeros(())
        for values, own, counted, _ in _cut(logits, target, factor.dtype):
            losses = F.softplus(values).scatter_(1, own, F.softplus(-values.gather(1, own)))
            total += losses.mul_(factor).mul_(counted).sum()
        ctx.save_for_backward(logits, target, factor)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, target, factor = ctx.saved_tensors
        result = torch.empty_like(logits)
        for values, own, counted, place in _cut(logits, target, factor.dtype):
            right = -torch.sigmoid(-values.gather(1, own))  # sigmoid - 1 is 0 where nearly sure
            change = torch.sigmoid(values).scatter_(1, own, right)
            result[place] = change.mul_(factor * grad).mul_(counted)
        return result, None, None


def _cut(logits: Tensor, target: Tensor, dtype: torch.dtype) -> Iterator[tuple[Any, ...]]:
    """Of each part: the logits as `dtype`, own class, whether a pixel counts, and the place."""
    for images, lines in parts(logits):
        place = images, slice(None), lines
        ids = target[images, None, lines]
        counted = ids != IGNORE
        yield logits[place].to(dtype), ids.where(counted, 0), counted, place


def focal(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None, gamma: float = 2.0
) -> Tensor:
    """Binary cross entropy of each class against the rest, less of what is right already.

    Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017,
    https://arxiv.org/abs/1708.02002, equation 4.

    Args:
        logits, target, class_weights: as of `bce`.
        gamma: exponent of 1 - the probability of the truth; 0 is plain binary cross entropy.

    Returns () float32 (float64 of float64): mean over counted pixels, then over classes.
    """
    exact = _exact(logits)
    truth = _one_hot(target, logits.shape[1])
    losses = F.binary_cross_entropy_with_logits(exact, truth.to(exact.dtype), reduction="none")
    counted = (target != IGNORE)[:, None]
    hard = (-torch.expm1(-losses)) ** gamma * losses * counted
    return _average(hard.sum((0, 2, 3)) / counted.sum().clamp(min=1), class_weights)


def dice(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """1 - soft Dice coefficient of each class over the whole batch, averaged over all classes.

    Milletari et al., "V-Net", 3DV 2016, https://arxiv.org/abs/1606.04797, without the squares.

    Takes what `bce` takes; gives as it does, in 0..1, a class without pixels 0.
    """
    probabilities = _exact(logits).softmax(1)
    counted = (target != IGNORE)[:, None]
    truth = _one_hot(target, logits.shape[1])
    common = (probabilities * truth).sum((0, 2, 3))
    pixels = truth.sum((0, 2, 3))
    both = (probabilities * counted).sum((0, 2, 3)) + pixels
    losses = (1 - 2 * common / both.clamp(min=SMALL)) * (pixels > 0)
    return _average(losses, class_weights)


def lovasz(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Lovasz-Softmax: the convex extension of 1 - IoU of the batch, over the classes in it.

    Berman et al., CVPR 2018, https://arxiv.org/abs/1705.08790, equation 11 and algorithm 1.

    Takes what `bce` takes; gives as it does, the mean over the classes that have pixels.
    """
    probabilities = _exact(logits).softmax(1).movedim(1, 0).flatten(1)  # (C, pixels)
    labels = target.flatten()
    present = labels.bincount(minlength=IGNORE)[:len(probabilities)].nonzero().flatten()
    if not len(present):
        return 0 * logits.float().nan_to_num().sum()
    counted = labels != IGNORE
    losses = torch.stack([_lovasz_class(probabilities[k], labels == k, counted)
                          for k in present.tolist()])
    return _average(losses, None if class_weights is None else class_weights[present])


def _lovasz_class(probabilities: Tensor, truth: Tensor, counted: Tensor) -> Tensor:
    """() of (P,) probabilities of a class, whether pixels are of it and whether they count."""
    errors = torch.where(truth, 1 - probabilities, probabilities)
    # Pixels that do not count come after all others, so these have the weights as without them.
    weights = _lovasz_weights(errors.detach().masked_fill(~counted, -1), truth)
    return (errors * (weights * counted)).sum()


def _lovasz_weights(errors: Tensor, truth: Tensor) -> Tensor:
    """(P,) weights: how much the IoU falls when a pixel becomes wrong after those of more error.

    The difference of both is written out: subtracted, little of it would be left in single
    precision.
    """
    # Floats from 0 on are ordered as their bits are, and PyTorch sorts integers 16 times as fast;
    # the bits of negative floats are negative integers, which come last here.
    falling = -(errors.view(torch.int32) if errors.dtype == torch.float32 else errors)
    order = falling.argsort()
    truth = truth[order]
    total = truth.sum()
    right = truth.cumsum(0)
    union = (total + torch.arange(1, len(order) + 1, device=order.device) - right).to(errors.dtype)
    left = (total - right).to(errors.dtype)  # of the class, and still right
    weights = torch.where(truth, 1 / union, left / union / (union - 1).clamp(min=1))
    return torch.empty_like(weights).scatter_(0, order, weights)


def added(*losses: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The sum of losses, as a loss."""

    def total(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
        return torch.stack([loss(logits, target, class_weights) for loss in losses]).sum()

    return total


def _exact(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _one_hot(target: Tensor, classes: int) -> Tensor:
    """(N, C, H, W) bool."""
    return target[:, None] == torch.arange(classes, device=target.device)[:, None, None]


def _average(losses: Tensor, class_weights: Tensor | None) -> Tensor:
    """() of (C,), weighted."""
    if class_weights is None:
        return losses.mean()
    weights = class_weights.to(losses.dtype)
    return (losses * weights).sum() / weights.sum().clamp(min=SMALL)
