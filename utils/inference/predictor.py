"""From images to label maps."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from utils.images import resize_image
from utils.inference.cuda_graph import Replayed
from utils.inference.label_map import best_class, largest_between
from utils.inference.multiscale import Upsample, as_input, mean_scores
from utils.inference.settings import Inference
from utils.precision import autocast, choose_precision

BLOCK = {"cpu": 1 << 20, "cuda": 1 << 27}  # logits of the rows that are judged at a time


def resize(scores: Tensor, size: Sequence[int]) -> Tensor:
    """(N, C, h, w) -> (N, C, H, W) at `size`, bilinear."""
    return F.interpolate(scores, tuple(size), mode="bilinear", align_corners=False)


class Workload(NamedTuple):
    """What a network is going to see."""

    size: tuple[int, int]  # height and width of the first image
    images: int | None  # None: nobody knows, as of a camera


FEW_IMAGES = Workload((0, 0), 0)  # of any size; on a CPU auto is fp32 for them


@dataclass(frozen=True)
class Predictor:
    """A network as it is used: an image in, its label map out.

    Args:
        network: as built by `model`, in evaluation mode.
        precision: of the forward: fp32, bf16 or fp16.
        table: (256,) uint8 from channel to train id, for a network of other classes.
        inference: sizes and pieces in which the network sees an image; as it is by default.
        smoother: averages its scores with those of the frames before; of a video alone.
        replayed: the kernels of a size that comes again are launched together; on a CUDA device,
            of a network that never looks at what it computes.
        forward: compiled, from images to coarse logits, in place of the network's own.
    """

    network: Any
    precision: str = "fp32"
    table: np.ndarray | None = None
    inference: Inference = Inference()
    smoother: Callable[[Tensor, Upsample, Tensor], Tensor] | None = None
    replayed: bool = False
    forward: Callable[[Tensor], Tensor] | None = None

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    @torch.inference_mode()
    def __call__(self, image: Tensor, size: tuple[int, int] | None = None) -> Tensor:
        """(h, w, 3) uint8 RGB, on any device -> (H, W) uint8 at `size`, default the image's.

        Raises ValueError for other pixels, as floats in 0..1, which would be seen as black.
        """
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image of {image.dtype} {tuple(image.shape)}; expected uint8 "
                             "(H, W, 3), RGB in 0..255")
        height, width = image.shape[:2]
        images = as_input(image)
        if self.inference.plain and size in (None, (height, width)):
            channels = self.label_maps(images)[0, :height, :width]
        elif self.inference.plain and size:
            logits = self._steady(self._coarse(images).float(), self.network.upsample, images)
            logits = self.network.upsample(logits.contiguous(), images.shape[-2:])
            logits = logits[:, :, :height, :width]
            channels = best_class(resize(logits, size)[0])
        else:
            scores = mean_scores(self._coarse, self.network.upsample, image,
                                 size or (height, width), self.inference)
            scores = self._steady(scores[None].float(), resize, images[..., :height, :width])[0]
            channels = best_class(scores)
        if self.table is None:
            return channels
        return torch.from_numpy(self.table).to(self.device)[channels.int()]

    def _coarse(self, images: Tensor) -> Tensor:
        if self.forward:
            logits = self.forward(images)
        else:
            with autocast(self.device, self.precision):
                logits = self.network(images.to(self.device), full_size=False)
        if "tried" not in vars(self):  # of the first image, for what it costs
            vars(self)["tried"] = True
            if not logits.sum(dtype=torch.float32).isfinite():
                warnings.warn("the network gives logits that are not finite: it is hardly trained, "
                              "it diverged, or they are too large for the precision", stacklevel=2)
        return logits

    def _steady(self, scores: Tensor, upsample: Upsample, images: Tensor) -> Tensor:
        return self.smoother(scores, upsample, images) if self.smoother else scores

    @torch.inference_mode()
    def label_maps(self, images: Tensor) -> Tensor:
        """(N, 3, h, w) uint8 RGB -> (N, h, w) uint8, the channel of each pixel's largest logit.

        Full-size logits are never there as a whole: on a CPU, a network that says how large its
        cells are has only those enlarged where classes meet. Of others, rows are made and judged by
        turns, while they are in the processor's cache.
        """
        return self._replay(images) if self.replayed and not self.smoother else self._judge(images)

    @cached_property
    def _replay(self) -> Replayed:
        return Replayed(self._judge, self.device)

    def _judge(self, images: Tensor) -> Tensor:
        size = images.shape[-2:]
        coarse = self._steady(self._coarse(images).float(), self.network.upsample, images)
        coarse = coarse.contiguous()
        maps = torch.empty(len(images), *size, dtype=torch.uint8, device=coarse.device)
        step = max(1, BLOCK.get(self.device.type, 1 << 27) // (coarse.shape[1] * size[1]))
        cell_side = None
        if self.device.type == "cpu":  # elsewhere to find the cells takes longer than to fill all
            cell_side = getattr(self.network, "cell_side", lambda *_: None)(coarse, size)
        for labels, logits in zip(maps, coarse.split(1), strict=True):
            if cell_side:
                labels.copy_(largest_between(logits[0], cell_side)[: size[0], : size[1]])
                continue
            for top in range(0, size[0], step):
                rows = slice(top, min(top + step, size[0]))
                labels[rows] = best_class(self.network.upsample(logits, size, rows)[0])
        return maps

    def label_map(self, image: np.ndarray, seen: Sequence[int] | None = None) -> Tensor:
        """Label map of an (H, W, 3) uint8 RGB array that the network sees at size `seen`."""
        pixels = resize_image(image, seen) if seen else image
        return self(torch.from_numpy(pixels), image.shape[:2])

    def with_precision(self, wanted: str, workload: Workload) -> "Predictor":
        """Itself in fp32, bf16 or fp16; for auto in what is fast at the workload."""
        return replace(self, precision=self._fast(workload) if wanted == "auto" else wanted)

    def _fast(self, workload: Workload) -> str:
        """Precision in which it makes a label map of the first image soonest, all included."""
        if not sum(each.numel() for each in self.network.parameters()):
            return "fp32"  # an ONNX file, which knows no other
        generator = torch.Generator().manual_seed(0)
        shape = *workload.size, 3
        image = torch.randint(256, shape, dtype=torch.uint8, generator=generator)

        def run(network: Any, precision: str) -> None:
            replace(self, network=network, precision=precision)(image)

        about = {"size": list(workload.size), "inference": vars(self.inference)}
        return choose_precision(self.device, "auto", self.network, about, workload.images, run)
