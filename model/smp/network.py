"""Networks of segmentation_models_pytorch, with normalization inside and any image size.

github.com/qubvel-org/segmentation_models.pytorch, MIT license; an optional package.
"""

import contextlib
import importlib
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from model.layers import Normalize, PaddedSegmenter
from model.smp.names import OUTPUT_STRIDES, load_package, split, statistics, timm_name

ANY_SIZE = ({"dynamic_img_size": True}, {"strict_img_size": False})  # of transformers in timm


class SMPNetwork(PaddedSegmenter):
    """Encoder, decoder and head of a network of that package, behind its normalization."""

    align_corners = True  # as the package's heads enlarge

    def __init__(self, network: Any, normalize: Normalize) -> None:
        super().__init__()
        self.normalize = normalize
        self.encoder = network.encoder
        self.decoder = network.decoder
        head = network.segmentation_head
        self.has_tokens = hasattr(head, "head")  # DPT: its encoder gives features and tokens
        self.classifier = head.head if self.has_tokens else head[0]
        enlarge = head.upsampling_factor if self.has_tokens else getattr(head[1], "scale_factor", 1)
        self.stride = int(enlarge)  # of the logits before the head enlarges them
        # Pixels that H and W are padded to multiples of, and the fewest.
        self.multiple, self.least = needed_size(network)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) pixels -> (N, num_classes, h, w), h * stride = H padded."""
        features = self.encoder(self.pad(self.normalize(images)))
        decoded = self.decoder(*features) if self.has_tokens else self.decoder(features)
        return self.classifier(decoded)

    def synchronize_batch_norm(self) -> nn.Module:
        """Itself, with statistics over all ranks.

        timm has batch norms with an activation inside, which torch's conversion would drop.
        """
        return importlib.import_module("timm.layers").convert_sync_batchnorm(self)

    def padding(self, length: int) -> int:
        """Pixels that a side is padded by."""
        needed = length + super().padding(length)
        # Only where it is needed: an exporter works long on a maximum of unknown sizes.
        return (max(needed, self.least) if self.least > self.multiple else needed) - length


def needed_size(network: Any) -> tuple[int, int]:
    """Pixels of a side: what it is a multiple of, and the fewest."""
    encoder, name = network.encoder, type(network).__name__
    if name == "DPT":  # joins its encoder's features at strides of 4 to 32
        multiple = math.lcm(32, *encoder.output_strides)
        return multiple, multiple
    if name == "PAN":  # halves the encoder's features three times
        return encoder.output_stride, 8 * encoder.output_stride
    return encoder.output_stride, encoder.output_stride


def build(
    architecture: str, encoder: str, num_classes: int, output_stride: int | None,
    mean: tuple[float, ...], std: tuple[float, ...], package_options: dict[str, Any] | None = None,
) -> SMPNetwork:
    """The network `smp:architecture:encoder`, with random weights.

    Args:
        architecture: of the package.
        encoder: of the package, or of timm.
        num_classes: channels of the logits.
        output_stride: of a dilated encoder; None for an architecture that dilates none.
        mean, std: of the pixels, in 0..255, RGB.
        package_options: of the package's own builder.

    Raises ValueError: these parts do not go together, or take images of one size only.
    """
    parts = build_parts(architecture, encoder, num_classes, output_stride, None, package_options)
    network = SMPNetwork(parts, Normalize(mean, std))
    try:
        freeze_unused(network)
    except Exception as error:  # whatever the package raises inside
        choice = "other options of the package" if package_options else "another encoder"
        raise ValueError(f"smp:{architecture}:{encoder}: cannot take images of any size "
                         f"({_first_line(error)}); choose {choice}") from None
    return network


def build_parts(
    architecture: str, encoder: str, num_classes: int, output_stride: int | None,
    weights: str | None = None, package_options: dict[str, Any] | None = None,
) -> Any:
    """The package's own network; its encoder with downloaded `weights`, if any are named."""
    create = load_package(encoder).create_model
    options: dict[str, Any] = {"classes": num_classes, **(package_options or {})}
    if output_stride:
        options["encoder_output_stride"] = output_stride
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that it will not have for ever
            if timm_name(encoder) is not None:
                for any_size in ANY_SIZE:
                    with contextlib.suppress(TypeError):  # most of timm's need no such option
                        return create(architecture, encoder, weights, **options | any_size)
            return create(architecture, encoder, weights, **options)
    except Exception as error:  # whatever the package raises inside
        what = f"downloading the weights of {encoder}" if weights else (
            f"smp:{architecture}:{encoder}: this encoder does not go with this architecture")
        raise ValueError(f"{what} ({_first_line(error)})") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@torch.enable_grad()
def freeze_unused(network: SMPNetwork) -> None:
    """Lets parameters that no logit depends on train no more.

    Several encoders keep layers that only a classifier uses. Data-parallel training waits for the
    gradient of every parameter that wants one. ValueError if logits have not the image's size.
    """
    network.eval()
    coarse = network(torch.zeros(1, 3, 64, 96), full_size=False)
    padded = [n + network.padding(n) for n in (64, 96)]
    if [n * network.stride for n in coarse.shape[-2:]] != padded:
        raise ValueError(f"logits of {tuple(coarse.shape[-2:])} at stride {network.stride} for "
                         f"{tuple(padded)} pixels")
    coarse.sum().backward()
    for parameter in network.parameters():
        if parameter.grad is None:
            parameter.requires_grad_(False)
        parameter.grad = None
    network.train()


def builder(name: str) -> Callable[..., SMPNetwork]:
    """What builds the network of a name: num_classes and options -> network. Raises as `split`."""
    architecture, encoder = split(name)
    mean, std = statistics(encoder)
    if (stride := OUTPUT_STRIDES.get(architecture)) is not None:
        return partial(build, architecture, encoder, output_stride=stride, mean=mean, std=std)
    return lambda num_classes, mean=mean, std=std, package_options=None: build(
        architecture, encoder, num_classes, None, mean, std, package_options)
