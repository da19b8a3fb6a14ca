"""CSPSG: a CSP encoder and a decoder of CSP blocks up to a quarter of the image size.

Zhou et al., "Real-time semantic segmentation in traffic scene using Cross Stage Partial-based
encoder-decoder network", Engineering Applications of Artificial Intelligence, 2023, in the form
of github.com/zhouliguo/cspsg (its yolov5n-4 to yolov5x-4, yolov5-2, yolov56-4 and yolov8-4), whose
published weights it can carry.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.layers import Normalize, PaddedSegmenter, resize


@dataclass(frozen=True)
class Form:
    """What the networks differ in.

    Args:
        channels: of the stem and of the stages behind it, each at half the size of the one before.
        blocks: bottlenecks of the stages.
        fusing: bottlenecks of each fusing block of the decoder.
        finest: what the decoder ends at: 1 the first stage, 0 the size of the stem, whose features
            are not joined.
        c2f: blocks of the kind of YOLOv8, a stem of 3x3 pixels, a decoder without 1x1 convolutions.
    """

    channels: tuple[int, ...]
    blocks: tuple[int, ...]
    fusing: int
    finest: int = 1
    c2f: bool = False


def form(width: int, unit: int, **options: Any) -> Form:
    """`width` channels after the stem, `unit` bottlenecks per unit of depth."""
    return Form((width, 2 * width, 4 * width, 8 * width, 16 * width),
                (unit, 2 * unit, 3 * unit, unit), unit, **options)


FORMS = {
    "n": form(16, 1), "s": form(32, 1), "m": form(48, 2), "l": form(64, 3), "x": form(80, 4),
    "x_stride2": form(80, 4, finest=0),
    "x_stride64": Form((80, 160, 320, 640, 960, 1280), (4, 8, 12, 4, 4), 4),
    "x_c2f": Form((80, 160, 320, 640, 1280), (3, 6, 6, 3), 3, c2f=True),
}


class Encoder(nn.Module):
    """Features of the stem, at stride 2, and of each stage, at half the size of the one before."""

    no_imagenet_weights = "CSP encoders; give a FILE of weights"

    def __init__(self, form: Form) -> None:
        super().__init__()
        stem, block = (3, C2fBlock) if form.c2f else (6, CSPBlock)
        self.stem = conv_bn_silu(3, form.channels[0], stem, stride=2)
        sides = zip(form.channels, form.channels[1:], form.blocks, strict=False)
        for place, (before, after, depth) in enumerate(sides, start=1):
            self.add_module(f"stage{place}", nn.Sequential(
                conv_bn_silu(before, after, 3, stride=2), block(after, after, depth)))
        self.pyramid = PyramidPooling(form.channels[-1])

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalized, multiples of the last stride -> (N, channels[i], h, w) each."""
        *stages, pyramid = self.children()
        features = []
        for stage in stages:
            x = stage(x)
            features.append(x)
        return [*features[:-1], pyramid(x)]


