"""A whole training split on the device, where crops are cut, colored and blurred.

The same keys give the same windows, flips, colors and blurs as with `TrainTransform`, whose numbers
are drawn here too. Pixels differ where an image shrinks: a triangle filter, of twice its width,
stands for the mean over a pixel's area.
"""

import contextlib
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from datasets.base import Key, SegmentationDataset
from datasets.transforms import PADDING, SIGMA, Draw, TrainTransform, chroma_matrix, place
from utils.metrics import IGNORE
from utils.workers import map_in_threads

SHARE = 0.5  # of the device's free memory at most; activations and gradients need the rest


def kernel_size(sigma: float) -> int:
    """Taps of a Gaussian in OpenCV, for 8 bits."""
    return round(6 * sigma + 1) | 1


class OnDevice:
    """Batches of a data set whose images and targets all are on the device.

    Args:
        dataset: with a `TrainTransform`; sizes may differ.
        device: holds them as uint8; each process has its own copy.
        threads: read files beside each other.

    Raises:
        ValueError: they do not fit, or a file cannot be read.
    """

    def __init__(
        self, dataset: SegmentationDataset, device: torch.device, threads: int = 1
    ) -> None:
        check_fit(dataset, device)
        self.dataset, self.device = dataset, device
        self.transform: TrainTransform = dataset.transform  # type: ignore[assignment]
        samples = map_in_threads(self._read, range(len(dataset)), threads)
        bar = tqdm(samples, total=len(dataset), desc="to device", disable=None, unit="image")
        self.samples = [tuple(array.to(device) for array in sample) for sample in bar]

    def _read(self, index: int) -> tuple[Tensor, Tensor]:
        image, ids = self.dataset.read_image(index), self.dataset.read_ids(index)
        return torch.tensor(image), torch.from_numpy(self.dataset.to_train_ids(ids, index))

    @torch.no_grad()
    def batch(self, keys: list[Key]) -> tuple[Tensor, Tensor]:
        """(N, H, W, 3) and (N, H, W) uint8, augmented as the keys say."""
        images, targets, draws = [], [], []
        for epoch, position, index, center in keys:
            image, target = self.samples[index]
            height, width, _ = image.shape
            draw = self.transform.draw((height, width), epoch, position, center)
            images.append(cut_image(image, draw, self.transform.crop_size))
            targets.append(cut_target(target, draw, self.transform.crop_size))
            draws.append(draw)
        pixels = color_jitter(torch.stack(images).float(), np.stack([d.change for d in draws]))
        pixels = blur(pixels, [draw.sigma for draw in draws])
        pixels = pixels.round_().clamp_(0, 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous(), torch.stack(targets)


def check_fit(dataset: SegmentationDataset, device: torch.device) -> None:
    """Refuses a split that the device has no room for.

    Raises:
        ValueError: what it needs, what is free.
    """
    need = sum(4 * height * width for height, width in dataset.sizes())
    free = free_memory(device)
    if need > SHARE * free:
        raise ValueError(
            f"--data-on-device: {len(dataset)} samples are {need / 1e9:.2f} GB, over "
            f"{100 * SHARE:.0f} % of the {free / 1e9:.2f} GB that are free on {device}; "
            "take --cache raw instead"
        )


def free_memory(device: torch.device) -> int:
    """Bytes that this process can still use there."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with contextlib.suppress(OSError):  # Linux
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if "MemAvailable" in line)
    return free // int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # all ranks load at once


def cut_image(image: Tensor, draw: Draw, size: tuple[int, int]) -> Tensor:
    """(3, H, W) of an (h, w, 3) uint8 image, padded outside it."""
    placement = place(draw.window, size, image.shape)
    part = image[placement.source].permute(2, 0, 1)[None]
    if image.device.type != "cpu":  # only there, bytes are resized as they are, and faster
        part = part.float()
    part = F.interpolate(part, size=placement.size, mode="bilinear", antialias=True)
    crop = part.new_tensor(PADDING).view(3, 1, 1).repeat(1, *size)
    crop[:, *placement.target] = part[0]
    return crop.flip(2) if draw.flip else crop


def cut_target(target: Tensor, draw: Draw, size: tuple[int, int]) -> Tensor:
    """(H, W) of (h, w) uint8 train ids, ignored outside the image."""
    placement = place(draw.window, size, target.shape)
    part = target[placement.source][None, None]
    crop = target.new_full(size, IGNORE)
    crop[placement.target] = F.interpolate(part, size=placement.size, mode="nearest-exact")[0, 0]
    return crop.flip(1) if draw.flip else crop


def color_jitter(images: Tensor, changes: np.ndarray) -> Tensor:
    """(N, 3, H, W), each with its own change (N, 4), as `transforms.color_jitter` does it."""
    gain, contrast = images.new_tensor(1 + changes[:, :2].T)[..., None, None, None]
    mean = images[:, :, ::8, ::8].mean((1, 2, 3), keepdim=True) * gain
    images = ((images * gain - mean) * contrast + mean + 0.5).clamp_(0, 255).floor_()
    matrices = images.new_tensor(np.stack([chroma_matrix(change) for change in changes]))
    return (matrices @ images.flatten(2)).view_as(images).round_().clamp_(0, 255)


def blur(images: Tensor, sigmas: list[float]) -> Tensor:
    """(N, 3, H, W), each with its own Gaussian; 0 leaves an image as it is."""
    if not any(sigmas):
        return images
    taps = kernel_size(SIGMA[1])
    kernels = np.zeros((len(sigmas), taps), np.float32)
    for kernel, sigma in zip(kernels, sigmas, strict=True):
        size = kernel_size(sigma)
        start = (taps - size) // 2
        kernel[start : start + size] = cv2.getGaussianKernel(size, sigma or 1.0).ravel()
    weight = images.new_tensor(kernels).repeat_interleave(3, 0)[:, None]  # of every channel
    planes = images.flatten(0, 1)[None]
    planes = F.pad(planes, [taps // 2] * 4, mode="reflect")
    planes = F.conv2d(planes, weight[..., None], groups=len(weight))
    planes = F.conv2d(planes, weight[:, :, None], groups=len(weight))
    return planes.view_as(images)
