"""A light DeepLabV3+ on EfficientNet-Lite.

Chen et al., ECCV 2018, https://arxiv.org/abs/1802.02611, with convolutions that are separable as
there, a fifth of its channels' work, and a decoder that joins the features of every finer stage
down to `skip`, as Ronneberger et al., https://arxiv.org/abs/1505.04597: thin things need those.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from model.encoders.efficientnet_lite import PIXELS, EfficientNetLiteEncoder
from model.layers import Normalize, PaddedSegmenter, conv_bn_act, resize

CONTEXT = 160  # channels of every view of the coarsest features
DECODED = {16: 128, 8: 128, 4: 96, 2: 48}  # stride -> channels of the joined features
NARROW = {16: 64, 8: 48, 4: 32, 2: 16}  # stride -> channels that the encoder's are narrowed to


def separable(before: int, after: int, dilation: int = 1) -> nn.Sequential:
    """A 3x3 convolution of each channel by itself and a 1x1 over all, each with norm and ReLU."""
    spatial = conv_bn_act(before, before, 3, groups=before, dilation=dilation)
    return nn.Sequential(*spatial, *conv_bn_act(before, after, 1))


class Context(nn.Module):
    """Atrous spatial pyramid pooling of separable convolutions; rates are in feature cells."""

    def __init__(self, before: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.views = nn.ModuleList([conv_bn_act(before, CONTEXT, 1),
                                    *(separable(before, CONTEXT, rate) for rate in rates)])
        self.pooled = nn.Sequential(nn.Conv2d(before, CONTEXT, 1), nn.ReLU(inplace=True))
        self.project = conv_bn_act((len(rates) + 2) * CONTEXT, CONTEXT, 1)
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, h, w) -> (N, CONTEXT, h, w)."""
        views = [view(x) for view in self.views]
        views.append(self.pooled(x.mean((2, 3), keepdim=True)).expand_as(views[0]))
        return self.dropout(self.project(torch.cat(views, dim=1)))


class Join(nn.Module):
    """Enlarges `coarse` channels to the size of `fine` ones of a `stride`, and fuses both."""

    def __init__(self, coarse: int, fine: int, stride: int) -> None:
        super().__init__()
        self.narrow = conv_bn_act(fine, NARROW[stride], 1)
        self.fuse = separable(coarse + NARROW[stride], DECODED[stride])

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(N, coarse, any, any) and (N, fine, h, w) -> (N, DECODED[stride], h, w)."""
        coarse = resize(coarse, fine.shape[-2:])
        return self.fuse(torch.cat([coarse, self.narrow(fine)], dim=1))


class LightDeepLabV3Plus(PaddedSegmenter):
    """Encoder, context, a decoder that joins finer features step by step, classifier.

    Args:
        number: of the EfficientNet-Lite.
        num_classes: channels of the logits.
        output_stride: 16 or 32, pixels per cell of the coarsest features.
        skip: stride of the finest features that are joined, which is that of the coarse logits.
        mean, std: of the pixels, in 0..255, RGB.
    """

    def __init__(
        self, number: int, num_classes: int, output_stride: int = 32, skip: int = 4,
        mean: tuple[float, ...] = PIXELS, std: tuple[float, ...] = PIXELS,
    ) -> None:
        super().__init__()
        encoder = EfficientNetLiteEncoder(number, output_stride)
        finer = [stride for stride in encoder.strides[:-1] if stride < encoder.strides[-1]]
        if skip not in finer[:2]:
            raise ValueError(f"skip {skip}: this network has features at strides {finer[:2]}")
        self.stride = skip
        self.normalize = Normalize(mean, std)
        self.encoder = encoder
        coarse = encoder.out_channels
        self.context = Context(coarse, (2, 4, 6) if encoder.strides[-1] == 32 else (4, 8, 12))
        self.places = [place for place in reversed(range(len(finer))) if finer[place] >= skip]
        channels, joins = CONTEXT, []
        for place in self.places:
            joins.append(Join(channels, encoder.channels[place], finer[place]))
            channels = DECODED[finer[place]]
        self.decoder = nn.ModuleList(joins)
        self.classifier = nn.Conv2d(channels, num_classes, kernel_size=1)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h * skip = H padded."""
        x = self.pad(self.normalize(images))
        wanted = [*sorted(self.places), len(self.encoder.ENDS) - 1]
        *finer, coarse = self.encoder.features(x, wanted)
        x = self.context(coarse)
        for join, fine in zip(self.decoder, reversed(finer), strict=True):
            x = join(x, fine)
        return self.classifier(x)


deeplabv3plus_efficientnet_lite0 = partial(LightDeepLabV3Plus, 0)
deeplabv3plus_efficientnet_lite2 = partial(LightDeepLabV3Plus, 2)
