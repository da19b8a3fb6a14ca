"""Layers that ONNX has for images of any size, in place of equal ones that it has not."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def replace_layers(network: nn.Module) -> nn.Module:
    """Itself, with other layers that compute the same."""
    for module in list(network.modules()):
        for name, part in module._modules.items():
            if (new := _replacement(part)) is not None:
                setattr(module, name, new)
    return network


def _replacement(layer: nn.Module | None) -> nn.Module | None:
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        size: Any = layer.output_size
        bins = (size, size) if isinstance(size, int) else tuple(size)
        return AdaptivePool(bins) if None not in bins and max(bins) > 1 else None
    if isinstance(layer, nn.Conv2d) and type(layer).__name__ == "Conv2dSame":
        return _pad_before(layer)
    return None


class AdaptivePool(nn.Module):
    """nn.AdaptiveAvgPool2d as two products of matrices.

    Args:
        bins: rows and columns of the output.
    """

    def __init__(self, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, *bins)."""
        rows, columns = (self._shares(x, axis).to(x.dtype) for axis in (0, 1))
        return rows @ x @ columns.T

    def _shares(self, x: Tensor, axis: int) -> Tensor:
        """(bins, length): what every bin takes of each place."""
        length, bins = x.shape[axis - 2], self.bins[axis]
        place = torch.arange(length, device=x.device)[None]
        number = torch.arange(bins, device=x.device)[:, None]
        begin, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
        inside = (place >= begin) & (place < end)
        return inside / inside.sum(1, keepdim=True)


def _pad_before(layer: nn.Conv2d) -> nn.Module:
    """timm's convolution that pads as TensorFlow does, by an amount that depends on the size.

    Of sizes that its stride divides, and others do not reach it, the amount is always the same; an
    exporter does not see that, and works for many minutes on the sizes of all layers behind.
    """
    padding: Any = ()
    for kernel, stride, dilation in zip(layer.kernel_size, layer.stride, layer.dilation,
                                        strict=True):
        amount = max(dilation * (kernel - 1) + 1 - stride, 0)
        padding = (amount // 2, amount - amount // 2, *padding)  # the last axis first
    plain: Any = copy.copy(layer)
    plain.__class__, plain.padding = nn.Conv2d, (0, 0)
    return nn.Sequential(nn.ConstantPad2d(padding, 0.0), plain)
