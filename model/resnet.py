"""ResNet encoders: torchvision's own modules and names, dilated to keep resolution.

He et al., CVPR 2016, https://arxiv.org/abs/1512.03385
"""

from torch import Tensor, nn
from torchvision.models import get_model_weights
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

BLOCKS = {
    18: (BasicBlock, [2, 2, 2, 2]),
    34: (BasicBlock, [3, 4, 6, 3]),
    50: (Bottleneck, [3, 4, 6, 3]),
    101: (Bottleneck, [3, 4, 23, 3]),
    152: (Bottleneck, [3, 8, 36, 3]),
}


def dilate(stage: nn.Module, dilation: int) -> None:
    """Takes the stride out of a residual stage and spreads its 3x3 convolutions instead.

    Unlike torchvision's `replace_stride_with_dilation` the first block is dilated too, as the
    published DeepLabV3 weights expect.
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

    def __init__(self, depth: int, output_stride: int) -> None:
        if output_stride not in (8, 16):
            raise ValueError(f"output stride {output_stride}: a ResNet encoder has 8 or 16")
        super().__init__(*BLOCKS[depth])
        self.depth = depth
        self.out_channels = self.fc.in_features
        del self.avgpool, self.fc
        if output_stride == 8:
            dilate(self.layer3, 2)
        dilate(self.layer4, 32 // output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalized -> (N, out_channels, h, w), h = ceil(H / output_stride)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # H/4
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))

    def imagenet_weights(self) -> dict[str, Tensor]:
        """torchvision's ImageNet weights for this depth, downloaded to its cache."""
        weights = get_model_weights(f"resnet{self.depth}").DEFAULT
        return weights.get_state_dict(progress=True, check_hash=True)
