"""Networks as folders of the model hub: of segmentation_models_pytorch, SegFormer of transformers.

A folder has config.json and its weights, model.safetensors or pytorch_model.bin.
"""

import functools
import importlib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import build_model
from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.published import Table, rename, snapshot_of
from model.segformer import FORMS, form_name
from model.smp.names import PREFIX, load_package
from model.smp.weights import HEAD, to_ours
from utils import checkpoint, distributed
from utils.files import read_file, shown

BEST = "best.pth"
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
INDEXES = tuple(f"{name}.index.json" for name in WEIGHTS)  # of weights in several files
SUFFIXES = {".pth", ".pt", ".tar", ".bin", ".ckpt", ".onnx", ".safetensors"}  # of no hub's name
CITYSCAPES = 19  # classes
TRANSFORMERS: Table = (
    (r"(?:segformer\.)?encoder\.patch_embeddings\.(\d)\.proj\.",
     lambda m: f"encoder.patch_embed{int(m[1]) + 1}.proj."),
    (r"(?:segformer\.)?encoder\.patch_embeddings\.(\d)\.layer_norm\.",
     lambda m: f"encoder.patch_embed{int(m[1]) + 1}.norm."),
    (r"(?:segformer\.)?encoder\.layer_norm\.(\d)\.", lambda m: f"encoder.norm{int(m[1]) + 1}."),
    (r"(?:segformer\.)?encoder\.block\.(\d)\.(\d+)\.",
     lambda m: f"encoder.block{int(m[1]) + 1}.{m[2]}."),
    (r"decode_head\.linear_c\.(\d)\.proj\.",
     lambda m: f"decoder.mlp_stage.{3 - int(m[1])}.linear."),
    (r"decode_head\.linear_fuse\.", "decoder.fuse_stage.0."),
    (r"decode_head\.batch_norm\.", "decoder.fuse_stage.1."),
    (r"decode_head\.classifier\.", "classifier."),
)
TRANSFORMERS_BLOCKS: Table = (  # names within a block, after the places
    (r"(encoder\.block.*)\.layer_norm_([12])\.", r"\1.norm\2."),
    (r"(encoder\.block.*)\.attention\.self\.query\.", r"\1.attn.q."),
    (r"(encoder\.block.*)\.attention\.self\.sr\.", r"\1.attn.sr."),
    (r"(encoder\.block.*)\.attention\.self\.layer_norm\.", r"\1.attn.norm."),
    (r"(encoder\.block.*)\.attention\.output\.dense\.", r"\1.attn.proj."),
    (r"(encoder\.block.*)\.mlp\.dense([12])\.", r"\1.mlp.fc\2."),
)


def find(source: str | Path) -> Path:
    """The file or folder that a snapshot's name stands for.

    A path that exists is that, of a run's folder its best.pth; else OWNER/NAME is fetched from the
    hub, or found where it was fetched to before.

    Raises FileNotFoundError, ValueError: nothing there, no network in a folder.
    """
    path = Path(source)
    if path.is_dir():
        if (path / CONFIG).is_file():
            return path
        if not (path / BEST).exists():
            raise ValueError(f"{path}: a folder without {BEST} (of a training) and without "
                             f"{CONFIG} (of the model hub); give a checkpoint (.pth)")
        return path / BEST
    hub = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+(@[\w./-]+)?", str(source))
    if path.exists() or not hub or path.suffix in SUFFIXES:
        return path
    return fetch(str(source))


@functools.cache
def fetch(name: str) -> Path:
    """The folder of OWNER/NAME or OWNER/NAME@REVISION, of the hub or of the cache of earlier times.

    Raises:
        FileNotFoundError: no such network, or the hub cannot be reached.
        ValueError: huggingface_hub is not installed.
    """
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        errors: Any = importlib.import_module("huggingface_hub.errors")
        importlib.import_module("huggingface_hub.utils.logging").set_verbosity_error()  # of retries
    except ImportError:
        raise ValueError(f"{name}: no such file or folder; to fetch it from the model hub: pip "
                         "install huggingface_hub") from None
    repository, _, revision = name.partition("@")
    place: dict[str, Any] = {"repo_id": repository, "revision": revision or None}
    unreached: list[Exception] = []

    def get(names: Iterable[str]) -> str | None:
        for each in names:
            try:
                return hub.hf_hub_download(filename=each, local_files_only=bool(unreached), **place)
            except errors.LocalEntryNotFoundError as error:  # the cache may have the next one
                unreached.append(error)
            except errors.EntryNotFoundError:  # the repository has no such file
                pass
        return None

    try:
        found = get((CONFIG,)), get((*WEIGHTS, *INDEXES))
        if None in found and unreached:
            raise unreached[0]
        known = get(STATISTICS) or not unreached or all(
            hub.try_to_load_from_cache(filename=each, **place) is not None for each in STATISTICS)
    except Exception as error:  # a dozen types, of three packages
        raise FileNotFoundError(f"{name}: no such file or folder, and not found on the model hub "
                                f"({_reason(error, errors)})") from None
    if None in found:
        raise FileNotFoundError(f"{name}: the model hub has no {CONFIG} or no weights of it")
    if not known:
        distributed.say(f"note: {name}: the hub is not reached, and what its pixels are normalized "
                        "by was not fetched before: what is usual is taken")
    return Path(str(found[0])).parent


