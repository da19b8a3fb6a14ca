"""SegFormer: a transformer whose attention sees fewer keys than queries, and an all-MLP decoder.

Xie et al., NeurIPS 2021, https://arxiv.org/abs/2105.15203. Names of parameters are those of
segmentation_models_pytorch, whose files fit; `model.hub` renames those of transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import IMAGENET_MEAN, IMAGENET_STD, Normalize, PaddedSegmenter, resize

STRIDES = (4, 2, 2, 2)
KERNELS = (7, 3, 3, 3)
STAGES = ("widths", "depths", "heads", "reductions", "ratios")  # of a form, what is the encoder's


@dataclass(frozen=True)
class Form:
    """Of each of the four stages, and of the decoder.

    Args:
        widths: channels.
        depths: blocks.
        heads: of the attention; they divide the widths.
        reductions: stride of the keys and values, in places of the stage.
        ratios: channels of the inner layer, as multiples of the widths.
        decoder: channels.
    """

    widths: Sequence[int] = (64, 128, 320, 512)
    depths: Sequence[int] = (2, 2, 2, 2)
    heads: Sequence[int] = (1, 2, 5, 8)
    reductions: Sequence[int] = (8, 4, 2, 1)
    ratios: Sequence[int] = (4, 4, 4, 4)
    decoder: int = 256


class Embedding(nn.Module):
    """A strided convolution, then layer norm over the channels."""

    def __init__(self, before: int, after: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(before, after, kernel, stride, kernel // 2)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> tuple[Tensor, Sequence[int]]:
        """(N, before, H, W) -> (N, h * w, after), and (h, w)."""
        x = self.proj(x)
        return self.norm(x.flatten(2).transpose(1, 2)), x.shape[-2:]


class Attention(nn.Module):
    """Of every place to squares of `reduction` x `reduction` places, each one key and value."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{width} channels do not go into {heads} heads")
        self.heads, self.reduction = heads, reduction
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(N, h * w, width) of `size` (h, w) -> the same shape."""
        batch, places, width = x.shape
        context = x
        if self.reduction > 1:
            context = self.sr(x.transpose(1, 2).reshape(batch, width, *size))
            context = self.norm(context.flatten(2).transpose(1, 2))
        query, key, value = (
            part.reshape(batch, -1, self.heads, width // self.heads).transpose(1, 2)
            for part in (self.q(x), *self.kv(context).chunk(2, dim=2)))
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, places, width))


class Spatial(nn.Module):
    """A 3x3 convolution of each channel by itself: all that tells a block of positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(N, h * w, width) of `size` (h, w) -> the same shape."""
        batch, _, width = x.shape
        x = self.dwconv(x.transpose(1, 2).reshape(batch, width, *size))
        return x.flatten(2).transpose(1, 2)


class MixFeedForward(nn.Module):
    """Widen, convolve, GELU, narrow."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.dwconv = nn.Linear(width, inner), Spatial(inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(N, h * w, width) of `size` (h, w) -> the same shape."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(x), size)))


