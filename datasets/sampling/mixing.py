"""Training samples made of several: mosaics of four, and pasted pixels of rare classes."""

import copy
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import SampleKey, SegmentationDataset
from datasets.sampling.epoch_lists import EpochLists, Item
from datasets.transforms import TrainTransform
from utils.workers import Stream


class Others:
    """Further items of a sample's epoch, each with a position that is no sample's."""

    def __init__(self, lists: EpochLists) -> None:
        self.lists = lists
        self.epoch: tuple[int, list[Item]] = -1, []  # the latest and its list

    def draw(self, key: SampleKey, rng: np.random.Generator, places: Iterable[int]) -> list:
        """A key for each of the `places`, which keep the random draws of its samples apart."""
        epoch, position = key[:2]
        if epoch != self.epoch[0]:
            self.epoch = epoch, self.lists.build(epoch)
        items, places = self.epoch[1], list(places)
        drawn = rng.integers(len(items), size=len(places))
        return [SampleKey(epoch, position + (place << 32), *items[item])
                for place, item in zip(places, drawn, strict=True)]


class Mosaic(Dataset):
    """A data set of which some samples are two by two smaller ones.

    Bochkovskiy et al., "YOLOv4", 2020, https://arxiv.org/abs/2004.10934. Tiles are half as high and
    wide as a crop, so that batches have one size; published CSPSG takes whole crops and has mosaics
    of twice the size, which is the same with twice the crop. The first tile is of the sample's own
    image, the others of any items of the epoch's list, with their crop centers. All is a function
    of (seed, epoch, position).

    Args:
        train: with a `TrainTransform` of an even crop.
        lists: of the epochs.
        share: part of the samples, 0..1.
    """

    def __init__(self, train: SegmentationDataset, lists: EpochLists, share: float) -> None:
        transform: TrainTransform = train.transform  # type: ignore[assignment]
        height, width = transform.crop_size
        self.root = train.root
        self.tiles = copy.copy(train)
        self.tiles.transform = replace(transform, crop_size=(height // 2, width // 2))
        self.train, self.share, self.seed = train, share, transform.seed
        self.others = Others(lists)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor]:
        """(H, W, 3) and (H, W) uint8."""
        rng = np.random.default_rng((Stream.MOSAIC, self.seed, *key[:2]))
        if rng.random() >= self.share:
            return self.train[key]  # type: ignore[return-value]
        images, targets = zip(*(self.tiles[tile] for tile in self.keys(key, rng)), strict=True)
        return join(images), join(targets)

    def keys(self, key: SampleKey, rng: np.random.Generator) -> list[SampleKey]:
        """Those of the tiles, row by row."""
        return [key, *self.others.draw(key, rng, (1, 2, 3))]


class Paste(Dataset):
    """A data set into some samples of which another one's pixels of some classes are pasted.

    Olsson et al., "ClassMix", WACV 2021, https://arxiv.org/abs/2007.07936, with classes that are
    given. The other sample is any item of the epoch's list, varied by itself. All is a function of
    (seed, epoch, position).

    Args:
        samples: into which is pasted, `train` or made of it.
        train: with a `TrainTransform`; what is pasted comes from it.
        lists: of the epochs.
        share: part of the samples, 0..1.
        classes: train ids.
    """

    def __init__(
        self, samples: Dataset, train: SegmentationDataset, lists: EpochLists, share: float,
        classes: Iterable[int],
    ) -> None:
        self.samples, self.train, self.share = samples, train, share
        self.root = train.root
        self.seed = train.transform.seed  # type: ignore[union-attr]
        self.pasted = torch.zeros(256, dtype=torch.bool)
        self.pasted[list(classes)] = True
        self.others = Others(lists)

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor]:
        """(H, W, 3) and (H, W) uint8."""
        image, target = self.samples[key]
        rng = np.random.default_rng((Stream.PASTE, self.seed, *key[:2]))
        if rng.random() >= self.share:
            return image, target
        other, labels = self.train[self.others.draw(key, rng, (4,))[0]]
        pasted = self.pasted[labels.int()]  # type: ignore[union-attr]
        return (torch.where(pasted[..., None], other, image),
                torch.where(pasted, labels, target))  # type: ignore[arg-type]


def join(tiles: tuple[Tensor, ...]) -> Tensor:
    """(2 H, 2 W, ...) of four (H, W, ...), row by row."""
    return torch.cat([torch.cat(tiles[:2], dim=1), torch.cat(tiles[2:], dim=1)])
