"""Segmentation metrics: integers until the last line."""

from typing import Any

import torch
from torch import Tensor

from utils.labels import IGNORE


class ConfusionMatrix:
    """Counts of (target class, predicted class) over a whole data set.

    The matrix has C rows and C + 1 columns: the last column counts predictions outside the
    classes (void logits), which are misses.

    Args:
        class_names: C names in train-id order.
        device: where the counting is done.
    """

    def __init__(self, class_names: list[str], device: torch.device | str = "cpu") -> None:
        self.class_names = class_names
        size = len(class_names)
        self.matrix = torch.zeros(size, size + 1, dtype=torch.int64, device=device)
        self.images = 0

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Counts one image.

        Args:
            target: (H, W) train ids; 255 does not count.
            prediction: (H, W) channels of the largest logit.
        """
        size = len(self.class_names)
        counted = target != IGNORE
        rows = target[counted].long()
        columns = prediction[counted].long().clamp(max=size)
        counts = torch.bincount(rows * (size + 1) + columns, minlength=self.matrix.numel())
        self.matrix += counts.view_as(self.matrix)
        self.images += 1

    def iou(self) -> Tensor:
        """(C,) float64 intersection over union; nan for a class that neither occurs nor is said."""
        matrix = self.matrix.double()
        hits = matrix.diagonal()
        return hits / (matrix.sum(1) + matrix.sum(0)[: len(hits)] - hits)

    def mean_iou(self) -> float:
        """Mean over the classes that are not nan."""
        return self.iou().nanmean().item()

    def summary(self) -> dict[str, Any]:
        """What a training records, as plain numbers; IoU by class, None for nan."""
        matrix = self.matrix.double()
        found = matrix.diagonal() / matrix.sum(1)
        pairs = zip(self.class_names, self.iou().tolist(), strict=True)
        return {
            "mean_iou": self.mean_iou(),
            "pixel_accuracy": (matrix.diagonal().sum() / matrix.sum()).item(),
            "mean_accuracy": found.nanmean().item(),
            "iou": {name: None if value != value else value for name, value in pairs},
        }
