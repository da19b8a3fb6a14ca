"""Training samples made of four, each scaled, cropped, mirrored and colored by itself.

Bochkovskiy et al., "YOLOv4", 2020, https://arxiv.org/abs/2004.10934. Tiles are half as high and
wide as a crop, so that batches have one size; published CSPSG takes whole crops and has mosaics of
twice the size, which is the same with twice the crop.
"""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import SampleKey, SegmentationDataset
from datasets.sampling.class_uniform import Item
from datasets.sampling.epoch_lists import EpochLists
from datasets.transforms import TrainTransform
from utils.workers import Stream


class Mosaic(Dataset):
    """A data set of which some samples are two by two smaller ones.

    The first tile is of the sample's own image, the others of any items of the epoch's list, with
    their crop centers. All is a function of (seed, epoch, position).

    Args:
        train: with a `TrainTransform` of an even crop.
        lists: of the epochs.
        share: part of the samples, 0..1.
    """

    def __init__(self, train: SegmentationDataset, lists: EpochLists, share: float) -> None:
        transform: TrainTransform = train.transform  # type: ignore[assignment]
        height, width = transform.crop_size
        self.tiles = copy.copy(train)
        self.tiles.transform = replace(transform, crop_size=(height // 2, width // 2))
        self.train, self.lists, self.share, self.seed = train, lists, share, transform.seed
        self.epoch: tuple[int, list[Item]] = -1, []  # the latest and its list

    def __getitem__(self, key: SampleKey) -> tuple[Tensor, Tensor]:
        """(H, W, 3) and (H, W) uint8."""
        rng = np.random.default_rng((Stream.MOSAIC, self.seed, *key[:2]))
        if rng.random() >= self.share:
            return self.train[key]  # type: ignore[return-value]
        images, targets = zip(*(self.tiles[tile] for tile in self.keys(key, rng)), strict=True)
        return join(images), join(targets)

    def keys(self, key: SampleKey, rng: np.random.Generator) -> list[SampleKey]:
        """Those of the tiles, row by row; each has a position that is no other sample's."""
        epoch, position = key[:2]
        if epoch != self.epoch[0]:
            self.epoch = epoch, self.lists.build(epoch)
        items = self.epoch[1]
        others = rng.integers(len(items), size=3)
        return [key, *(SampleKey(epoch, position + (tile << 32), *items[other])
                       for tile, other in enumerate(others, start=1))]


def join(tiles: tuple[Tensor, ...]) -> Tensor:
    """(2 H, 2 W, ...) of four (H, W, ...), row by row."""
    return torch.cat([torch.cat(tiles[:2], dim=1), torch.cat(tiles[2:], dim=1)])
