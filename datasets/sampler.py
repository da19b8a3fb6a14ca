"""The order of a training: every epoch's list, cut for ranks, from any step on."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from datasets.base import Key


class TrainSampler(Sampler[list[Key]]):
    """Batches of keys for one rank, from a step to the end of the training.

    An epoch's list is a permutation that depends on seed and epoch alone, so any number of ranks
    and workers sees the same images with the same augmentation, and a resumed training goes on
    where it was without reading what it has seen. Incomplete batches are dropped.

    Args:
        length: images in the data set.
        epochs: of the training.
        batch: (accumulate, world, images): micro-batches per step, ranks, images per forward.
        rank: this process.
        seed: of the training.
        max_steps: the training ends here if the epochs are longer.

    Raises:
        ValueError: fewer images than a batch.
    """

    def __init__(
        self,
        length: int,
        epochs: int,
        batch: tuple[int, int, int],
        rank: int = 0,
        seed: int = 0,
        max_steps: int | None = None,
    ) -> None:
        self.length, self.batch, self.rank, self.seed = length, batch, rank, seed
        size = int(np.prod(batch))
        if length < size:
            raise ValueError(f"batch of {size} images, but only {length} in the training split")
        steps = [length // size for _ in range(epochs)]
        last = min(sum(steps), max_steps or sum(steps))
        starts = [start for start in np.cumsum([0, *steps]).tolist() if start < last]
        self.offsets = [*starts, last]  # first step of every epoch, and the end
        self.start_step = 0

    def __len__(self) -> int:
        return (self.offsets[-1] - self.start_step) * self.batch[0]

    def indices(self, epoch: int) -> np.ndarray:
        """Image indices of an epoch, in the order of their positions."""
        return np.random.default_rng((1, self.seed, epoch)).permutation(self.length)

    def __iter__(self) -> Iterator[list[Key]]:
        size = int(np.prod(self.batch))
        for epoch in range(len(self.offsets) - 1):
            first, end = self.offsets[epoch], self.offsets[epoch + 1]
            if end <= self.start_step:
                continue
            indices = self.indices(epoch)
            for step in range(max(first, self.start_step), end):
                positions = np.arange((step - first) * size, (step - first + 1) * size)
                for micro in positions.reshape(self.batch)[:, self.rank]:
                    yield [(epoch, int(p), int(indices[p]), None) for p in micro]