def _reason(error: Exception, errors: Any) -> str:
    """Why the hub gave nothing, and what helps."""
    if isinstance(error, errors.GatedRepoError):
        return "accept its terms on its page there, and set HF_TOKEN"
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such network, or it is private: set HF_TOKEN"
    start = ""
    if isinstance(error, errors.LocalEntryNotFoundError):
        start, error = "not reached, and not fetched before: ", error.__cause__ or error
    lines = [line for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.match(r"\d+ (Client|Server) Error", line)]
    return start + shown((telling or lines or [type(error).__name__])[0].strip())


def weights_file(source: str | Path) -> Path:
    """The file that has the weights of what `find` finds; of no folder that has none."""
    path = find(source)
    return next((path / name for name in WEIGHTS if (path / name).is_file()), path)


def read_folder(folder: Path, encoder: bool = False) -> dict[str, Any]:
    """The snapshot of a folder: model, data set, weights.

    Args:
        folder: with config.json.
        encoder: whether one alone will do, of which the snapshot has no classes.

    Raises FileNotFoundError, ValueError: no weights in it, damaged, or of a network unknown here.
    """
    config = _read_json(folder / CONFIG)
    path = weights_file(folder)
    if path == folder:
        if any((folder / name).is_file() for name in INDEXES):
            raise ValueError(f"{folder}: its weights are in several files; save it in one, "
                             "save_pretrained(..., max_shard_size=\"99GB\") does")
        raise FileNotFoundError(f"{folder}: no {' or '.join(WEIGHTS)} in it")
    weights = checkpoint.state_dict(checkpoint.read(path), path)
    mean, std = read_statistics(folder)
    try:
        if "_model_class" in config:
            return _of_smp(config, weights, mean, std)
        if config.get("model_type") == "segformer":
            snapshot = _of_transformers(config, weights, mean, std)
            if not encoder and not snapshot["model"]["num_classes"]:
                raise ValueError("an encoder, or a classifier of whole images; give it to train.py "
                                 "as --pretrained-encoder")
            return snapshot
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG}: not as its package writes it ({error!r})") from None
    except ValueError as error:
        raise ValueError(f"{folder}: {shown(str(error))}") from None
    kind = config.get("model_type") or config.get("architectures") or "an unknown network"
    raise ValueError(f"{folder / CONFIG}: of {kind}; networks of segmentation_models_pytorch and "
                     "SegFormer of transformers are read")


def _of_smp(
    config: dict[str, Any], weights: dict[str, Tensor], mean: tuple | None, std: tuple | None
) -> dict[str, Any]:
    """Of what `save_pretrained` of segmentation_models_pytorch writes."""
    name, encoder, classes = (config[key] for key in ("_model_class", "encoder_name", "classes"))
    _expect(config, {"in_channels": 3}, name)
    statistics: dict[str, Any] = {"mean": mean, "std": std} if mean and std else {}
    weights = {key: weights[key] for key in weights if not key.startswith("classification_head.")}
    form = encoder.removeprefix("mit_")
    if name == "Segformer" and form in FORMS:
        _expect(config, {"encoder_depth": 5, "upsampling": 4}, name)
        options = {"align_corners": True, **statistics,
                   "parts": {"decoder": config.get("decoder_segmentation_channels", 256)}}
        return _snapshot(f"segformer_{form}", classes, options, {}, rename(weights, HEAD))
    package = load_package(name)
    names = {kind.__name__: key for key, kind in package.MODEL_ARCHITECTURES_MAPPING.items()}
    given = ("_model_class", "encoder_name", "encoder_weights", "classes", "in_channels",
             "aux_params", "activation", "encoder_output_stride")
    if name not in names:
        raise ValueError(f"{name}: not in segmentation_models_pytorch {package.__version__}; a "
                         "newer one may have it: pip install -U segmentation-models-pytorch")
    package_options = {key: value for key, value in config.items() if key not in given}
    options = {"package_options": package_options, **statistics}
    if "encoder_output_stride" in config:
        options["output_stride"] = config["encoder_output_stride"]
    arch = f"{PREFIX}{names[name]}:{encoder}"
    network = build_model(arch, classes, **options)
    return _snapshot(arch, classes, options, {}, to_ours(weights, network.encoder))


