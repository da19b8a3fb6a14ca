"""Scores a data set, image by image, in threads: from a network or from files."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from utils import distributed
from utils.outputs import Outputs
from utils.scoring import Scores
from utils.workers import map_in_threads


class Scored(NamedTuple):
    """What is scored of one image."""

    number: int  # of the image
    prediction: np.ndarray  # (H, W) uint8 labels
    truth: np.ndarray  # (H, W) uint8 labels
    instances: np.ndarray | None  # (2, R) int32 runs of label * 1000 + n
    image: np.ndarray | None  # (h, w, 3) uint8 RGB, where it is needed


def evaluate(
    scores: Scores,
    items: Iterable[Any],
    read: Callable[[Any], Scored] | None,
    outputs: Outputs | None,
    threads: int,
) -> None:
    """Counts this rank's images, and then those of all ranks.

    Args:
        scores: gets the counts.
        items: one per image of this rank; taken one after the other.
        read: from an item to what is scored, called in threads; None if items are that.
        outputs: writes pictures of each image.
        threads: of this process.
    """
    def measure(item: Any) -> tuple[int, Any]:
        scored: Scored = read(item) if read else item
        if outputs:
            outputs.write(scored.number, scored.image, scored.prediction, scored.truth)
        counts = scores.measure(scored.truth, scored.prediction, scored.instances)
        return scored.number, counts

    silent = None if distributed.rank() == 0 else True
    bar = tqdm(map_in_threads(measure, items, threads), disable=silent, unit="image")
    for index, counts in bar:
        scores.add(index, counts)
    scores.gather()
