"""Label relaxation as published, rebuilt from its description, and what it is called on."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from benchmarks.streets import make_street
from datasets.cityscapes_labels import TABLE
from utils.labels import IGNORE

CLASSES = len(TABLE.class_names)


def street_target(size: int) -> Tensor:
    """(1, size, size) int64 train ids of a street.

    Shipped labels are enlarged 6 times: borders are then as rare as those of Cityscapes.
    """
    side = -(-size // 6)
    ids = TABLE.id_to_train_id[make_street(0, (side, side)).ids].repeat(6, 0).repeat(6, 1)
    return torch.from_numpy(ids[:size, :size].astype(np.int64))[None]


def relax(target: np.ndarray) -> np.ndarray:
    """(C + 1, H, W) uint8, the classes in the 3x3 window of each pixel; the last one is void."""
    target = np.where(target == IGNORE, CLASSES, target)
    classes = np.arange(CLASSES + 1)[:, None, None]
    counts = np.zeros((CLASSES + 1, *target.shape), np.uint8)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            counts = counts + (ndimage.shift(target, (dy, dx), cval=CLASSES) == classes)
    return np.clip(counts, 0, 1)


def published_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Sum over the images of the relaxed loss with weights from the image, in probabilities.

    Args:
        logits: (N, C, H, W).
        target: (N, C + 1, H, W) uint8, 1 for every class in a pixel's window; the last is void.
    """
    sizes = target[:, :-1].sum(1)
    ignored = sizes == 0
    sizes = sizes.masked_fill(ignored, 1).to(logits.dtype)
    total = logits.new_zeros(())
    for image in range(len(logits)):
        masks = target[image, :-1].to(logits.dtype)
        p = logits[image : image + 1].softmax(1)[0]
        log_p = torch.maximum(p, masks * (p * masks).sum(0)).log()
        weights = class_weights(target[image])[:, None, None].to(logits.dtype)
        pixels = -(masks * weights * log_p).sum(0).masked_fill(ignored[image], 0)
        counted = ignored[image].numel() - ignored[image].sum() + 1
        total = total + (pixels / sizes[image]).sum() / counted
    return total


def class_weights(target: Tensor) -> Tensor:
    """(C,) of a (C + 1, H, W) target: rare classes up to 2, absent ones 1."""
    pixels = target.numpy().reshape(len(target), -1).sum(1, dtype=np.int64)
    share = pixels[:-1] / pixels.sum()
    return torch.from_numpy((share != 0) * (1 - share) + 1)