def _of_transformers(
    config: dict[str, Any], weights: dict[str, Tensor], mean: tuple | None, std: tuple | None
) -> dict[str, Any]:
    """Of SegformerForSemanticSegmentation of transformers; or of its encoder, with no classes."""
    _expect(config, {"num_channels": 3, "num_encoder_blocks": 4, "patch_sizes": [7, 3, 3, 3],
                     "strides": [4, 2, 2, 2], "hidden_act": "gelu"}, "segformer")
    lists = {"widths": "hidden_sizes", "depths": "depths", "heads": "num_attention_heads",
             "reductions": "sr_ratios", "ratios": "mlp_ratios"}
    parts: dict[str, Any] = {ours: tuple(config[key]) for ours, key in lists.items()}
    parts["decoder"] = config["decoder_hidden_size"]
    weights = rename(rename(weights, TRANSFORMERS), TRANSFORMERS_BLOCKS)
    for key in [key for key in weights if ".attention.self.key." in key]:
        pair = weights.pop(key), weights.pop(key.replace(".key.", ".value."))
        weights[key.replace(".attention.self.key.", ".attn.kv.")] = torch.cat(pair)
    options = {"align_corners": False, "eps": 1e-5, "mean": mean or IMAGENET_MEAN,
               "std": std or IMAGENET_STD, "parts": parts}
    arch = form_name("segformer", parts)
    if not any(key.startswith("decoder.") for key in weights):
        return snapshot_of(arch, 0, options, None, weights)
    labels = config.get("id2label") or {}
    if odd := [number for number in labels if not number.isdecimal()]:
        raise ValueError(f"segformer: id2label has {odd[0]!r} where the number of a class is "
                         "expected")
    labels = {int(number): name for number, name in labels.items()}
    return _snapshot(arch, len(weights["classifier.weight"]), options, labels, weights)


def _expect(config: dict[str, Any], fixed: dict[str, Any], name: str) -> None:
    """Refuses a network that differs where there is no choice here. Raises ValueError."""
    for key, wanted in fixed.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"{name}: {key} {config[key]}; {wanted} is expected")


def _snapshot(
    arch: str, classes: int, options: dict[str, Any], labels: dict[int, str],
    weights: dict[str, Tensor],
) -> dict[str, Any]:
    """A snapshot; of the classes it says their `labels`, or that nobody knows them."""
    if classes < 2:
        raise ValueError(f"{arch}: one channel, of one class against the rest; networks with a "
                         "channel for every class, two or more, are read")
    names = [labels.get(number, "") for number in range(classes)]
    snapshot = snapshot_of(arch, classes, options, None, weights)
    if all(names) and not all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        snapshot["dataset"] = {"name": "folder", "class_names": names}
    elif classes == CITYSCAPES:
        distributed.say(f"its {classes} classes have no names: taken for those of Cityscapes, "
                        f"unless --dataset names one of {classes}")
        snapshot["dataset"] = {"name": "cityscapes", "guessed": True}
    return snapshot


def read_statistics(folder: Path) -> tuple[tuple | None, tuple | None]:
    """Mean and standard deviation of the pixels in 0..255, RGB; None where no file says them.

    ValueError for a file that is not as its package writes it, or for no such normalization.
    """
    for name, read in STATISTICS.items():
        path = folder / name
        if not path.is_file():
            continue
        try:
            if found := read(_read_json(path)):
                return _constants(*found)
        except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ValueError(f"{path}: not as its package writes it ({error!r})") from None
        except _Unusable as error:
            raise ValueError(f"{path}: {error}") from None
    return None, None


def _read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises ValueError."""
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no JSON object")
    return content


class _Unusable(Exception):
    """A normalization that is not of given means and deviations."""


def _of_albumentations(content: dict[str, Any]) -> tuple[Any, Any, float] | None:
    """Mean, std and what both are multiplied by: of the first Normalize, however deep it stands."""
    waiting = [content.get("transform")]
    while waiting:
        part = waiting.pop(0)
        if not isinstance(part, dict):
            continue
        if str(part.get("__class_fullname__")).rpartition(".")[2] == "Normalize":
            if (kind := part.get("normalization", "standard")) != "standard":
                raise _Unusable(f"normalization {kind!r}, of each image by itself; 'standard' is "
                                "expected")
            factor = part.get("max_pixel_value", 255)
            return part["mean"], part["std"], 255 if factor is None else factor
        waiting[:0] = part.get("transforms") or []
    return None


def _of_processor(content: dict[str, Any]) -> tuple[Any, Any, float] | None:
    """Mean, std and what both are multiplied by."""
    scaled, normalized = (content.get(key, True) for key in ("do_rescale", "do_normalize"))
    if scaled and normalized and not content.keys() & {"image_mean", "image_std"}:
        return None
    factor = 1 / content.get("rescale_factor", 1 / 255) if scaled else 1
    return (content["image_mean"], content["image_std"], factor) if normalized else (0, 1, factor)


def _constants(mean: Any, std: Any, factor: float) -> tuple[tuple, tuple]:
    """Three numbers each, of one for all channels or of three."""
    means, stds = (tuple(round(factor * value, 4)
                         for value in (each if isinstance(each, list) else [each] * 3))
                   for each in (mean, std))
    if not len(means) == len(stds) == 3 or not all(map(math.isfinite, means + stds)) or (
            min(stds) <= 0):
        raise _Unusable(f"mean {mean} and std {std} of the pixels; one or three finite numbers "
                        "each are expected, std above 0")
    return means, stds


# Beside the weights, what pixels are normalized by: of segmentation_models_pytorch, of transformers
STATISTICS = {
    "albumentations_config_eval.json": _of_albumentations,
    "preprocessor_config.json": _of_processor,
}
