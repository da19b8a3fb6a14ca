"""Binary cross entropy: every class is a yes or no of its own."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from model.label_relaxation import parts
from utils.metrics import IGNORE


def binary_cross_entropy(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Binary cross entropy of every class of a pixel, yes for its own and no for the others.

    The loss of CSPSG, Zhou et al., 2023, whose code multiplies it by the images of a forward and
    adds up accumulated forwards. This one is the mean, so its learning rate is theirs times the
    images of a step, and its weight decay theirs divided by them.

    Args:
        logits: (N, C, H, W) float, unnormalized; the class with the highest is predicted.
        target: (N, H, W) int64 train ids; 255 does not count.
        class_weights: (C,) float, of pixels by their own class, or None for 1.

    Returns:
        () float32 (float64 of float64): mean over the counted pixels times the classes, weighted
        by pixel; 0 when none counts.
    """
    counted = target != IGNORE
    own = target.where(counted, 0)
    weights = counted.float() if class_weights is None else class_weights[own] * counted
    total = weights.sum().clamp(min=torch.finfo(torch.float32).tiny)
    return _BinarySum.apply(logits, own, weights / total / logits.shape[1])


class _BinarySum(torch.autograd.Function):
    """Sum of factor * softplus(logit, its sign changed at the own class).

    The gradient is the only tensor as large as the logits that outlives a part of them.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, own: Tensor, factor: Tensor) -> Tensor:
        factor = factor.to(torch.promote_types(logits.dtype, torch.float32))
        total = factor.new_zeros(())
        for images, lines in parts(logits):
            values = logits[images, :, lines].to(factor.dtype)
            place = own[images, None, lines]
            losses = F.softplus(values).scatter_(1, place, F.softplus(-values.gather(1, place)))
            total += losses.mul_(factor[images, None, lines]).sum()
        ctx.save_for_backward(logits, own, factor)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        logits, own, factor = ctx.saved_tensors
        result = torch.empty_like(logits)
        for images, lines in parts(logits):
            values = logits[images, :, lines].to(factor.dtype)
            place = own[images, None, lines]
            # not sigmoid - 1, which is 0 where a class is nearly sure
            right = -torch.sigmoid(-values.gather(1, place))
            change = torch.sigmoid(values).scatter_(1, place, right)
            result[images, :, lines] = change.mul_(factor[images, None, lines] * grad)
        return result, None, None
