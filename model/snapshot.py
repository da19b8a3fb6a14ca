"""Loads checkpoints: ours, published ones, ONNX files; opens them for training or prediction."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model import MODELS, STATISTICS, _defaults, build_model, hub
from model.fusion import fuse
from model.onnx_export import ExportedNetwork
from model.published import UnknownNetworkError, encoder_weights, recognize
from model.segformer import form_name
from model.smp.names import is_smp
from model.smp.weights import fit_encoder, imagenet_weights
from model.winograd import use_winograd
from utils import checkpoint
from utils.inference.compiled import compile_where_it_pays
from utils.inference.predictor import FEW_IMAGES, Predictor, Workload
from utils.inference.settings import Inference

# Options that weights expect and --arch does not say.
FORM = (*STATISTICS, "align_corners", "eps", "parts", "package_options")


def load_weights(network: nn.Module, weights: dict[str, Tensor], except_: str = "") -> list[str]:
    """Copies weights into a network, every name and shape or an error.

    Args:
        network: gets the weights.
        weights: state dict with this project's names.
        except_: names with this prefix may differ in shape; those keep their values.

    Returns the names left out by `except_`.

    Raises ValueError: a tensor is missing, left over, or of another shape.
    """
    own = network.state_dict()
    counters = {name: own[name] for name in own if name.endswith(".num_batches_tracked")}
    if not weights.keys() & counters.keys():  # files of PyTorch 0.4 and older have none
        weights = counters | weights
    missing = [name for name in own if name not in weights]
    unequal = [name for name in own if name in weights and weights[name].shape != own[name].shape]
    left_out = [name for name in own if except_ and name.startswith(except_)
                and name in (*missing, *unequal)]
    faults = [f"{name} missing" for name in missing if name not in left_out]
    faults += [f"{name} unknown" for name in weights if name not in own]
    faults += [f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
               for name in unequal if name not in left_out]
    if faults:
        raise ValueError(f"the weights do not fit the network: {len(faults)} of "
                         f"{len({*own, *weights})} tensors "
                         f"differ ({'; '.join(faults[:3])})")
    network.load_state_dict({k: own[k] if k in left_out else weights[k] for k in own})
    return left_out


def read_snapshot(
    path: str | Path, weights: bool = False, encoder: bool = False
) -> dict[str, Any]:
    """A checkpoint in this project's form, whoever wrote it; or what an ONNX file says of itself.

    Args:
        path: of the file, of a training's folder, of a folder as the model hub has them, or the
            hub's OWNER/NAME.
        weights: whether they are needed, which an ONNX file does not give.
        encoder: whether one alone will do, as the model hub has.

    Returns at least `model` (arch, num_classes, options), `dataset` and `weights`.

    Raises FileNotFoundError, ValueError: missing, damaged, or of no network known here.
    """
    path = hub.find(path)
    if path.is_dir():
        return hub.read_folder(path, encoder)
    if path.suffix == ".onnx" and path.is_file():
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
        checkpoint.check_finite(content["weights"], path)
        return content
    return recognize(checkpoint.state_dict(content, path), path)


def from_snapshot(snapshot: dict[str, Any], **options: Any) -> nn.Module:
    """The network of a snapshot, in evaluation mode; `options` replace the stored ones."""
    if "exported" in snapshot:
        return snapshot["exported"]
    config = snapshot["model"]
    options = config["options"] | options
    _check_size(snapshot, options)
    network = build_model(config["arch"], config["num_classes"], **options)
    load_weights(network, snapshot["weights"])
    return network.eval()


def _check_size(snapshot: dict[str, Any], options: dict[str, Any]) -> None:
    """Refuses options that build no network, or a larger one than there are weights of.

    Raises ValueError: nothing is allocated before.
    """
    config, weights = snapshot["model"], snapshot["weights"]
    if is_smp(config["arch"]):  # some of its encoders compute while they are built
        return
    try:
        with torch.device("meta"):
            plan = build_model(config["arch"], config["num_classes"], **options)
    except Exception as error:  # of whatever layer gets them
        raise ValueError(f"the options of the snapshot build no {config['arch']}: "
                         f"{str(error).partition(chr(10))[0][:200]}") from None
    if sum(each.numel() for each in plan.state_dict().values()) > 2 * sum(
            each.numel() for each in weights.values()) + 1_000_000:
        load_weights(plan, weights)  # which says what is missing


def load_model(path: str | Path, **options: Any) -> nn.Module:
    """The network of a checkpoint file, ours or a published one, in evaluation mode.

    Raises FileNotFoundError, ValueError: missing, damaged, or of no network known here.
    """
    return from_snapshot(read_snapshot(path), **options)


def build_with_weights(
    name: str, num_classes: int, init: str | None = None, encoder: str | None = None,
    class_names: Sequence[str] = (), **options: Any,
) -> tuple[nn.Module, list[str]]:
    """Builds a network that starts from given weights, and with their pixel statistics.

    Args:
        name: a key of MODELS.
        num_classes: channels of the logits.
        init: checkpoint of a network; a classifier of other classes is new, the rest must fit.
        encoder: checkpoint for the encoder alone, or "imagenet" for a download from torchvision,
            or from where segmentation_models_pytorch has it.
        class_names: of the logits, where they are known.
        **options: the builder's own.

    Returns the network, and a line for each source that says what was taken.

    Raises ValueError: the weights do not fit.
    """
    if init:
        snapshot = read_snapshot(init, weights=True)
        kept = [key for key in FORM if key in _defaults(name)]
        stored = _stored(snapshot, kept)
        if "parts" in stored:  # which would be those of the network, whatever its name
            theirs = form_name(snapshot["model"]["arch"], stored["parts"])
            if name not in ("segformer", theirs):
                raise ValueError(f"{init} is of {theirs}, not of {name}; give --arch {theirs}")
        network = build_model(name, num_classes, **stored | options)
        try:
            new = load_weights(network, snapshot["weights"], except_="classifier.")
        except ValueError as error:
            raise ValueError(f"{init} is of {snapshot['model']['arch']}, not of {name}: "
                             f"{error}") from None
        before = snapshot["dataset"].get("class_names") or ()
        odd = [pair for pair in zip(before, class_names, strict=False) if pair[0] != pair[1]]
        other = f"; its class {odd[0][0]} becomes {odd[0][1]}" if odd and not new else ""
        return network, [f"weights: {init}; new: {', '.join(new) or 'nothing'}{other}"]
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
        if reason := getattr(network.encoder, "no_imagenet_weights", None):
            raise ValueError(f"imagenet: there are no weights for {reason}")
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
        snapshot = read_snapshot(source, weights=True, encoder=True)
    except UnknownNetworkError:
        return rename(checkpoint.state_dict(checkpoint.read(source), source)), {}
    weights = snapshot["weights"]
    prefix = "encoder."
    encoder = {k.removeprefix(prefix): weights[k] for k in weights if k.startswith(prefix)}
    return encoder, _stored(snapshot, STATISTICS)


def open_predictor(
    snapshot: dict[str, Any],
    device: torch.device | str = "cpu",
    precision: str = "fp32",
    inference: Inference | None = None,
    table: np.ndarray | None = None,
    compiled: bool | None = False,
    workload: Workload = FEW_IMAGES,
) -> Predictor:
    """The network of a snapshot on a device, its batch norms fused; the rest as of `Predictor`.

    Args:
        precision: fp32, bf16, fp16, or auto.
        compiled: the network is compiled when it meets a new size, its weights as constants, in
            the precision that is fast without; None: on a CPU, where it pays.
        workload: what precision and compiling are chosen for.

    Raises ValueError: the snapshot is an ONNX file and `compiled` asked for.
    """
    network: Any = from_snapshot(snapshot)
    exported = isinstance(network, ExportedNetwork)
    if not exported:
        network = fuse(network)
        if torch.device(device).type == "cpu":
            network = use_winograd(network)
    network = network.to(device, memory_format=torch.channels_last)
    ours = not exported and snapshot["model"]["arch"] in MODELS
    predictor = Predictor(network, table=table, inference=inference or Inference(),
                          replayed=torch.device(device).type == "cuda" and ours and not compiled)
    predictor = predictor.with_precision(precision, workload)
    return compile_where_it_pays(predictor, compiled, workload)
