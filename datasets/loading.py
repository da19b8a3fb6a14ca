"""Where a training gets its batches from: worker processes, or the device that trains."""

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets.base import SegmentationDataset
from datasets.mosaic import Mosaic
from datasets.on_device import OnDevice
from datasets.sampler import TrainSampler
from utils.workers import Loader


def load_batches(
    train: SegmentationDataset,
    sampler: TrainSampler,
    workers: int,
    device: torch.device,
    on_device: bool,
    mosaic: float = 0.0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a training, (N, H, W, 3) and (N, H, W) uint8, to its end.

    Args:
        train: with its transform.
        sampler: gives the keys of each batch.
        workers: processes that read and augment; threads that read if `on_device`.
        device: that trains.
        on_device: keep the whole split on the device and augment there.
        mosaic: share of samples that are made of four; not on the device.

    Raises:
        ValueError: the split does not fit there.
    """
    if on_device:
        return map(OnDevice(train, device, workers).batch, sampler)
    samples: Dataset = Mosaic(train, sampler.lists, mosaic) if mosaic else train
    return iter(Loader(samples, workers, device, batch_sampler=sampler))
