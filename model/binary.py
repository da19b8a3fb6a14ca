"""Binary cross entropy: every class is a yes or no of its own."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.label_relaxation import parts
from utils.metrics import IGNORE


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
