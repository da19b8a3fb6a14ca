"""Binary cross entropy: every class is a yes or no of its own."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.losses.label_relaxation import parts
from model.losses.region import _average, _exact, _one_hot
from utils.labels import IGNORE


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

    Returns:
        () float32 (float64 of float64): mean over counted pixels, then over classes.
    """
    exact = _exact(logits)
    truth = _one_hot(target, logits.shape[1])
    losses = F.binary_cross_entropy_with_logits(exact, truth.to(exact.dtype), reduction="none")
    counted = (target != IGNORE)[:, None]
    hard = (-torch.expm1(-losses)) ** gamma * losses * counted
    return _average(hard.sum((0, 2, 3)) / counted.sum().clamp(min=1), class_weights)
