"""Validation: a network over a labelled split; integers until the last line."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils import distributed
from utils.images import resize_image
from utils.inference.predictor import BLOCK, Predictor
from utils.labels import IGNORE
from utils.pictures import colorize, side_by_side
from utils.stopping import Stopped, StopRequest
from utils.workers import read_shard


class ConfusionMatrix:
    """Counts of (target class, predicted class) over a whole data set.

    The matrix has C rows, of `class_names` in train-id order, and C + 1 columns: the last column
    counts predictions outside the classes (void logits), which are misses.
    """

    def __init__(self, class_names: list[str], device: torch.device | str = "cpu") -> None:
        self.class_names = class_names
        size = len(class_names)
        self.matrix = torch.zeros(size, size + 1, dtype=torch.int64, device=device)
        self.images = 0
        self.loss: float | None = None  # cross entropy, where it was measured

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
        """(C,) float64 intersection over union; nan for a class neither labelled nor predicted."""
        matrix = self.matrix.double()
        hits = matrix.diagonal()
        return hits / (matrix.sum(1) + matrix.sum(0)[: len(hits)] - hits)

    def mean_iou(self) -> float:
        """Mean over the classes that are not nan."""
        return self.iou().nanmean().item()

    def summary(self) -> dict[str, Any]:
        """What a training records, as plain numbers; IoU by class, None for nan."""
        matrix = self.matrix.double()
        hits, pairs = matrix.diagonal(), zip(self.class_names, self.iou().tolist(), strict=True)
        return {
            "mean_iou": self.mean_iou(),
            "pixel_accuracy": (hits.sum() / matrix.sum()).item(),
            "mean_accuracy": (hits / matrix.sum(1)).nanmean().item(),
            "iou": {name: None if value != value else value for name, value in pairs},
            **({} if self.loss is None else {"loss": self.loss}),
        }


class CrossEntropy:
    """The `smoother` of a predictor that smooths nothing, but adds up the loss of its logits.

    At the cells that the network gives, with the label in the middle of each: to enlarge them would
    take as long as the rest of a validation. By rows, since those of a large image may not fit
    twice; in integers, so that any number of ranks have the same sum.
    """

    UNITS = 1 << 16

    def __init__(self, device: torch.device) -> None:
        self.sums = torch.zeros(2, dtype=torch.int64, device=device)  # loss in units, pixels
        self.target = torch.empty(0)  # of the next image, (H, W)

    def __call__(self, scores: Tensor, upsample: Callable[..., Tensor], images: Tensor) -> Tensor:
        """(1, C, h, w) logits as they are."""
        size = scores.shape[-2:]
        target = F.interpolate(self.target[None, None], size, mode="nearest-exact")[0].long()
        block = min(BLOCK.get(scores.device.type, 1 << 24), 1 << 24)
        step = max(1, block // (scores.shape[1] * size[1]))
        for cells, rows in zip(scores.split(step, 2), target.split(step, 1), strict=True):
            loss = F.cross_entropy(cells, rows, ignore_index=IGNORE, reduction="sum")
            self.sums[0] += (loss * self.UNITS).round().long()
        self.sums[1] += (target != IGNORE).sum()
        return scores

    def mean(self) -> float | None:
        """Over the counted pixels of all ranks, None without any."""
        loss, pixels = distributed.sum_over_ranks(self.sums).tolist()
        return loss / self.UNITS / pixels if pixels else None


def validate(
    predictor: Predictor, dataset: Any, workers: int = 0, stop: StopRequest | None = None,
    say: Callable[[int, int], None] = lambda done, total: None,
) -> ConfusionMatrix:
    """Scores a network on a data set, each rank on its own part, with the loss; sums on each rank.

    One image per forward: the figures do not depend on any batch size.

    Args:
        predictor: has the plain module, not the compiled one.
        dataset: gives (image, target) per index; the score is taken at the target's size.
            Logits beyond its classes are void.
        workers: processes that read, per rank.
        stop: asked before each image.
        say: told before each image how many of all are done.

    Raises Stopped: a rank was asked to stop.
    """
    device = predictor.device
    confusion = ConfusionMatrix(dataset.class_names, device)
    losses = CrossEntropy(device)
    predictor = replace(predictor, smoother=losses)
    for image, target in read_shard(dataset, workers, device):
        if stop:
            break
        say(confusion.images * distributed.world(), len(dataset))
        losses.target = target = target.to(device)
        confusion.update(target, predictor(image, tuple(target.shape)))
    counts = torch.tensor([confusion.images, bool(stop)], device=device)
    distributed.sum_over_ranks(confusion.matrix)
    confusion.images, stopped = distributed.sum_over_ranks(counts).tolist()
    if stopped:
        raise Stopped(stop.number if stop else 0)
    if confusion.images != len(dataset):
        raise RuntimeError(f"{confusion.images} of {len(dataset)} images were scored")
    confusion.loss = losses.mean()
    return confusion


def compare(
    predictor: Predictor, dataset: Any, indices: Iterable[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and picture (image, prediction, label) of some samples of a data set."""
    for index in indices:
        image, target = dataset[index]
        prediction = predictor(image, tuple(target.shape))
        maps = (prediction.cpu().numpy(), target.numpy())
        pictures = [colorize(train_ids, dataset.palette) for train_ids in maps]
        seen = resize_image(image.numpy(), target.shape)
        yield dataset.samples[index].name, side_by_side(seen, *pictures)
