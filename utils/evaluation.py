"""Scores a data set, image by image, in threads: from a network or from files."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from tqdm import tqdm

from utils import distributed
from utils.outputs import Outputs
from utils.scoring import Scores

Result = TypeVar("Result")


class Scored(NamedTuple):
    """What is scored of one image."""

    number: int  # of the image
    prediction: np.ndarray  # (H, W) uint8 labels
    truth: np.ndarray  # (H, W) uint8 labels
    instances: np.ndarray | None  # (H, W) uint16 label * 1000 + n
    image: np.ndarray | None  # (h, w, 3) uint8 RGB, where it is needed


def in_order(
    function: Callable[..., Result], items: Iterable[Any], threads: int
) -> Iterator[Result]:
    """function(item) for each item, in their order, a few ahead in threads.

    Unlike `Executor.map` it takes the next item only when a place is free, so that memory does not
    grow with their number.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
    bar = tqdm(in_order(measure, items, threads), disable=silent, unit="image")
    for index, counts in bar:
        scores.add(index, counts)
    scores.gather()
