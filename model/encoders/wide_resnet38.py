"""WideResNet38: few, wide residual blocks with norm and ReLU in front of convolutions.

Wu et al., "Wider or Deeper: Revisiting the ResNet Model for Visual Recognition", 2016,
https://arxiv.org/abs/1611.10080, model A2; stages are numbered as there.
"""

from collections import OrderedDict
from collections.abc import Collection, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import run_stages


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1, each after batch norm and ReLU, and a shortcut.

    Args:
        in_channels, channels: of the input, and after each convolution.
        stride, dilation: of the first convolution, and of those of 3x3.
        dropout: probability of a channel to be dropped in front of the last convolution.
    """

    def __init__(
        self, in_channels: int, channels: Sequence[int], stride: int, dilation: int, dropout: float
    ) -> None:
        super().__init__()
        before = (in_channels, *channels[:-1])
        kernels = (3, 3) if len(channels) == 2 else (1, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(count) for count in before)
        rows = zip(before, channels, kernels, (stride, 1, 1), strict=False)
        self.convs = nn.ModuleList(
            nn.Conv2d(count, after, kernel, step, dilation * (kernel // 2), dilation, bias=False)
            for count, after, kernel, step in rows)
        self.dropout = nn.Dropout2d(dropout)
        same = stride == 1 and in_channels == channels[-1]
        self.shortcut = (None if same else
                         nn.Conv2d(in_channels, channels[-1], 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels[-1], h / stride, w / stride)."""
        y = F.relu(self.norms[0](x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(y)
        for conv, norm in zip(self.convs[:-1], self.norms[1:], strict=True):
            y = F.relu(norm(conv(y)), inplace=True)
        return self.convs[-1](self.dropout(y)) + shortcut


class WideResNet38Encoder(nn.Module):
    """Features at strides 2, 4, 8 (or 8 and 16), the last four stages dilated.

    Args:
        output_stride: 8, as published, or 16; pixels per feature cell.
    """

    no_imagenet_weights = "WideResNet38; give a FILE of weights, for example wider_resnet38.pth.tar"

    def __init__(self, output_stride: int) -> None:
        if output_stride not in (8, 16):
            raise ValueError(f"output stride {output_stride}: WideResNet38 has 8 or 16")
        super().__init__()
        self.checkpoint_activations = False
        self.channels = (128, 256, 512, 1024, 2048, 4096)
        self.strides = (2, 4, 8, output_stride, output_stride, output_stride)
        self.out_channels = self.channels[-1]
        step = output_stride // 8  # stage 5 halves the size, and every dilation, or does not
        self.stage1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        self.stage2 = stage(64, (128, 128), blocks=3, pool=True)
        self.stage3 = stage(128, (256, 256), blocks=3, pool=True)
        self.stage4 = stage(256, (512, 512), blocks=6, stride=2)
        self.stage5 = stage(512, (512, 1024), blocks=3, stride=step, dilation=2 // step)
        self.stage6 = stage(1024, (512, 1024, 2048), dilation=4 // step, dropout=0.3)
        self.stage7 = stage(2048, (1024, 2048, 4096), dilation=4 // step, dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalized -> (N, out_channels, h, w), h = ceil(H / output_stride)."""
        return self.features(x, (5,))[0]

    def features(self, x: Tensor, wanted: Collection[int]) -> list[Tensor]:
        """(N, 3, H, W) normalized -> (N, channels[i], H / strides[i], ...) of `wanted` stages i."""
        stages = self.stage2, self.stage3, self.stage4, self.stage5, self.stage6, self.stage7
        return run_stages(stages, self.stage1(x), wanted, self.checkpoint_activations)


def stage(
    in_channels: int, channels: Sequence[int], blocks: int = 1, stride: int = 1,
    dilation: int = 1, dropout: float = 0.0, pool: bool = False,
) -> nn.Sequential:
    """`blocks` equal blocks, the first of which has the stride; before them a 3x3 max `pool`."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if pool:
        layers["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
    for number in range(1, blocks + 1):
        layers[f"block{number}"] = Block(in_channels, channels, stride, dilation, dropout)
        in_channels, stride = channels[-1], 1
    return nn.Sequential(layers)
