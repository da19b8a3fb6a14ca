"""Atrous spatial pyramid pooling.

Chen et al., "Rethinking Atrous Convolution", 2017, https://arxiv.org/abs/1706.05587, section 3.3
"""

import torch
from torch import Tensor, nn

from model.layers import conv_bn_act


class ASPP(nn.Module):
    """Sees each place through a 1x1, three dilated 3x3 and one whole-image branch.

    Args:
        in_channels: channels of the encoder's features.
        channels: of every branch and of the output.
        rates: dilations of the 3x3 branches, in feature cells.
        bias: convolution biases in front of batch norm, redundant but in the published weights.
        bare_projection: no batch norm and ReLU after the last convolution, as in DeepLabV3+.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int = 256,
        rates: tuple[int, ...] = (6, 12, 18),
        bias: bool = False,
        bare_projection: bool = False,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [conv_bn_act(in_channels, channels, 1, bias=bias)]
            + [conv_bn_act(in_channels, channels, 3, bias=bias, dilation=rate) for rate in rates]
        )
        self.pooled = conv_bn_act(in_channels, channels, 1, bias=bias)
        joined = (len(rates) + 2) * channels
        self.project = (
            nn.Conv2d(joined, channels, 1, bias=bias) if bare_projection
            else conv_bn_act(joined, channels, 1, bias=bias)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, in_channels, h, w) -> (N, channels, h, w)."""
        pooled = self.pooled(features.mean((2, 3), keepdim=True))  # (N, channels, 1, 1)
        views = [branch(features) for branch in self.branches]  # each (N, channels, h, w)
        views.append(pooled.expand_as(views[0]))
        return self.project(torch.cat(views, dim=1))
