"""CSP encoder: Cross Stage Partial blocks with SiLU, and a pyramid of max pools at the end.

Wang et al., "CSPNet", CVPR Workshops 2020, https://arxiv.org/abs/1911.11929, in the form that
github.com/zhouliguo/cspsg took from YOLOv5.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn


def conv_bn_silu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Sequential:
    """Convolution to ceil(size / stride) (floor for even kernels), batch norm, SiLU."""
    padding = (kernel_size - 1) // 2
    layers = {
        "conv": nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        "norm": nn.BatchNorm2d(out_channels, eps=1e-3, momentum=0.03),
        "act": nn.SiLU(),
    }
    return nn.Sequential(OrderedDict(layers))


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


class CSPEncoder(nn.Module):
    """Features at strides 4, 8, 16 and 32.

    Args:
        width: channels of the stem; the features have 2, 4, 8 and 16 times as many.
        blocks: bottlenecks of the first and the last stage; those between have 2 and 3 times as
            many.
    """

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

    def imagenet_weights(self) -> dict[str, Tensor]:
        """Raises ValueError: torchvision has no weights for this encoder."""
        raise ValueError(
            "imagenet: torchvision has no weights for CSP encoders; give a FILE of weights"
        )
