"""Label relaxation as published, rebuilt from its description, and what it is called on."""

import numpy as np
import torch
from torch import Tensor

from datasets.cityscapes_labels import TABLE
from datasets.render import render
from datasets.scene import make_scene


def street_target(size: int, seed: int = 0) -> Tensor:
    """(1, size, size) int64 train ids, from the middle of a drawn street of twice the width."""
    scene = make_scene(seed)
    ids = render(scene, scene.camera, size + 128, 2 * (size + 128))[1]
    crop = TABLE.id_to_train_id[ids][64 : 64 + size, size // 2 : size // 2 + size]
    return torch.from_numpy(crop.astype(np.int64))[None]


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
