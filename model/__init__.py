"""Networks: uint8 pixels in, logits out. `MODELS` is the list of what can be built."""

import inspect
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from model.exported import ExportedNetwork
from model.published import UnknownNetworkError, recognize
from model.published_encoders import encoder_weights
from model.recompute import checkpoint_activations as checkpoint_activations
from model.smp import builder as smp_builder
from model.smp_names import describe, is_smp, split, wrap
from model.smp_weights import fit_encoder, imagenet_weights
from model.weights import load_weights as load_weights
from utils import checkpoint

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
    **dict.fromkeys(("cspsg_n", "cspsg_s", "cspsg_m", "cspsg_l", "cspsg_x"), "model.cspsg"),
    "sgcpnet": "model.sgcpnet",
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

    Raises:
        ValueError: unknown name or option.
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


def read_snapshot(path: str | Path, weights: bool = False) -> dict[str, Any]:
    """A checkpoint in this project's form, whoever wrote it; or what an ONNX file says of itself.

    Args:
        path: of the file.
        weights: whether they are needed, which an ONNX file does not give.

    Returns:
        At least `model` (arch, num_classes, options), `dataset` and `weights`.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or of no network known here.
    """
    if Path(path).suffix == ".onnx" and Path(path).is_file():
        if weights:
            raise ValueError(f"{path}: an ONNX file only predicts; give the checkpoint that it was "
                             "written from")
        exported = ExportedNetwork(path)
        return exported.about | {"exported": exported}
    content = checkpoint.read(path)
    if "format" in content:
        checkpoint.check_format(content, path)
        arch = content["model"]["arch"]
        if not is_smp(arch) and arch not in MODELS:
            raise ValueError(f"{path}: a network {arch}, which labels no images; one of "
                             "train_sdcnet.py is for propagate.py --motion sdcnet")
        return content
    return recognize(checkpoint.state_dict(content, path), path)


def from_snapshot(snapshot: dict[str, Any], **options: Any) -> nn.Module:
    """The network of a snapshot, in evaluation mode; `options` replace the stored ones."""
    if "exported" in snapshot:
        return snapshot["exported"]
    config = snapshot["model"]
    options = config["options"] | options
    network = build_model(config["arch"], config["num_classes"], **options)
    load_weights(network, snapshot["weights"])
    return network.eval()


def load_model(path: str | Path, **options: Any) -> nn.Module:
    """The network of a checkpoint file, ours or a published one, in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or of no network known here.
    """
    return from_snapshot(read_snapshot(path), **options)


def build_with_weights(
    name: str,
    num_classes: int,
    init: str | None = None,
    encoder: str | None = None,
    **options: Any,
) -> tuple[nn.Module, list[str]]:
    """Builds a network that starts from given weights, and with their pixel statistics.

    Args:
        name: a key of MODELS.
        num_classes: channels of the logits.
        init: checkpoint of a network; a classifier of other classes is new, the rest must fit.
        encoder: checkpoint for the encoder alone, or "imagenet" for a download from torchvision,
            or from where segmentation_models_pytorch has it.
        **options: the builder's own.

    Returns:
        The network, and a line for each source that says what was taken.

    Raises:
        ValueError: the weights do not fit.
    """
    if init:
        snapshot = read_snapshot(init, weights=True)
        kept = [key for key in (*STATISTICS, "align_corners") if key in _defaults(name)]
        network = build_model(name, num_classes, **_stored(snapshot, kept) | options)
        new = load_weights(network, snapshot["weights"], except_="classifier.")
        return network, [f"weights: {init}; new: {', '.join(new) or 'nothing'}"]
    if encoder is None:
        return build_model(name, num_classes, **options), []
    rename = dict if is_smp(name) else encoder_weights
    weights, statistics = _encoder_weights(encoder, rename)
    network = build_model(name, num_classes, **options, **statistics)
    left: list[str] = []
    if is_smp(name):
        weights = weights or imagenet_weights(name, network.config["options"])
        weights, left = fit_encoder(network.encoder, weights)
    elif encoder == "imagenet":
        weights = encoder_weights(network.encoder.imagenet_weights())
    try:
        load_weights(network.encoder, weights)
    except ValueError as error:
        raise ValueError(f"{encoder}: not this encoder: {error}") from None
    unused = f"; left out: {', '.join(left[:4])}{', ...' * (len(left) > 4)}" if left else ""
    return network, [f"encoder: {encoder}, {len(weights)} tensors; the rest is new{unused}"]


def _stored(snapshot: dict[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """Options that a snapshot's weights expect, though no shape shows it."""
    options = snapshot["model"]["options"]
    return {key: options[key] for key in keys if key in options}


def _encoder_weights(
    source: str, rename: Callable[[dict[str, Tensor]], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The encoder's tensors in a snapshot, or all, renamed, of another file; its statistics."""
    if source == "imagenet":
        return {}, {}
    try:
        snapshot = read_snapshot(source, weights=True)
    except UnknownNetworkError:
        return rename(checkpoint.state_dict(checkpoint.read(source), source)), {}
    weights = snapshot["weights"]
    prefix = "encoder."
    encoder = {k.removeprefix(prefix): weights[k] for k in weights if k.startswith(prefix)}
    return encoder, _stored(snapshot, STATISTICS)


def count_parameters(network: nn.Module) -> int:
    """Parameters, buffers not counted."""
    return sum(parameter.numel() for parameter in network.parameters())
