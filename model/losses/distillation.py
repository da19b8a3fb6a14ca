"""Learning from another network's probabilities.

Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, https://arxiv.org/abs/1503.02531,
per pixel.
"""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Teacher:
    """A network that a training imitates on the crops that it sees.

    Args:
        network: in evaluation mode, of the same classes.
        weight: of its loss, 0..1; that of the labels has the rest.
    """

    network: Any
    weight: float

    def __call__(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """() the loss of the labels and that of the teacher, weighted.

        Given (N, C, H, W) logits of the network that learns, of (N, 3, H, W) uint8 RGB images.
        """
        with torch.no_grad():
            theirs = self.network(images)
        return (1 - self.weight) * loss + self.weight * divergence(logits, theirs)


def divergence(logits: Tensor, theirs: Tensor) -> Tensor:
    """() float32, mean Kullback-Leibler divergence of (N, C, H, W) logits from `theirs`."""
    found, wanted = (each.float().log_softmax(1) for each in (logits, theirs))
    sums = F.kl_div(found, wanted, reduction="sum", log_target=True)
    return sums / (logits.numel() / logits.shape[1])
