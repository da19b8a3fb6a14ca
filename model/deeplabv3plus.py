"""DeepLabV3+ on WideResNet38, SE-ResNeXt and ResNet.

Chen et al., ECCV 2018, https://arxiv.org/abs/1802.02611, in the form of Zhu et al., "Improving
Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019,
https://arxiv.org/abs/1812.01593, whose published weights it can carry.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from model.encoders.resnet import ResNetEncoder, SEResNeXtEncoder
from model.encoders.wide_resnet38 import WideResNet38Encoder
from model.layers import (
    ASPP,
    IMAGENET_MEAN,
    IMAGENET_STD,
    Normalize,
    Segmenter,
    conv_bn_act,
    resize,
    run_block,
)

Encoder = ResNetEncoder | WideResNet38Encoder


class Decoder(nn.Module):
    """Enlarges the context to the size of finer features, joins both, fuses them."""

    def __init__(self, fine_channels: int, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.narrow = nn.Conv2d(fine_channels, 48, kernel_size=1, bias=False)
        self.fuse = nn.Sequential(conv_bn_act(48 + 256, 256, 3), conv_bn_act(256, 256, 3))

    def forward(self, fine: Tensor, context: Tensor) -> Tensor:
        """(N, fine_channels, h, w) and (N, 256, any, any) -> (N, 256, h, w)."""
        context = resize(context, fine.shape[-2:], self.align_corners)
        return self.fuse(torch.cat([self.narrow(fine), context], dim=1))


class DeepLabV3Plus(Segmenter):
    """Encoder, atrous spatial pyramid pooling, a decoder that joins finer features, classifier.

    Args:
        build_encoder: of an output stride.
        num_classes: channels of the logits.
        output_stride: 8 or 16, pixels per cell of the coarsest features.
        skip: stride of the finer features, which is that of the coarse logits too.
        mean, std: of the pixels, in 0..255, RGB.
        align_corners: of every enlargement.
    """

    def __init__(
        self, build_encoder: Callable[[int], Encoder], num_classes: int, output_stride: int = 8,
        skip: int = 4, mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD, align_corners: bool = True,
    ) -> None:
        super().__init__()
        encoder = build_encoder(output_stride)
        strides = sorted({stride for stride in encoder.strides if stride <= 8})
        if skip not in strides:
            raise ValueError(f"skip {skip}: this encoder has features at strides {strides}")
        self.fine = encoder.strides.index(skip)
        self.align_corners = align_corners
        self.normalize = Normalize(mean, std)
        self.encoder = encoder
        self.aspp = ASPP(encoder.out_channels, rates=(12, 24, 36), bare_projection=True)
        self.decoder = Decoder(encoder.channels[self.fine], align_corners)
        self.classifier = nn.Conv2d(256, num_classes, kernel_size=1, bias=False)
        # Random weights as He et al., ICCV 2015, https://arxiv.org/abs/1502.01852
        for head in (self.aspp, self.decoder, self.classifier):
            for module in head.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h = H / skip, rounded."""
        wanted = self.fine, len(self.encoder.strides) - 1
        fine, coarse = self.encoder.features(self.normalize(images), wanted)
        features = run_block(self.decoder, fine, self.aspp(coarse),  # (N, 256, h, w)
                             recompute=self.encoder.checkpoint_activations)
        return self.classifier(features)


deeplabv3plus_wide_resnet38 = partial(DeepLabV3Plus, WideResNet38Encoder, skip=2)
deeplabv3plus_se_resnext50 = partial(DeepLabV3Plus, partial(SEResNeXtEncoder, 50))
deeplabv3plus_se_resnext101 = partial(DeepLabV3Plus, partial(SEResNeXtEncoder, 101))
deeplabv3plus_resnet50 = partial(DeepLabV3Plus, partial(ResNetEncoder, 50))
deeplabv3plus_resnet101 = partial(DeepLabV3Plus, partial(ResNetEncoder, 101))