class Decoder(nn.Module):
    """Carries context up: narrow, enlarge twice, join the encoder's features of that size, fuse.

    `channels` are those of the encoder's features from fine to coarse.
    """

    def __init__(self, channels: Sequence[int], form: Form) -> None:
        super().__init__()
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))  # (coarse, fine) pairs
        self.joins = len(steps) - (form.finest == 0)
        if form.c2f:
            self.narrow = nn.ModuleList(nn.Identity() for _ in steps)
            self.fuse = nn.ModuleList(
                C2fBlock(c + f, f, form.fusing, shortcut=False) for c, f in steps)
            self.project: nn.Module = nn.Identity()
            return
        self.narrow = nn.ModuleList(conv_bn_silu(coarse, fine, 1) for coarse, fine in steps)
        self.fuse = nn.ModuleList(CSPBlock(
            f if f == form.channels[0] else 2 * f, f, form.fusing, shortcut=False)
            for _, f in steps)
        self.project = conv_bn_silu(channels[0], channels[0], 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(N, channels[i], h, w) from fine to coarse -> (N, channels[0], h, w) of the finest."""
        *finer, x = features
        steps = zip(self.narrow, self.fuse, reversed(finer), strict=True)
        for place, (narrow, fuse, fine) in enumerate(steps):
            x = resize(narrow(x), fine.shape[-2:])
            x = fuse(torch.cat([x, fine], dim=1) if place < self.joins else x)
        return self.project(x)


class CSPSG(PaddedSegmenter):
    """CSP encoder, decoder, one 1x1 classifier at the decoder's stride.

    The published networks classify after the last enlargement. A 1x1 convolution and a bilinear
    enlargement commute, and before it there are 16 times fewer places to classify.

    Args:
        form: of encoder and decoder.
        num_classes: channels of the logits.
        mean, std: of the pixels, in 0..255, RGB.
    """

    def __init__(
        self, form: Form, num_classes: int, mean: tuple[float, ...] = (0.0, 0.0, 0.0),
        std: tuple[float, ...] = (255.0, 255.0, 255.0),
    ) -> None:
        super().__init__()
        self.finest, self.stride = form.finest, 2 << form.finest
        self.multiple = 1 << len(form.channels)
        self.normalize = Normalize(mean, std)
        self.encoder = Encoder(form)
        self.decoder = Decoder(form.channels[form.finest :], form)
        self.classifier = nn.Conv2d(form.channels[form.finest], num_classes, kernel_size=1)
        # As published: a prior for sigmoids; a softmax does not see a constant over all classes.
        self.classifier.state_dict()["bias"].add_(math.log(0.6 / (num_classes - 0.999999)))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h * stride = H padded."""
        features = self.encoder(self.pad(self.normalize(images)))
        return self.classifier(self.decoder(features[self.finest :]))


cspsg_n = partial(CSPSG, FORMS["n"])
cspsg_s = partial(CSPSG, FORMS["s"])
cspsg_m = partial(CSPSG, FORMS["m"])
cspsg_l = partial(CSPSG, FORMS["l"])
cspsg_x = partial(CSPSG, FORMS["x"])
cspsg_x_stride2 = partial(CSPSG, FORMS["x_stride2"])  # published as yolov5-2
cspsg_x_stride64 = partial(CSPSG, FORMS["x_stride64"])  # yolov56-4
cspsg_x_c2f = partial(CSPSG, FORMS["x_c2f"])  # yolov8-4


def conv_bn_silu(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
                 ) -> nn.Sequential:
    """Convolution to ceil(size / stride) (floor for even kernels), batch norm, SiLU."""
    padding = (kernel_size - 1) // 2
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        norm=nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03), act=nn.SiLU()))


class Bottleneck(nn.Module):
    """1x1 (or 3x3) and 3x3 convolution, with or without a shortcut around them."""

    def __init__(self, channels: int, shortcut: bool, first: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn_silu(channels, channels, first)
        self.conv2 = conv_bn_silu(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """Half of the channels go through bottlenecks, half pass by; both are fused.

    `shortcut` says whether the bottlenecks are residual.
    """

    def __init__(self, in_channels: int, out_channels: int, blocks: int, shortcut: bool = True
                 ) -> None:
        super().__init__()
        half = out_channels // 2
        self.deep = conv_bn_silu(in_channels, half, 1)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut) for _ in range(blocks)))
        self.direct = conv_bn_silu(in_channels, half, 1)
        self.fuse = conv_bn_silu(2 * half, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        return self.fuse(torch.cat([self.blocks(self.deep(x)), self.direct(x)], dim=1))


class C2fBlock(nn.Module):
    """Half of the channels go through bottlenecks of two 3x3; all that comes out is fused."""

    def __init__(self, in_channels: int, out_channels: int, blocks: int, shortcut: bool = True
                 ) -> None:
        super().__init__()
        half = out_channels // 2
        self.split = conv_bn_silu(in_channels, 2 * half, 1)
        self.blocks = nn.ModuleList(Bottleneck(half, shortcut, 3) for _ in range(blocks))
        self.fuse = conv_bn_silu((2 + blocks) * half, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, out_channels, h, w)."""
        parts = list(self.split(x).chunk(2, dim=1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.fuse(torch.cat(parts, dim=1))


class PyramidPooling(nn.Module):
    """Maxima over windows of 1, 5, 9 and 13 cells side by side, the larger from the smaller."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn_silu(channels, channels // 2, 1)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.fuse = conv_bn_silu(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        maxima = [self.reduce(x)]
        for _ in range(3):
            maxima.append(self.pool(maxima[-1]))
        return self.fuse(torch.cat(maxima, dim=1))
