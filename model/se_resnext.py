"""SE-ResNeXt encoders: grouped ResNets whose blocks weigh their channels.

Xie et al., "ResNeXt", CVPR 2017, https://arxiv.org/abs/1611.05431; Hu et al.,
"Squeeze-and-Excitation Networks", CVPR 2018, https://arxiv.org/abs/1709.01507
"""

from typing import Any

from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck
from torchvision.ops import SqueezeExcitation

from model.resnet import ResNetEncoder


class SEBottleneck(Bottleneck):
    """torchvision's bottleneck with squeeze and excitation in front of the shortcut's addition."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        channels = self.conv3.out_channels
        self.se = SqueezeExcitation(channels, channels // 16)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, 4 * planes, h / stride, w / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.se(self.bn3(self.conv3(x)))
        return self.relu(x + shortcut)


class SEResNeXtEncoder(ResNetEncoder):
    """The feature stages of SE-ResNeXt 32x4d of `depth` 50 or 101, in Cadene's form."""

    BLOCKS = {50: (SEBottleneck, [3, 4, 6, 3]), 101: (SEBottleneck, [3, 4, 23, 3])}
    OPTIONS = {"groups": 32, "width_per_group": 4}

    def __init__(self, depth: int, output_stride: int) -> None:
        super().__init__(depth, output_stride)
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)  # no padding, as published

    def imagenet_weights(self) -> dict[str, Tensor]:
        """Raises ValueError: torchvision has no weights for this encoder."""
        raise ValueError(
            "imagenet: torchvision has no weights for SE-ResNeXt; give a FILE of weights, for "
            f"example se_resnext{self.depth}_32x4d of pretrained-models.pytorch"
        )
