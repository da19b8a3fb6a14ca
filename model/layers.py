"""What at least two networks use: their base class, blocks, activation checkpointing."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Normalize(nn.Module):
    """Turns pixels into normalized values: `(images - mean) / std`, in at least float32.

    The first line of every network, so that a checkpoint, an exported file and a demo cannot
    disagree about preprocessing. Mean and std have one value per channel, in 0..255, RGB.
    """

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.mean: Tensor
        self.std: Tensor
        self.constants = tuple(mean), tuple(std)
        for name, values in zip(("mean", "std"), self.constants, strict=True):
            self.register_buffer(name, torch.tensor(values).view(-1, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) uint8, or float in 0..255 (not 0..1: black) -> the same shape, float."""
        result = images.to(torch.promote_types(images.dtype, self.mean.dtype), copy=True)
        if not result.is_contiguous(memory_format=torch.channels_last):
            return result.sub_(self.mean).div_(self.std)
        lines = result.permute(0, 2, 3, 1).flatten(2)  # of three values, each a loop of its own
        mean, std = (each.flatten().repeat(result.shape[3]) for each in (self.mean, self.std))
        lines.sub_(mean).div_(std)
        return result

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> nn.Module:
        # .half() and .bfloat16() would round the constants; to_empty() would lose them.
        super()._apply(fn, recurse)
        dtype = torch.promote_types(self.mean.dtype, torch.float32)
        for name, values in zip(("mean", "std"), self.constants, strict=True):
            constants = torch.tensor(values, dtype=dtype, device=self.mean.device)
            setattr(self, name, constants.view(-1, 1, 1))
        return self


class Segmenter(nn.Module):
    """What networks have in common: pixels in, logits out, of which they compute coarse ones."""

    align_corners = False  # of the enlargement of logits
    coarse_logits: Callable[[Tensor], Tensor]  # (N, 3, H, W) pixels -> (N, num_classes, h, w)

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        """Logits of every pixel.

        Args:
            images: (N, 3, H, W) uint8 RGB, or float in 0..255; H and W at least 32.
            full_size: False leaves the logits at the (h, w) of `coarse_logits`.

        Returns (N, num_classes, H, W), or (N, num_classes, h, w).
        """
        logits = self.coarse_logits(images)
        return self.upsample(logits, images.shape[-2:]) if full_size else logits

    def upsample(self, coarse: Tensor, size: Sequence[int], rows: slice | None = None) -> Tensor:
        """(N, C, h, w) -> (N, C, H, W) = `size`, or some `rows`, this network's own way."""
        return resize(coarse, size, self.align_corners, rows=rows)


class PaddedSegmenter(Segmenter):
    """One that computes on sides that are multiples of `multiple`; the image is mirrored for it.

    Zeros would be a border that no crop of a training shows, and a repeated edge is a texture that
    none shows: on CamVid's val at 360 rows CSPSG-n has 60.1 % mIoU with zeros, and with the image
    mirrored 61.9; DeepLabV3+ with EfficientNet-Lite0 72.2 with the edge repeated, mirrored 73.5.
    """

    multiple, least = 32, 32  # pixels of a side
    stride = 4  # of the coarse logits

    def pad(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> the same, mirrored at the last row and column as far as is needed.

        Sides are at least 32: larger multiples may need more than there is, and repeat the edge.
        """
        height, width = x.shape[-2:]
        mode = "reflect" if max(self.multiple, self.least) <= 32 else "replicate"
        return F.pad(x, (0, self.padding(width), 0, self.padding(height)), mode)

    def padding(self, length: int) -> int:
        """Pixels that a side is padded by."""
        return -length % self.multiple

    def upsample(self, coarse: Tensor, size: Sequence[int], rows: slice | None = None) -> Tensor:
        """(N, C, h, w) -> (N, C, H, W) = `size`, or some `rows`: by `stride`, without padding."""
        if self.stride > 1:
            whole = [self.stride * n for n in coarse.shape[-2:]]
            coarse = resize(coarse, whole, self.align_corners, rows=rows)
        elif rows is not None:
            coarse = coarse[:, :, rows]
        return coarse[:, :, : size[0], : size[1]]

    def cell_side(self, coarse: Tensor, size: Sequence[int]) -> int | None:
        """Where `upsample` is a bilinear enlargement by an even number, cut to `size`: that."""
        return None if self.align_corners or self.stride % 2 else self.stride


def conv_bn_act(
    in_channels: int, out_channels: int, kernel_size: int, bias: bool = False, **options: Any
) -> nn.Sequential:
    """Convolution that keeps the size (at stride 1), batch norm, ReLU."""
    padding = options.get("dilation", 1) * (kernel_size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=bias, **options),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one 1x1, three dilated 3x3 and one whole-image branch.

    Chen et al., "Rethinking Atrous Convolution", 2017, https://arxiv.org/abs/1706.05587, 3.3

    Args:
        in_channels: channels of the encoder's features.
        rates: dilations of the 3x3 branches, in feature cells.
        bias: convolution biases in front of batch norm, redundant but in the published weights.
        bare_projection: no batch norm and ReLU after the last convolution, as in DeepLabV3+.
    """

    def __init__(
        self, in_channels: int, rates: tuple[int, ...], bias: bool = False,
        bare_projection: bool = False,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_act(in_channels, 256, 1, bias=bias)]
            + [conv_bn_act(in_channels, 256, 3, bias=bias, dilation=rate) for rate in rates])
        self.pooled = conv_bn_act(in_channels, 256, 1, bias=bias)
        joined = (len(rates) + 2) * 256
        self.project = (nn.Conv2d(joined, 256, 1, bias=bias) if bare_projection
                        else conv_bn_act(joined, 256, 1, bias=bias))

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, 256, h, w)."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True))  # (N, 256, 1, 1)
        views = [branch(features) for branch in self.branches]  # each (N, 256, h, w)
        views.append(pooled.expand_as(views[0]))
        return self.project(torch.cat(views, dim=1))


