"""Weights of segmentation_models_pytorch and timm, under the names of `model.smp.network`."""

import re
from typing import Any

from torch import Tensor, nn

from model.encoders import efficientnet_lite
from model.published import Table, rename
from model.published import efficientnet_lite as lite_names
from model.smp.names import pretrained_tag, split
from model.smp.network import build_parts

HEAD: Table = (
    (r"segmentation_head\.0\.", "classifier."),
    (r"segmentation_head\.head\.", "classifier."),  # DPT
)
OLD_DEEPLABV3: Table = (  # as versions before 0.4 named them
    (r"decoder\.0\.", "decoder.aspp."),
    (r"decoder\.1\.", "decoder.conv."),
    (r"decoder\.2\.", "decoder.bn."),
)


def imagenet_weights(name: str, options: dict[str, Any]) -> dict[str, Tensor]:
    """The encoder's tensors, for a network's name and options: as an installed package has them, or
    as segmentation_models_pytorch downloads them; ValueError if there are none.
    """
    architecture, encoder = split(name)
    if lite := re.fullmatch(r"(?:tu-|timm-)tf_efficientnet_lite([012])", encoder):
        return efficientnet_lite.imagenet_weights(int(lite[1]))
    tag = pretrained_tag(encoder)
    parts = build_parts(architecture, encoder, 2, options.get("output_stride"), tag)
    return parts.encoder.state_dict()


def fit_encoder(
    encoder: nn.Module, weights: dict[str, Tensor]
) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of an encoder, picked from a file of the package or of timm.

    Such a file is of the encoder alone, or of a whole network, with "encoder." in front. The
    package may say "model." in front of timm's names, and timm "_" for ".".

    Returns:
        Tensors under the encoder's names, without those that are not there; and the file's names
        that were left: a classifier's.
    """
    start = "encoder."
    inside = {key.removeprefix(start): weights[key] for key in weights if key.startswith(start)}
    inside = inside or weights
    if not any("_blocks." in name for name in encoder.state_dict()):
        inside = lite_names(inside)
    places = {_loosely(key): key for key in inside} | {key: key for key in inside}
    found = {name: places.get(name) or places.get(_loosely(name)) for name in encoder.state_dict()}
    taken = {name: inside[key] for name, key in found.items() if key is not None}
    left = [key for key in inside if key not in set(found.values())]
    return taken, left


def _loosely(key: str) -> str:
    return key.removeprefix("model.").replace("_", ".")


def bare(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A whole network's tensors out of what has it as a part, for example "model." of Lightning."""
    key = next((key for key in weights if "segmentation_head." in key), "")
    prefix = key[: key.find("segmentation_head.")]
    return {key.removeprefix(prefix): weights[key] for key in weights if key.startswith(prefix)}


def count_classes(weights: dict[str, Tensor], source: Any) -> int:
    """Channels of the logits of a whole network's state dict; ValueError if it has no head."""
    weights = rename(weights, HEAD)
    last = [key for key in weights if key.startswith("classifier.") and key.endswith(".bias")]
    if not last:
        raise ValueError(f"{source}: has no segmentation_head, so it is no whole network of "
                         "segmentation_models_pytorch")
    return len(weights[last[-1]])


def to_ours(weights: dict[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """A state dict of a whole network of the package under our names, those of `encoder` there."""
    weights = rename(rename(weights, HEAD), OLD_DEEPLABV3)
    fitting, left = fit_encoder(encoder, weights)
    fitting |= {key: weights[f"encoder.{key}"] for key in left if f"encoder.{key}" in weights}
    rest = {key: weights[key] for key in weights if not key.startswith("encoder.")}
    return {f"encoder.{key}": tensor for key, tensor in fitting.items()} | rest
