"""ResNet encoders: torchvision's own modules and names, dilated to keep resolution.

He et al., CVPR 2016, https://arxiv.org/abs/1512.03385
"""

from collections.abc import Collection
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet
from torchvision.ops import SqueezeExcitation

from model.layers import run_stages


def dilate(stage: nn.Module, dilation: int) -> None:
    """Takes the stride out of a residual stage and spreads its 3x3 convolutions instead.

    Unlike torchvision's `replace_stride_with_dilation` the first block is dilated too, as the
    published DeepLab weights expect.
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)


class ResNetEncoder(ResNet):
    """The feature stages of a torchvision ResNet.

    Args:
        depth: 18, 34, 50, 101 or 152.
        output_stride: 8 or 16, pixels per feature cell.
    """

    BLOCKS: dict[int, tuple[type[BasicBlock | Bottleneck], list[int]]] = {
        18: (BasicBlock, [2, 2, 2, 2]),
        34: (BasicBlock, [3, 4, 6, 3]),
        50: (Bottleneck, [3, 4, 6, 3]),
        101: (Bottleneck, [3, 4, 23, 3]),
        152: (Bottleneck, [3, 8, 36, 3]),
    }
    OPTIONS: dict[str, Any] = {}  # torchvision's

    def __init__(self, depth: int, output_stride: int) -> None:
        if output_stride not in (8, 16):
            raise ValueError(f"output stride {output_stride}: a ResNet encoder has 8 or 16")
        block, depths = self.BLOCKS[depth]
        super().__init__(block, depths, **self.OPTIONS)
        self.depth = depth
        self.checkpoint_activations = False
        self.channels = tuple(block.expansion * width for width in (64, 128, 256, 512))
        self.strides = (4, 8, output_stride, output_stride)
        self.out_channels = self.channels[-1]
        del self.avgpool, self.fc
        if output_stride == 8:
            dilate(self.layer3, 2)
        dilate(self.layer4, 32 // output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalized -> (N, out_channels, h, w), h = ceil(H / output_stride)."""
        return self.features(x, (3,))[0]

    def features(self, x: Tensor, wanted: Collection[int]) -> list[Tensor]:
        """(N, 3, H, W) normalized -> (N, channels[i], H / strides[i], ...) of `wanted` stages i."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # H/4
        stages = self.layer1, self.layer2, self.layer3, self.layer4
        return run_stages(stages, x, wanted, self.checkpoint_activations)

    def imagenet_weights(self) -> dict[str, Tensor]:
        """torchvision's ImageNet weights for this depth, downloaded to its cache."""
        weights = get_model_weights(f"resnet{self.depth}").DEFAULT
        return weights.get_state_dict(progress=True, check_hash=True)


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
        self.no_imagenet_weights = ("SE-ResNeXt; give a FILE of weights, for example "
                                    f"se_resnext{depth}_32x4d of pretrained-models.pytorch")