def resize(
    features: Tensor, size: Sequence[int], align_corners: bool = False, rows: slice | None = None
) -> Tensor:
    """Bilinear, (N, C, h, w) -> (N, C, H, W) with (H, W) = `size`, or some `rows` of it."""
    if rows is not None:
        features = _resize_rows(features, size[0], align_corners, rows)
        size = (features.shape[-2], size[1])
    return F.interpolate(features, size=list(size), mode="bilinear", align_corners=align_corners)


def _resize_rows(features: Tensor, height: int, align_corners: bool, rows: slice) -> Tensor:
    """(N, C, h, w) -> (N, C, R, w), the `rows` of an enlargement to `height`."""
    last = features.shape[-2] - 1
    places = torch.arange(height, device=features.device)[rows].to(torch.float32)
    if align_corners:
        places = places * (last / max(height - 1, 1))
    else:
        places = ((places + 0.5) * ((last + 1) / height) - 0.5).clamp(min=0)
    above = places.long().clamp(max=last)
    below = (above + 1).clamp(max=last)
    share = (places - above)[:, None].to(features.dtype)
    return torch.lerp(features[..., above, :], features[..., below, :], share)


def checkpoint_activations(network: Any) -> None:
    """Lets a network trade a second forward of its blocks for memory; ValueError if it cannot."""
    encoder: Any = getattr(network, "encoder", None)
    if not hasattr(encoder, "checkpoint_activations"):
        raise ValueError(f"--checkpoint-activations: {network.config['arch']} has no encoder that "
                         "can; the deeplabv3_ and deeplabv3plus_ networks have")
    encoder.checkpoint_activations = True


def run_stages(
    stages: Iterable[nn.Sequential], x: Tensor, wanted: Collection[int], recompute: bool
) -> list[Tensor]:
    """The features after the `wanted` stages, fine to coarse; `recompute` as of `run_block`."""
    features = []
    for place, stage in enumerate(stages):
        for block in stage:
            x = run_block(block, x, recompute=recompute)
        if place in wanted:
            features.append(x)
    return features


def run_block(block: nn.Module, *inputs: Tensor, recompute: bool) -> Tensor:
    """block(*inputs); with `recompute`, only the inputs are kept for backward.

    Gradients and running statistics are the same bit for bit.
    """
    if not (recompute and block.training and torch.is_grad_enabled()):
        return block(*inputs)
    if torch.compiler.is_compiling():  # the compiler computes again what gradients need, no more
        return checkpoint(block, *inputs, use_reentrant=False)
    return checkpoint(block, *inputs, use_reentrant=False,
                      context_fn=lambda: (nullcontext(), statistics_aside(block)))


@contextmanager
def statistics_aside(block: nn.Module) -> Iterator[None]:
    """Batch norms update copies of their running statistics.

    A batch would count twice otherwise: in forward and when backward computes it again.
    """
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
