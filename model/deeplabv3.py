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
        encoder: (N, 3, H, W) normalized -> (N, out_channels, h, w).
        num_classes: channels of the logits.
        normalize: from pixels to what the encoder expects.
    """

    def __init__(self, encoder: ResNetEncoder, num_classes: int, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = encoder
        self.aspp = ASPP(encoder.out_channels, rates=(6, 12, 18), bias=True)
        self.classifier = nn.Conv2d(256, num_classes, kernel_size=1)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h = ceil(H / output_stride)."""
        features = self.encoder(self.normalize(images))  # (N, 512 or 2048, h, w)
        return self.classifier(self.aspp(features))


def deeplabv3_resnet(
    depth: int, num_classes: int, output_stride: int = 16,
    mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD,
) -> DeepLabV3:
    """DeepLabV3 on a ResNet of `depth` layers; `output_stride` 8 or 16; statistics in 0..255."""
    return DeepLabV3(ResNetEncoder(depth, output_stride), num_classes, Normalize(mean, std))


deeplabv3_resnet18 = partial(deeplabv3_resnet, 18)
deeplabv3_resnet34 = partial(deeplabv3_resnet, 34)
deeplabv3_resnet50 = partial(deeplabv3_resnet, 50)
deeplabv3_resnet101 = partial(deeplabv3_resnet, 101)
deeplabv3_resnet152 = partial(deeplabv3_resnet, 152)
