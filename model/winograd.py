"""3x3 convolutions with fewer multiplications, for inference on a CPU in float32.

Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
https://arxiv.org/abs/1509.09308, their F(2x2, 3x3): 2x2 outputs take 16 products where the
definition has 36. Those are products of matrices, which run at a CPU's best rate. The pixels that
a dilated convolution joins are every `dilation`-th, and make images of their own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS = 256  # in and out, from which on the sums around the products are the smaller part
WEIGHTS = 1 << 20  # most of a kernel place, else they take up too much memory
TILES = 128  # of the image at least, rows of a matrix
WASTE = 1.25  # times the image's pixels is what its whole tiles may hold
PART = 1 << 21  # values that are transformed at a time, so that they are in the cache


def use_winograd(network: nn.Module) -> nn.Module:
    """The network, with the convolutions that gain by it replaced; in evaluation mode."""
    for module in list(network.modules()):
        for name, part in module._modules.items():
            if isinstance(part, nn.Conv2d) and _gains(part):
                setattr(module, name, Winograd(part))
    return network


def _gains(layer: nn.Conv2d) -> bool:
    """If the image is large enough."""
    kind = type(layer), layer.kernel_size, layer.stride, layer.groups, layer.padding_mode
    return (kind == (nn.Conv2d, (3, 3), (1, 1), 1, "zeros")
            and layer.padding == layer.dilation == layer.dilation[::-1]
            and min(layer.in_channels, layer.out_channels) >= CHANNELS
            and layer.in_channels * layer.out_channels <= WEIGHTS
            and layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu")


class Winograd(nn.Conv2d):
    """A 3x3 convolution of stride 1 that keeps the size; by definition where an image is small.

    Its weights must not change.
    """

    factors: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        step = layer.dilation[0]
        super().__init__(layer.in_channels, layer.out_channels, 3, padding=step, dilation=step,
                         bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.register_buffer("factors", _weights(layer.weight.detach()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H, W)."""
        count, _, height, width = x.shape
        step = self.dilation[0]
        rows, columns = -(-height // (2 * step)), -(-width // (2 * step))  # of tiles
        tiles = count * rows * columns * step * step
        pays = tiles >= TILES and 4 * tiles <= WASTE * count * height * width
        if not pays or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        below, right = (2 * step * n for n in (rows, columns))
        edges = 0, 0, step, right - width + step, step, below - height + step
        x = F.pad(x.permute(0, 2, 3, 1), edges)
        x = x.view(count, 2 * rows + 2, step, 2 * columns + 2, step, -1).transpose(1, 2)
        result = x.new_empty(count, rows, 2, step, columns, 2, step, self.factors.shape[2])
        part = max(1, PART // (16 * x.shape[-1] * tiles // rows))
        for top in range(0, rows, part):
            some = slice(top, min(top + part, rows))
            pixels = x[:, :, 2 * some.start : 2 * some.stop + 2]
            self._convolve(pixels.transpose(3, 4), result[:, some])
        result = result.view(count, below, right, -1)[:, :height, :width]
        return result.permute(0, 3, 1, 2)

    def _convolve(self, x: Tensor, result: Tensor) -> None:
        """(N, d, 2h + 2, d, 2w + 2, C), fills (N, h, 2, d, w, 2, d, K)."""
        count, step, rows, _, columns, channels = x.shape
        rows, columns = rows // 2 - 1, columns // 2 - 1
        shape = 4, 4, count, step, rows, step, columns
        tiles = x.new_empty(*shape, channels)
        lines = [x[:, :, i : i + 2 * rows - 1 : 2] for i in range(4)]
        for i, line in enumerate(_spread(*lines)):
            dots = [line[:, :, :, :, j : j + 2 * columns - 1 : 2] for j in range(4)]
            for place, dot in zip(tiles[i], _spread(*dots), strict=True):
                place.copy_(dot)
        sums = torch.bmm(tiles.view(16, -1, channels), self.factors).view(*shape, -1)
        for i, line in enumerate(_gather(*sums)):
            for j, dot in enumerate(_gather(*line)):
                if self.bias is not None:
                    dot += self.bias
                result[:, :, i, :, :, j] = dot.permute(0, 2, 1, 4, 3, 5)


def _spread(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    """Four pixels in a row -> the factors of four products."""
    return a - c, b + c, c - b, b - d


def _gather(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Four products -> two pixels in a row."""
    return a + b + c, b - c - d


def _weights(weight: Tensor) -> Tensor:
    """(K, C, 3, 3) -> (16, C, K), the other factors."""
    spread = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    return torch.einsum("ai,kcij,bj->abck", spread, weight, spread).flatten(0, 1).contiguous()
