"""Cross entropy in which every image says how much its classes weigh."""

import torch
import torch.nn.functional as F
from torch import Tensor

from utils.loss_options import LossOptions
from utils.metrics import IGNORE


def image_weighted(
    logits: Tensor, target: Tensor, options: LossOptions | None = None
) -> Tensor:
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
    exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(exact, target, ignore_index=IGNORE, reduction="none").flatten(1)
    table = by_class(weigh(counts, counts.sum(1), options).to(losses.dtype))
    weights = table.gather(1, target.flatten(1))
    means = (losses * weights).sum(1) / weights.sum(1).clamp(min=1)
    return means.sum() if options.upstream_batch_scale else means.mean()


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
