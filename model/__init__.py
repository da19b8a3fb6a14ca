"""Networks: uint8 pixels in, logits out. `MODELS` is the list of what can be built."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

from torch import nn

from model.smp.names import describe, is_smp, split, wrap
from model.smp.network import builder as smp_builder

# Name of a network -> module that has a builder of that name. It is imported when a network is
# built: torchvision, which some are made of, takes longer than anything else that a script does
# before its first image.
MODELS = {
    **dict.fromkeys((
        "deeplabv3_resnet18", "deeplabv3_resnet34", "deeplabv3_resnet50", "deeplabv3_resnet101",
        "deeplabv3_resnet152",
    ), "model.deeplabv3"),
    **dict.fromkeys((
        "deeplabv3plus_wide_resnet38", "deeplabv3plus_se_resnext50",
        "deeplabv3plus_se_resnext101", "deeplabv3plus_resnet50", "deeplabv3plus_resnet101",
    ), "model.deeplabv3plus"),
    **dict.fromkeys(
        ("deeplabv3plus_efficientnet_lite0", "deeplabv3plus_efficientnet_lite2"),
        "model.deeplabv3plus_light"),
    **dict.fromkeys((
        "cspsg_n", "cspsg_s", "cspsg_m", "cspsg_l", "cspsg_x", "cspsg_x_stride2",
        "cspsg_x_stride64", "cspsg_x_c2f",
    ), "model.cspsg"),
    "sgcpnet": "model.sgcpnet",
    **dict.fromkeys((
        "segformer", "segformer_b0", "segformer_b1", "segformer_b2", "segformer_b3", "segformer_b4",
        "segformer_b5",
    ), "model.segformer"),
}  # fmt: skip
STATISTICS = ("mean", "std")  # of pixels, options of every builder


def check_name(name: str) -> str:
    """The name itself, if it can be built; else ValueError with the names that can."""
    if is_smp(name):
        split(name)
    elif name not in MODELS:
        raise ValueError(f"unknown network {name!r}; known: {', '.join(MODELS)}, "
                         "smp:ARCHITECTURE:ENCODER")
    return name


def list_networks() -> str:
    """The names that `check_name` knows, for people."""
    return f"{wrap(MODELS)}\n\n{describe()}"


def build_model(name: str, num_classes: int, **options: Any) -> Any:
    """Builds a network with random weights.

    Args:
        name: a key of MODELS, or smp:ARCHITECTURE:ENCODER.
        num_classes: channels of the logits.
        **options: the builder's own, for example `output_stride`.

    Returns:
        The network. Its `config` (name, number of classes, every option) is what a checkpoint
        needs to build it again.

    Raises ValueError: unknown name or option.
    """
    builder, defaults = _builder(name), _defaults(name)
    if unknown := set(options) - set(defaults):
        raise ValueError(f"{name} has no option {sorted(unknown)}; it has {sorted(defaults)}")
    options = defaults | options
    network: Any = builder(num_classes, **options)
    network.config = {"arch": name, "num_classes": num_classes, "options": options}
    return network


def _builder(name: str) -> Callable[..., nn.Module]:
    if is_smp(name):
        return smp_builder(name)
    return getattr(import_module(MODELS[check_name(name)]), name)


def _defaults(name: str) -> dict[str, Any]:
    """The options of a builder."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def count_parameters(network: nn.Module) -> int:
    """Parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in network.parameters())