class Block(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a shortcut."""

    def __init__(self, width: int, heads: int, reduction: int, ratio: int, eps: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.attn = Attention(width, heads, reduction)
        self.mlp = MixFeedForward(width, ratio * width)

    def forward(self, x: Tensor, size: Sequence[int]) -> Tensor:
        """(N, h * w, width) of `size` (h, w) -> the same shape."""
        x = x + self.attn(self.norm1(x), size)
        return x + self.mlp(self.norm2(x), size)


class Encoder(nn.Module):
    """Features at strides 4, 8, 16 and 32: the Mix Transformer; `eps` is of its layer norms."""

    no_imagenet_weights = "the Mix Transformer; give a FILE of weights"

    def __init__(self, form: Form, eps: float) -> None:
        super().__init__()
        before = 3
        stages = zip(form.widths, form.depths, form.heads, form.reductions, form.ratios,
                     strict=True)
        for place, (width, depth, heads, reduction, ratio) in enumerate(stages):
            parts = {
                "patch_embed": Embedding(before, width, KERNELS[place], STRIDES[place]),
                "block": nn.ModuleList(
                    Block(width, heads, reduction, ratio, eps) for _ in range(depth)),
                "norm": nn.LayerNorm(width, eps)}
            for name, part in parts.items():
                self.add_module(f"{name}{place + 1}", part)
            before = width

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, 3, H, W) normalized -> (N, widths[i], h, w) of each stage."""
        features = []
        for stage in range(1, 5):
            embed, blocks, norm = (self.get_submodule(f"{name}{stage}")
                                   for name in ("patch_embed", "block", "norm"))
            tokens, size = embed(x)
            for block in blocks:  # type: ignore[attr-defined]
                tokens = block(tokens, size)
            x = norm(tokens).transpose(1, 2).reshape(x.shape[0], -1, *size)
            features.append(x)
        return features


class Projection(nn.Module):
    """A linear layer at every place."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.linear = nn.Linear(before, after)

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, h, w) -> (N, after, h, w)."""
        return self.linear(x.movedim(1, -1)).movedim(-1, 1)


class Decoder(nn.Module):
    """Features of all stages, each to `width` channels at stride 4, and one layer over all."""

    def __init__(self, widths: Sequence[int], width: int) -> None:
        super().__init__()
        self.mlp_stage = nn.ModuleList(Projection(each, width) for each in reversed(widths))
        self.fuse_stage = nn.Sequential(
            nn.Conv2d(len(widths) * width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.dropout = nn.Dropout2d(0.1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """(N, widths[i], h, w) from fine to coarse -> (N, width, H/4, W/4)."""
        size = features[0].shape[-2:]
        views = [resize(project(x), size)
                 for project, x in zip(self.mlp_stage, reversed(features), strict=True)]
        return self.dropout(self.fuse_stage(torch.cat(views, dim=1)))


class SegFormer(PaddedSegmenter):
    """Mix Transformer, all-MLP decoder, one classifier at stride 4.

    Args:
        form: of encoder and decoder.
        num_classes: channels of the logits.
        mean, std: of the pixels, in 0..255, RGB.
        align_corners: of the enlargement of the logits.
        eps: of the layer norms of and behind the blocks.
        parts: of the form, by their names, in place of its own.
    """

    def __init__(
        self, form: Form, num_classes: int, mean: tuple[float, ...] = IMAGENET_MEAN,
        std: tuple[float, ...] = IMAGENET_STD, align_corners: bool = False, eps: float = 1e-6,
        parts: dict[str, Sequence[int] | int] | None = None,
    ) -> None:
        super().__init__()
        form = replace(form, **(parts or {}))  # type: ignore[arg-type]
        if max(form.depths) > 1000:
            raise ValueError(f"{max(form.depths)} blocks in a stage; at most 1000 are expected")
        self.align_corners = align_corners
        self.normalize = Normalize(mean, std)
        self.encoder = Encoder(form, eps)
        self.decoder = Decoder(form.widths, form.decoder)
        self.classifier = nn.Conv2d(form.decoder, num_classes, kernel_size=1)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), 4 h = H padded."""
        return self.classifier(self.decoder(self.encoder(self.pad(self.normalize(images)))))


FORMS = {
    "b0": Form(widths=(32, 64, 160, 256)),
    "b1": Form(),
    "b2": Form(depths=(3, 4, 6, 3), decoder=768),
    "b3": Form(depths=(3, 4, 18, 3), decoder=768),
    "b4": Form(depths=(3, 8, 27, 3), decoder=768),
    "b5": Form(depths=(3, 6, 40, 3), decoder=768),
}


def form_name(arch: str, parts: dict[str, Any] | None) -> str:
    """The name of the network here whose encoder has the form of `arch` with other `parts`."""
    form = replace(FORMS.get(arch.removeprefix("segformer_"), Form()), **(parts or {}))
    stages = [tuple(getattr(form, key)) for key in STAGES]
    return next((f"segformer_{name}" for name, known in FORMS.items()
                 if stages == [getattr(known, key) for key in STAGES]), "segformer")


segformer = partial(SegFormer, Form())  # of any form, by `parts`
segformer_b0 = partial(SegFormer, FORMS["b0"])
segformer_b1 = partial(SegFormer, FORMS["b1"])
segformer_b2 = partial(SegFormer, FORMS["b2"])
segformer_b3 = partial(SegFormer, FORMS["b3"])
segformer_b4 = partial(SegFormer, FORMS["b4"])
segformer_b5 = partial(SegFormer, FORMS["b5"])
