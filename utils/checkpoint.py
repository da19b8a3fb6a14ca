"""Checkpoints: read any without running code, write ours so that no crash can lose one.

The file format is plain tensors, numbers and strings, so `torch.load(weights_only=True)` reads it
with no allow-list. Keys: README, "Checkpoints".
"""

import argparse
import contextlib
import io
import math
import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FORMAT = 1
WRAPPERS = ("state_dict", "model_state", "model", "segmenter", "net", "ema")
PREFIXES = ("module.", "_orig_mod.")
MAX_BYTES = 8 << 30

# Published checkpoints hold numpy numbers and argparse namespaces beside their tensors.
_multiarray = np._core.multiarray
SAFE_GLOBALS = [
    (_multiarray.scalar, "numpy._core.multiarray.scalar"),
    (_multiarray.scalar, "numpy.core.multiarray.scalar"),
    (_multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    (_multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    argparse.Namespace,
]


def read(path: str | Path) -> Any:
    """The content of a checkpoint file, on the CPU, without running any code in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: damaged, too large, or not a checkpoint; the message says what it is.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such checkpoint")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file; give a checkpoint (.pth)")
    with path.open("rb") as file:
        head = file.read(512).lstrip()
    if head[:1] == b"<":
        raise ValueError(f"{path}: a web page: the download of a checkpoint failed; fetch it again")
    if head.startswith(b"PK"):
        _check_zip(path)
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises seven types for damaged files
        objects = _foreign_objects(path)
    if objects:
        raise ValueError(
            f"{path}: stores Python objects ({', '.join(objects[:3])}), not only weights; loading "
            "it could run code from its author. Ask the author for a state dict"
        )
    raise ValueError(f"{path}: damaged, or not a checkpoint of PyTorch; fetch or write it again")


def _check_zip(path: Path) -> None:
    """torch checks no CRC: one flipped byte would load silently."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            if any(name.endswith("constants.pkl") for name in names):
                raise ValueError(f"{path}: a TorchScript program; a checkpoint (.pth) is expected")
            if not any(name.endswith("data.pkl") for name in names):
                raise ValueError(f"{path}: an archive, but not a checkpoint of PyTorch")
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(member.file_size for member in members) > MAX_BYTES:
                raise ValueError(f"{path}: compressed or over 8 GiB; PyTorch writes no such file")
            if broken := archive.testzip():
                raise ValueError(f"{path}: damaged (checksum of {broken}); fetch or write it again")
    except (zipfile.BadZipFile, OSError) as error:
        raise ValueError(f"{path}: cut off or damaged ({error}); fetch or write it again") from None


def _foreign_objects(path: Path) -> list[str]:
    """Names of the classes and functions that a pickle asks for, beyond what is safe."""
    try:
        if zipfile.is_zipfile(path):
            return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
        names, strings = set(), []
        with path.open("rb") as file:
            for _ in range(5):  # the legacy format is a row of pickles
                for opcode, argument, _ in pickletools.genops(file):
                    if isinstance(argument, str):
                        strings.append(argument)
                    if opcode.name == "GLOBAL":
                        names.add(argument.replace(" ", "."))
                    elif opcode.name == "STACK_GLOBAL":
                        names.add(".".join(strings[-2:]))
    except Exception:  # a damaged file; what was found before the damage is not worth telling
        pass
    safe = ("torch._utils.", "torch.", "collections.OrderedDict")
    return sorted(name for name in locals().get("names", ()) if not name.startswith(safe))


def state_dict(content: Any, path: str | Path) -> dict[str, Tensor]:
    """The named tensors in the content of a checkpoint, without wrappers and prefixes.

    Raises:
        ValueError: there are none.
    """
    while isinstance(content, dict) and not _is_state_dict(content):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), dict)), None)
        if inner is None and isinstance(content.get("weights"), dict):
            inner = content["weights"]
        if inner is None:
            break
        content = inner
    if not isinstance(content, dict) or not _is_state_dict(content):
        raise ValueError(f"{path}: holds no named tensors; a state dict is expected")
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): tensor for key, tensor in content.items()}
    return {key: tensor.detach() for key, tensor in content.items()}


def _is_state_dict(content: dict) -> bool:
    return bool(content) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint so that `path` is at every instant the old file or the new one, whole.

    Raises:
        ValueError: a weight is not finite; the old file stays.
        OSError: no room, no permission; the old file stays.
    """
    path = Path(path)
    for name, tensor in content["weights"].items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ValueError(f"{path}: not written: {name} is not finite")
    # Through memory: torch hides the errno of a full disk behind an internal assertion.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file atomically and durably: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        megabytes = math.ceil(len(data) / 1e6)
        raise OSError(
            error.errno, f"{path}: not written ({error.strerror}); it needs {megabytes} MB"
        ) from None
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
