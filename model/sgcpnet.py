"""SGCPNet: a small encoder and a feature pyramid that goes down, up and down again.

Hao et al., "Real-Time Semantic Segmentation via Spatial-Detail Guided Context Propagation", IEEE
TNNLS, 2022, https://arxiv.org/abs/2005.11034, in the form of github.com/zhouyuan888888/SGCPNet,
whose published weights it can carry. The pyramid's nodes are those of Tan et al., "EfficientDet",
CVPR 2020.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import IMAGENET_MEAN, IMAGENET_STD, Normalize, Segmenter

CHANNELS = 64
LATERAL = (40, 112, 320)  # channels that the pyramid starts from, at strides 8, 16 and 32
ROWS = (  # kernel, expanded, output, activation, squeeze-and-excitation, stride
    ((3, 16, 16, nn.ReLU, True, 2),),  # to stride 4
    ((3, 72, 24, nn.ReLU, False, 2), (3, 88, 24, nn.ReLU, False, 1)),  # 8
    (  # 16
        (5, 96, 40, nn.Hardswish, True, 2),
        (5, 240, 40, nn.Hardswish, True, 1),
        (5, 240, 40, nn.Hardswish, True, 1),
        (5, 120, 48, nn.Hardswish, True, 1),
        (5, 144, 48, nn.Hardswish, True, 1),
    ),
    (  # 32
        (5, 288, 96, nn.Hardswish, True, 2),
        (5, 576, 96, nn.Hardswish, True, 1),
        (5, 576, 96, nn.Hardswish, True, 1),
    ),
)


def narrow(in_channels: int) -> nn.Sequential:
    """1x1 convolution to the pyramid's channels and batch norm."""
    return nn.Sequential(nn.Conv2d(in_channels, CHANNELS, 1),
                         nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.01))


def halve(x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C, ceil(H / 2), ceil(W / 2)), the larger values."""
    return F.max_pool2d(x, 3, stride=2, padding=1)


def enlarge(x: Tensor, like: Tensor) -> Tensor:
    """(N, C, h, w) -> the size of `like`, nearest."""
    return F.interpolate(x, size=like.shape[-2:], mode="nearest")


class Fuse(nn.Module):
    """Adds features by learned shares, then Swish, a separable convolution and batch norm."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.shares = nn.Parameter(torch.ones(inputs))
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS, bias=False)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.norm = nn.BatchNorm2d(CHANNELS, eps=1e-3, momentum=0.01)

    def forward(self, *features: Tensor) -> Tensor:
        """(N, 64, h, w) each -> the same shape."""
        shares = F.relu(self.shares)
        shares = shares / (shares.sum() + 1e-4)
        first, *others = (share * x for share, x in zip(shares, features, strict=True))
        added = sum(others, first)
        return self.norm(self.pointwise(self.depthwise(F.silu(added))))


class TopDown(nn.Module):
    """Carries context from coarse to fine."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = nn.ModuleList(Fuse(2) for _ in range(4))  # strides 8, 16, 32, 64

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Five (N, 64, h, w), strides 8 to 128 -> the first four anew."""
        result = [features[-1]]
        for fuse, fine in zip(self.fuse[::-1], features[-2::-1], strict=True):
            result.insert(0, fuse(fine, enlarge(result[0], fine)))
        return result[:-1]


class BottomUp(nn.Module):
    """Carries detail from fine to coarse."""

    def __init__(self) -> None:
        super().__init__()
        self.fuse = nn.ModuleList([Fuse(3), Fuse(3), Fuse(3), Fuse(2)])  # strides 16 to 128

    def forward(self, finest: Tensor, levels: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """(N, 64, h, w) at stride 8, and what is joined at each coarser -> all five strides."""
        result = [finest]
        for fuse, level in zip(self.fuse, levels, strict=True):
            result.append(fuse(*level, halve(result[-1])))
        return result


class ContextPropagation(nn.Module):
    """The pyramid: from three features to one at stride 8."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.ModuleList(map(narrow, LATERAL))  # on the way down
        self.narrow_again = nn.ModuleList(map(narrow, LATERAL[1:]))  # on the way up
        self.coarser = narrow(LATERAL[-1])
        self.down, self.up, self.down_again = TopDown(), BottomUp(), TopDown()

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(N, LATERAL[i], h, w) at strides 8, 16, 32 -> (N, 64, h, w) at stride 8."""
        levels = [layer(x) for layer, x in zip(self.narrow, features, strict=True)]
        levels.append(halve(self.coarser(features[-1])))
        levels.append(halve(levels[-1]))
        finest, stride16, stride32, stride64 = self.down(levels)
        again = [layer(x) for layer, x in zip(self.narrow_again, features[1:], strict=True)]
        joined = [(again[0], stride16), (again[1], stride32), (levels[3], stride64), levels[4:]]
        return self.down_again(self.up(finest, joined))[0]


class MobileNetEncoder(nn.Module):
    """Features at strides 8, 16 and 32."""

    out_channels = (24, 48, 96)
    no_imagenet_weights = "SGCPNet's encoder, its MobileNetV3 differs; give a FILE of weights"

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 16, 3, stride=2)
        self.activation = nn.Hardswish()
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
        stride4 = self.stage1(self.activation(self.stem(x)))
        stride8 = self.stage2(stride4)
        stride16 = self.stage3(stride8)
        return stride8, stride16, self.stage4(stride16)


class SGCPNet(Segmenter):
    """MobileNet encoder, context propagation, one 1x1 classifier at stride 8.

    Its published evaluation enlarges logits with a cubic filter, by OpenCV; its training, as here,
    with a bilinear one.

    Args:
        num_classes: channels of the logits.
        mean, std: of the pixels, in 0..255, RGB.
    """

    def __init__(
        self, num_classes: int, mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.encoder = MobileNetEncoder()
        pairs = zip(self.encoder.out_channels, LATERAL, strict=True)
        self.lateral = nn.ModuleList(nn.Conv2d(before, after, 1) for before, after in pairs)
        self.context = ContextPropagation()
        self.classifier = nn.Conv2d(CHANNELS, num_classes, kernel_size=1)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h = ceil(H / 8)."""
        features = self.encoder(self.normalize(images))
        lateral = [layer(x) for layer, x in zip(self.lateral, features, strict=True)]
        return self.classifier(self.context(lateral))

    def cell_side(self, coarse: Tensor, size: Sequence[int]) -> int | None:
        """8 where `upsample` is a bilinear enlargement by 8, else None."""
        return 8 if [8 * side for side in coarse.shape[-2:]] == list(size) else None


sgcpnet = SGCPNet


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

    What follows `in_channels` is a row of ROWS.
    """

    def __init__(
        self, in_channels: int, kernel_size: int, expanded: int, out_channels: int,
        activation: type[nn.Module], excite: bool, stride: int,
    ) -> None:
        super().__init__()
        self.activation = activation()
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
