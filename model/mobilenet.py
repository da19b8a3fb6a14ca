"""A small MobileNetV3: inverted residuals with squeeze-and-excitation behind them.

Howard et al., "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244, in the
form whose ImageNet weights SGCPNet starts from: it always expands, and weighs the channels of a
block's output, not of its middle.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

ROWS = (  # kernel, expanded, output, activation, squeeze-and-excitation, stride
    ((3, 16, 16, F.relu, True, 2),),  # to stride 4
    ((3, 72, 24, F.relu, False, 2), (3, 88, 24, F.relu, False, 1)),  # 8
    (  # 16
        (5, 96, 40, F.hardswish, True, 2),
        (5, 240, 40, F.hardswish, True, 1),
        (5, 240, 40, F.hardswish, True, 1),
        (5, 120, 48, F.hardswish, True, 1),
        (5, 144, 48, F.hardswish, True, 1),
    ),
    (  # 32
        (5, 288, 96, F.hardswish, True, 2),
        (5, 576, 96, F.hardswish, True, 1),
        (5, 576, 96, F.hardswish, True, 1),
    ),
)


def conv_bn(
    in_channels: int, out_channels: int, kernel_size: int = 1, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution to ceil(size / stride) and batch norm."""
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2,
                     groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels))


class SqueezeExcitation(nn.Module):
    """Weighs channels by what the image holds of them. Hu et al., CVPR 2018."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = conv_bn(channels, channels // 4)
        self.expand = conv_bn(channels // 4, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, h, w) -> the same shape."""
        mean = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.expand(F.relu(self.reduce(mean))))


class InvertedResidual(nn.Module):
    """Expand, convolve each channel, project; with a shortcut where the size stays.

    Args:
        in_channels: of the input; the others are a row of ROWS.
    """

    def __init__(
        self, in_channels: int, kernel_size: int, expanded: int, out_channels: int,
        activation: Callable[[Tensor], Tensor], excite: bool, stride: int,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.expand = conv_bn(in_channels, expanded)
        self.depthwise = conv_bn(expanded, expanded, kernel_size, stride=stride, groups=expanded)
        self.project = conv_bn(expanded, out_channels)
        self.excite = SqueezeExcitation(out_channels) if excite else nn.Identity()
        self.shortcut: nn.Module | None = None
        if stride == 1:
            same = in_channels == out_channels
            self.shortcut = nn.Identity() if same else conv_bn(in_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, ceil(H / stride), ceil(W / stride))."""
        y = self.activation(self.depthwise(self.activation(self.expand(x))))
        y = self.excite(self.project(y))
        return y if self.shortcut is None else y + self.shortcut(x)


class MobileNetEncoder(nn.Module):
    """Features at strides 8, 16 and 32."""

    out_channels = (24, 48, 96)

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, stride=2)
        channels, stages = 16, []
        for rows in ROWS:
            blocks = []
            for row in rows:
                blocks.append(InvertedResidual(channels, *row))
                channels = row[2]
            stages.append(nn.Sequential(*blocks))
        self.stage1, self.stage2, self.stage3, self.stage4 = stages

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(N, 3, H, W) normalized -> three (N, out_channels[i], ceil(H / stride), ...)."""
        stride4 = self.stage1(F.hardswish(self.stem(x)))
        stride8 = self.stage2(stride4)
        stride16 = self.stage3(stride8)
        return stride8, stride16, self.stage4(stride16)

    def imagenet_weights(self) -> dict[str, Tensor]:
        """Raises ValueError: torchvision's MobileNetV3 is another network."""
        raise ValueError("imagenet: torchvision has no weights for SGCPNet's encoder, its "
                         "MobileNetV3 differs; give a FILE of weights")
