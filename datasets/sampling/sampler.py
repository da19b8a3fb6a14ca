"""The order of a training: every epoch's list, cut for ranks, from any step on."""

from bisect import bisect_right
from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from datasets.base import SampleKey
from datasets.sampling.epoch_lists import EpochLists
from utils.workers import Stream


class TrainSampler(Sampler[list[SampleKey]]):
    """Batches of keys for one rank, from a step to the end of the training.

    An epoch's order is a permutation that depends on seed and epoch alone, so any number of ranks
    and workers sees the same images with the same augmentation, and a resumed training goes on
    where it was without reading what it has seen. Incomplete batches are dropped.

    Args:
        lists, epochs, seed: of the training.
        batch: (accumulate, world, images): micro-batches per step, ranks, images per forward.
        rank: this process.
        max_steps: the training ends here if the epochs are longer.

    Raises ValueError: fewer images than a batch.
    """

    def __init__(
        self, lists: EpochLists, epochs: int, batch: tuple[int, int, int], rank: int = 0,
        seed: int = 0, max_steps: int | None = None,
    ) -> None:
        self.lists, self.batch, self.rank, self.seed = lists, batch, rank, seed
        size = int(np.prod(batch))
        steps: list[int] = []
        while len(steps) < epochs and sum(steps) < (max_steps or np.inf):
            length = lists.length(len(steps))
            if length < size:
                raise ValueError(f"batch of {size} images, but only {length} in the training split")
            steps.append(length // size)
        last = min(sum(steps), max_steps or sum(steps))
        self.offsets = [*np.cumsum([0, *steps[:-1]]).tolist(), last]  # of epochs, and the end
        self.start_step = 0

    def epoch_at(self, step: int) -> int:
        """The epoch that a step is in; their number at the end."""
        return bisect_right(self.offsets, step) - 1

    def __len__(self) -> int:
        return (self.offsets[-1] - self.start_step) * self.batch[0]

    def order(self, epoch: int) -> np.ndarray:
        """Which item of the epoch's list is at each position."""
        rng = np.random.default_rng((Stream.ORDER, self.seed, epoch))
        return rng.permutation(self.lists.length(epoch))

    def __iter__(self) -> Iterator[list[SampleKey]]:
        size = int(np.prod(self.batch))
        for epoch in range(len(self.offsets) - 1):
            first, end = self.offsets[epoch], self.offsets[epoch + 1]
            if end <= self.start_step:
                continue
            items, order = self.lists.build(epoch), self.order(epoch)
            for step in range(max(first, self.start_step), end):
                positions = np.arange((step - first) * size, (step - first + 1) * size)
                for micro in positions.reshape(self.batch)[:, self.rank]:
                    yield [SampleKey(epoch, int(p), *items[order[p]]) for p in micro]
