"""CSPSG: a CSP encoder and a decoder of CSP blocks up to a quarter of the image size.

Zhou et al., "Real-time semantic segmentation in traffic scene using Cross Stage Partial-based
encoder-decoder network", Engineering Applications of Artificial Intelligence, 2023, in the form
of github.com/zhouliguo/cspsg (its yolov5n-4 to yolov5x-4), whose published weights it can carry.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import Normalize, Segmenter, resize


class Decoder(nn.Module):
    """Carries context up: narrow, enlarge twice, join the encoder's features of that size, fuse.

    Args:
        channels: of the encoder's features from fine to coarse.
        blocks: bottlenecks of each fusing block.
    """

    def __init__(self, channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        steps = list(zip(channels[:0:-1], channels[-2::-1], strict=True))  # (coarse, fine) pairs
        self.narrow = nn.ModuleList(conv_bn_silu(coarse, fine, 1) for coarse, fine in steps)
        self.fuse = nn.ModuleList(CSPBlock(2 * f, f, blocks, shortcut=False) for _, f in steps)
        self.project = conv_bn_silu(channels[0], channels[0], 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(N, channels[i], h, w) from fine to coarse -> (N, channels[0], h, w) of the finest."""
        *finer, x = features
        for narrow, fuse, fine in zip(self.narrow, self.fuse, reversed(finer), strict=True):
            x = fuse(torch.cat([resize(narrow(x), fine.shape[-2:]), fine], dim=1))
        return self.project(x)


class CSPEncoder(nn.Module):
    """Features at strides 4, 8, 16 and 32.

    Args:
        width: channels of the stem; the features have 2, 4, 8 and 16 times as many.
        blocks: bottlenecks of the first and the last stage; those between have 2 and 3 times as
            many.
    """

    no_imagenet_weights = "CSP encoders; give a FILE of weights"

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        self.out_channels = tuple(factor * width for factor in (2, 4, 8, 16))
        self.stem = conv_bn_silu(3, width, 6, stride=2)
        depths = (blocks, 2 * blocks, 3 * blocks, blocks)
        in_channels = (width, *self.out_channels[:-1])
        stages = zip(in_channels, self.out_channels, depths, strict=True)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            nn.Sequential(conv_bn_silu(before, after, 3, stride=2), CSPBlock(after, after, depth))
            for before, after, depth in stages
        )
        self.pyramid = PyramidPooling(self.out_channels[-1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, 3, H, W) normalized, multiples of 32 -> four (N, out_channels[i], h, w)."""
        x = self.stem(x)  # H/2
        stride4 = self.stage1(x)
        stride8 = self.stage2(stride4)
        stride16 = self.stage3(stride8)
        return stride4, stride8, stride16, self.pyramid(self.stage4(stride16))


class CSPSG(Segmenter):
    """CSP encoder, decoder, one 1x1 classifier at stride 4.

    The published networks classify after the last enlargement. A 1x1 convolution and a bilinear
    enlargement commute, and before it there are 16 times fewer places to classify.

    Args:
        encoder: (N, 3, H, W) normalized -> features at strides 4, 8, 16, 32.
        decoder: those features -> (N, 2 * width, H/4, W/4).
        num_classes: channels of the logits.
        normalize: from pixels to what the encoder expects.
    """

    def __init__(
        self, encoder: CSPEncoder, decoder: Decoder, num_classes: int, normalize: Normalize
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = nn.Conv2d(encoder.out_channels[0], num_classes, kernel_size=1)
        # As published: a prior for sigmoids; a softmax does not see a constant over all classes.
        self.classifier.state_dict()["bias"].add_(math.log(0.6 / (num_classes - 0.999999)))

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h = 8 * ceil(H / 32)."""
        height, width = images.shape[-2:]
        # Zeros as in the padding of convolutions: black with the published statistics.
        x = F.pad(self.normalize(images), (0, -width % 32, 0, -height % 32))
        return self.classifier(self.decoder(self.encoder(x)))

    def upsample(self, coarse: Tensor, size: Sequence[int], rows: slice | None = None) -> Tensor:
        """(N, C, h, w) -> (N, C, H, W) = `size`, or some `rows`: times four, without padding."""
        height, width = coarse.shape[-2:]
        full = resize(coarse, (4 * height, 4 * width), rows=rows)
        return full[:, :, : size[0], : size[1]]

    def cell_side(self, coarse: Tensor, size: Sequence[int]) -> int:
        """`upsample` is a bilinear enlargement by this, cut to `size`."""
        return 4


def cspsg(
    width: int,
    blocks: int,
    num_classes: int,
    mean: tuple[float, ...] = (0.0, 0.0, 0.0),
    std: tuple[float, ...] = (255.0, 255.0, 255.0),
) -> CSPSG:
    """CSPSG with `width` channels after the stem, `blocks` per unit of depth; 0..255 statistics."""
    encoder = CSPEncoder(width, blocks)
    decoder = Decoder(encoder.out_channels, blocks)
    return CSPSG(encoder, decoder, num_classes, Normalize(mean, std))


cspsg_n = partial(cspsg, 16, 1)
cspsg_s = partial(cspsg, 32, 1)
cspsg_m = partial(cspsg, 48, 2)
cspsg_l = partial(cspsg, 64, 3)
cspsg_x = partial(cspsg, 80, 4)


def conv_bn_silu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    """Convolution to ceil(size / stride) (floor for even kernels), batch norm, SiLU."""
    padding = (kernel_size - 1) // 2
    return nn.Sequential(OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        norm=nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03), act=nn.SiLU()))


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, with or without a shortcut around them."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = conv_bn_silu(channels, channels, 1)
        self.conv2 = conv_bn_silu(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        y = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """Half of the channels go through bottlenecks, half pass by; both are fused.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        blocks: number of bottlenecks.
        shortcut: whether the bottlenecks are residual.
    """

    def __init__(
        self, in_channels: int, out_channels: int, blocks: int, shortcut: bool = True
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
