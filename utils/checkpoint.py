"""Checkpoints: read any without running code, write ours so that no crash can lose one.

The file format is plain tensors, numbers and strings, so `torch.load(weights_only=True)` reads it
with no allow-list. Keys: docs/training.md.
"""

import argparse
import io
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

from utils import untrusted
from utils.files import patiently, replacing, shown

FORMAT = 1
WRAPPERS = ("weights", "state_dict", "model_state", "model", "segmenter", "net", "ema")
PREFIXES = ("module.", "_orig_mod.")

# Published checkpoints hold numpy numbers and argparse namespaces beside their tensors.
SAFE_GLOBALS: list[Any] = [
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    np.ndarray, np.dtype, argparse.Namespace,
    np.dtypes.Float64DType, np.dtypes.Float32DType, np.dtypes.Int64DType,
]


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, without running any code in it.

    Files of PyTorch and of safetensors, whatever their names end in. Raises FileNotFoundError, or a
    ValueError that says what is damaged or no checkpoint.
    """
    path = Path(path)
    untrusted.check_file(path)
    if untrusted.is_safetensors(path):
        return untrusted.load_safetensors(path)
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the refusal below says it in one line
            content = patiently(path, lambda: untrusted.load_pickle(path))
    except Exception:  # torch raises seven types for damaged files
        raise ValueError(f"{path}: {untrusted.explain_refusal(path)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; a state dict is expected")
    return content


def state_dict(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The named tensors in the content of a checkpoint, without wrappers and prefixes.

    Raises ValueError: there are none.
    """
    for _ in WRAPPERS:
        if not is_state_dict(content):
            inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), dict))
            content = next(inner, {})
    if not is_state_dict(content):
        raise ValueError(f"{path}: holds no named tensors; a state dict is expected")
    untrusted.check_tensors(content, path)
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): tensor for key, tensor in content.items()}
    check_finite(content, path)
    return {key: tensor.detach() for key, tensor in content.items()}


def check_finite(weights: dict[str, Tensor], path: str | Path) -> None:
    """Refuses weights that would make every logit nan. Raises ValueError."""
    if name := _not_finite(weights):
        raise ValueError(f"{path}: {name} is not finite, or a variance below 0: the training that "
                         "made it diverged, or the file is damaged; take an earlier checkpoint")


def _not_finite(weights: dict[str, Tensor]) -> str | None:
    """The first tensor that holds nan or infinity, or a variance below 0."""
    return next((name for name, tensor in weights.items() if tensor.is_floating_point() and (
        not tensor.isfinite().all() or name.endswith("running_var") and (tensor < 0).any())), None)


def fingerprint(value: Any) -> int:
    """A number that changes with any tensor, number or text of a nested content."""
    if isinstance(value, Tensor):
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return zlib.crc32(data.numpy().data, zlib.crc32(str(value.dtype).encode()))
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return zlib.crc32(repr([(key, fingerprint(each)) for key, each in items]).encode())
    return zlib.crc32(repr(value).encode())


def is_state_dict(value: Any) -> bool:
    """Whether it is tensors with names, and nothing else."""
    return isinstance(value, dict) and bool(value) and all(
        isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())


def check_format(content: dict[str, Any], path: str | Path) -> None:
    """Refuses a checkpoint of ours that this version does not understand.

    Raises ValueError: another format number, or its parts are missing or not as they should be.
    """
    given = repr(content.get("format"))  # of anything
    if given != repr(FORMAT) or not {"model", "dataset", "weights"} <= content.keys():
        raise ValueError(f"{path}: format {shown(given[:100])}; this version reads format {FORMAT},"
                         " as train.py writes it")
    untrusted.check_about(content, path)
    check_weights(content, path)


def check_weights(content: dict[str, Any], path: str | Path) -> None:
    """Refuses weights that are no plain tensors with names. Raises ValueError."""
    for key in ("weights", "raw_weights"):
        tensors = content.get(key) or {}  # a training without a running mean has no raw ones
        if not isinstance(tensors, dict):
            raise ValueError(f"{path}: {key} in it are no tensors with names")
        untrusted.check_tensors(tensors, path)


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint so that `path` is at every instant the old file or the new one, whole.

    Raises FloatingPointError: a weight is not finite; OSError: no room, no permission.
    """
    if name := _not_finite(content["weights"]):
        raise FloatingPointError(f"{path}: not written: {name} is not finite")
    save(path, content)


def save(path: str | Path, content: dict[str, Any]) -> None:
    """As `write`, of anything that torch can save."""
    # Through memory: torch hides the errno of a full disk behind an internal assertion.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with replacing(path, buffer.getbuffer().nbytes) as part:
        part.write_bytes(buffer.getbuffer())
