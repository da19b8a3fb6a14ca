"""DeepLabV3 on dilated ResNets.

Chen et al., "Rethinking Atrous Convolution", 2017, https://arxiv.org/abs/1706.05587, in the form
of github.com/fregu856/deeplabv3, whose published weights it can carry.
"""

from functools import partial

from torch import Tensor, nn

from model.encoders.resnet import ResNetEncoder
from model.layers import ASPP, IMAGENET_MEAN, IMAGENET_STD, Normalize, Segmenter


class DeepLabV3(Segmenter):
    """Encoder, atrous spatial pyramid pooling, one 1x1 classifier.

    Args:
        depth: layers of the ResNet.
        num_classes: channels of the logits.
        output_stride: 8 or 16, pixels per feature cell.
        mean, std: of the pixels, in 0..255, RGB.
    """

    def __init__(
        self, depth: int, num_classes: int, output_stride: int = 16,
        mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(mean, std)
        self.encoder = ResNetEncoder(depth, output_stride)
        self.aspp = ASPP(self.encoder.out_channels, rates=(6, 12, 18), bias=True)
        self.classifier = nn.Conv2d(256, num_classes, kernel_size=1)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h = ceil(H / output_stride)."""
        features = self.encoder(self.normalize(images))  # (N, 512 or 2048, h, w)
        return self.classifier(self.aspp(features))


deeplabv3_resnet18 = partial(DeepLabV3, 18)
deeplabv3_resnet34 = partial(DeepLabV3, 34)
deeplabv3_resnet50 = partial(DeepLabV3, 50)
deeplabv3_resnet101 = partial(DeepLabV3, 101)
deeplabv3_resnet152 = partial(DeepLabV3, 152)
