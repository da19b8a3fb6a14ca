"""Networks as folders of the model hub: of segmentation_models_pytorch, SegFormer of transformers.

A folder has config.json and its weights, model.safetensors or pytorch_model.bin.
"""

import importlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model import build_model
from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.published import Table, rename
from model.segformer import FORMS, Form
from model.smp.names import PREFIX, load_package
from model.smp.weights import HEAD, to_ours
from utils import checkpoint, distributed
from utils.files import read_file

BEST = "best.pth"
CONFIG, WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
# Beside them, what pixels are normalized by: of segmentation_models_pytorch, of transformers
STATISTICS = ("albumentations_config_eval.json", "preprocessor_config.json")
SUFFIXES = {".pth", ".pt", ".tar", ".bin", ".ckpt", ".onnx", ".safetensors"}  # of no hub's name
CITYSCAPES = 19  # classes
TRANSFORMERS: Table = (
    (r"segformer\.encoder\.patch_embeddings\.(\d)\.proj\.",
     lambda m: f"encoder.patch_embed{int(m[1]) + 1}.proj."),
    (r"segformer\.encoder\.patch_embeddings\.(\d)\.layer_norm\.",
     lambda m: f"encoder.patch_embed{int(m[1]) + 1}.norm."),
    (r"segformer\.encoder\.layer_norm\.(\d)\.", lambda m: f"encoder.norm{int(m[1]) + 1}."),
    (r"segformer\.encoder\.block\.(\d)\.(\d+)\.",
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

    Raises:
        FileNotFoundError, ValueError: nothing there, no network in a folder.
    """
    path = Path(source)
    if path.is_dir():
        if (path / CONFIG).is_file():
            return path
        if not (path / BEST).exists():
            raise ValueError(f"{path}: a folder without {BEST} (of a training) and without "
                             f"{CONFIG} (of the model hub); give a checkpoint (.pth)")
        return path / BEST
    hub = re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", str(source))
    if path.exists() or not hub or path.suffix in SUFFIXES:
        return path
    return fetch(str(source))


def fetch(name: str) -> Path:
    """The folder of OWNER/NAME, from the hub or from the cache of an earlier time.

    Raises:
        FileNotFoundError: no such network, or the hub cannot be reached.
        ValueError: huggingface_hub is not installed.
    """
    try:
        hub: Any = importlib.import_module("huggingface_hub")
        errors: Any = importlib.import_module("huggingface_hub.errors")
    except ImportError:
        raise ValueError(f"{name}: no such file or folder; to fetch it from the model hub: pip "
                         "install huggingface_hub") from None
    missing = errors.EntryNotFoundError  # a file that the repository does not have

    def get(names: Sequence[str]) -> str | None:
        for each in names:
            try:
                return hub.hf_hub_download(name, each)
            except missing as error:
                unreached = isinstance(error, errors.LocalEntryNotFoundError)
                if unreached and hub.try_to_load_from_cache(name, each) != hub._CACHED_NO_EXIST:
                    raise
        return None

    try:
        found = get((CONFIG,)), get(WEIGHTS)
        get(STATISTICS)
    except Exception as error:  # a dozen types, of three packages
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileNotFoundError(f"{name}: no such file or folder, and not found on the model hub "
                                f"({reason})") from None
    if None in found:
        raise FileNotFoundError(f"{name}: the model hub has no {CONFIG} or no weights of it")
    return Path(str(found[0])).parent


def weights_file(source: str | Path) -> Path:
    """The file that has the weights of what `find` finds; of no folder that has none."""
    path = find(source)
    return next((path / name for name in WEIGHTS if (path / name).is_file()), path)


def read_folder(folder: Path) -> dict[str, Any]:
    """The snapshot of a folder: model, data set, weights.

    Raises:
        FileNotFoundError, ValueError: no weights in it, damaged, or of a network unknown here.
    """
    config = _read_json(folder / CONFIG)
    path = weights_file(folder)
    if path == folder:
        raise FileNotFoundError(f"{folder}: no {' or '.join(WEIGHTS)} in it")
    weights = checkpoint.state_dict(checkpoint.read(path), path)
    mean, std = _statistics(folder)
    try:
        if "_model_class" in config:
            return _of_smp(config, weights, mean, std)
        if config.get("model_type") == "segformer":
            return _of_transformers(config, weights, mean, std)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / CONFIG}: not as its package writes it ({error!r})") from None
    kind = config.get("model_type") or config.get("architectures") or "an unknown network"
    raise ValueError(f"{folder / CONFIG}: of {kind}; networks of segmentation_models_pytorch and "
                     "SegFormer of transformers are read")


def _of_smp(
    config: dict[str, Any], weights: dict[str, Tensor], mean: tuple | None, std: tuple | None
) -> dict[str, Any]:
    """Of what `save_pretrained` of segmentation_models_pytorch writes."""
    name, encoder, classes = (config[key] for key in ("_model_class", "encoder_name", "classes"))
    if config.get("in_channels", 3) != 3:
        raise ValueError(f"{name}: {config['in_channels']} channels; images of three are read")
    statistics: dict[str, Any] = {"mean": mean, "std": std} if mean and std else {}
    weights = {key: weights[key] for key in weights if not key.startswith("classification_head.")}
    form = encoder.removeprefix("mit_")
    if name == "Segformer" and form in FORMS:
        options = {"align_corners": True, **statistics,
                   "parts": {"decoder": config.get("decoder_segmentation_channels", 256)}}
        weights = rename(weights, HEAD)
        return _snapshot(f"segformer_{form}", classes, options, {}, weights)
    package = load_package(name)
    names = {kind.__name__: key for key, kind in package.MODEL_ARCHITECTURES_MAPPING.items()}
    given = ("_model_class", "encoder_name", "encoder_weights", "classes", "in_channels",
             "aux_params", "activation", "encoder_output_stride")
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
    """Of SegformerForSemanticSegmentation of transformers."""
    fixed = {"num_channels": 3, "num_encoder_blocks": 4, "patch_sizes": [7, 3, 3, 3],
             "strides": [4, 2, 2, 2], "hidden_act": "gelu"}
    for key, wanted in fixed.items():
        if config.get(key, wanted) != wanted:
            raise ValueError(f"segformer: {key} {config[key]}; {wanted} is expected")
    lists = {"widths": "hidden_sizes", "depths": "depths", "heads": "num_attention_heads",
             "reductions": "sr_ratios", "ratios": "mlp_ratios"}
    parts: dict[str, Any] = {ours: tuple(config[key]) for ours, key in lists.items()}
    parts["decoder"] = config["decoder_hidden_size"]
    form = Form(**parts)
    weights = rename(rename(weights, TRANSFORMERS), TRANSFORMERS_BLOCKS)
    for key in [key for key in weights if ".attention.self.key." in key]:
        pair = weights.pop(key), weights.pop(key.replace(".key.", ".value."))
        weights[key.replace(".attention.self.key.", ".attn.kv.")] = torch.cat(pair)
    labels = {int(number): name for number, name in config.get("id2label", {}).items()}
    classes = len(weights["classifier.weight"])
    options = {"align_corners": False, "eps": 1e-5, "mean": mean or IMAGENET_MEAN,
               "std": std or IMAGENET_STD, "parts": parts}
    alike = next((name for name, known in FORMS.items() if known.widths == form.widths
                  and known.depths == form.depths), "")
    return _snapshot(f"segformer_{alike}".rstrip("_"), classes, options, labels, weights)


def _snapshot(
    arch: str, classes: int, options: dict[str, Any], labels: dict[int, str],
    weights: dict[str, Tensor],
) -> dict[str, Any]:
    """A snapshot; of the classes it says their `labels`, or that nobody knows them."""
    names = [labels.get(number, "") for number in range(classes)]
    dataset: dict[str, Any] = {"name": None}
    if all(names) and not all(re.fullmatch(r"LABEL_\d+", name) for name in names):
        dataset = {"name": "folder", "class_names": names}
    elif classes == CITYSCAPES:
        distributed.say(f"its {classes} classes have no names: taken for those of Cityscapes")
        dataset = {"name": "cityscapes"}
    return {"model": {"arch": arch, "num_classes": classes, "options": options},
            "dataset": dataset, "weights": weights}


def _statistics(folder: Path) -> tuple[tuple | None, tuple | None]:
    """Mean and standard deviation of the pixels in 0..255, where a file beside says them."""
    for name in STATISTICS:
        if not (folder / name).is_file():
            continue
        content = _read_json(folder / name)
        if "image_mean" in content:
            factor = 1 / content.get("rescale_factor", 1 / 255)
            return tuple(tuple(round(factor * value, 4) for value in content[key])
                         for key in ("image_mean", "image_std"))  # type: ignore[return-value]
        parts = content.get("transform", {}).get("transforms", [])
        for part in (part for part in parts if part.get("__class_fullname__") == "Normalize"):
            factor = part.get("max_pixel_value", 255)
            return tuple(tuple(round(factor * value, 4) for value in part[key])
                         for key in ("mean", "std"))  # type: ignore[return-value]
    return None, None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(read_file(path))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds no JSON object")
    return content
