"""Losses: `(logits, target, class_weights)` to a scalar, the mean over the pixels that count."""

import math
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from model.losses.label_relaxation import (
    IMAGE_WEIGHTED,
    LossOptions,
    image_weighted,
    label_relaxation,
    weighted_sum,
)
from model.losses.per_class import added, bce, dice, focal, lovasz
from utils.labels import IGNORE

Loss = Callable[[Tensor, Tensor], Tensor]
TINY = torch.finfo(torch.float32).tiny


def cross_entropy(logits: Tensor, target: Tensor, class_weights: Tensor | None = None) -> Tensor:
    """Cross entropy, each pixel weighted by its class.

    Args:
        logits: (N, C, H, W) float, unnormalized.
        target: (N, H, W) int64 train ids; 255 does not count.
        class_weights: (C,) float, or None for 1.

    Returns:
        () float32 (float64 of float64): sum of weight * loss over sum of weight, 0 when no pixel
        counts.
    """
    counted = target != IGNORE
    weights = counted.float()
    if class_weights is not None:
        weights *= class_weights[target.where(counted, 0)]
    return weighted_sum(logits, target, weights / weights.sum().clamp(min=TINY))


def ohem(
    logits: Tensor, target: Tensor, class_weights: Tensor | None = None, threshold: float = 0.7,
    least: float = 1 / 16,
) -> Tensor:
    """Cross entropy of the hard pixels: online hard example mining.

    Shrivastava et al., CVPR 2016, https://arxiv.org/abs/1604.03540, per pixel.

    Args:
        logits, target: as of `cross_entropy`.
        class_weights: (C,) float on the hard pixels, or None for 1.
        threshold: a pixel is hard when the probability of its class is below this.
        least: part of all pixels that is kept, the hardest first, when fewer are hard.

    Returns () float32, mean over the pixels kept, 0 when no pixel counts.
    """
    with torch.no_grad():
        losses = F.cross_entropy(logits.float(), target, ignore_index=IGNORE, reduction="none")
        hardest = losses.flatten().topk(math.ceil(least * losses.numel())).values
        limit = hardest[-1].clamp(max=-math.log(threshold))
        hard = target.where(~(losses < limit), IGNORE)  # also what is not a number
    return cross_entropy(logits, hard, class_weights)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "ohem": ohem,
    "image_weighted": image_weighted,
    "label_relaxation": label_relaxation,
    "bce": bce,
    "dice": dice,
    "focal": focal,
    "lovasz": lovasz,
    "dice+cross_entropy": added(dice, cross_entropy),
    "lovasz+cross_entropy": added(lovasz, cross_entropy),
}
# shares of the classes' pixels -> weights: Paszke et al., ENet, 2016, with its constant and a
# milder one that thin classes do not pay for in precision
CLASS_WEIGHTS = {"none": None, "enet": 1.02, "enet110": 1.10}


def class_weights(
    name: str, pixels: Tensor | None, device: torch.device | str = "cpu"
) -> Tensor | None:
    """(C,) float32 weights 1 / ln(c + share) from (C,) pixel counts; None for "none"."""
    constant = CLASS_WEIGHTS[name]
    if constant is None or pixels is None:
        return None
    return (1 / (constant + pixels.double() / pixels.sum()).log()).float().to(device)


def build_loss(
    name: str, epoch: int, class_weights: Tensor | None = None, options: LossOptions | None = None
) -> Loss:
    """The loss of an epoch; most are the same in every one.

    Args:
        name: in LOSSES.
        epoch: from 0.
        class_weights: (C,) of the data set.
        options: of the losses that weigh by image instead, and take no `class_weights`.
    """
    if name in IMAGE_WEIGHTED:
        return partial(LOSSES[name], options=(options or LossOptions()).at(epoch))
    return partial(LOSSES[name], class_weights=class_weights)
