"""Checkpoints: read any without running code, write ours so that no crash can lose one.

The file format is plain tensors, numbers and strings, so `torch.load(weights_only=True)` reads it
with no allow-list. Keys: README, "Checkpoints".
"""

import argparse
import contextlib
import errno
import io
import math
import os
import pickletools
import re
import stat
import warnings
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import Tensor

FORMAT = 1
WRAPPERS = ("weights", "state_dict", "model_state", "model", "segmenter", "net", "ema")
PREFIXES = ("module.", "_orig_mod.")

# Published checkpoints hold numpy numbers and argparse namespaces beside their tensors.
SAFE_GLOBALS: list[Any] = [
    (multiarray.scalar, "numpy._core.multiarray.scalar"),
    (multiarray.scalar, "numpy.core.multiarray.scalar"),
    (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
    (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
    np.ndarray,
    np.dtype,
    np.dtypes.Float64DType,
    np.dtypes.Float32DType,
    np.dtypes.Int64DType,
    argparse.Namespace,
]
# The names that files of weights ask for: only to word an error, torch decides what it loads.
EXPECTED = re.compile(
    r"torch\.\w+|torch\.(_utils|_tensor|storage|nn\.parameter)\.\w+|collections\.OrderedDict|"
    r"numpy\.(_?core\.multiarray|dtypes)\.\w+|numpy\.(ndarray|dtype)|_codecs\.encode|"
    r"argparse\.Namespace|(builtins|__builtin__)\.(set|bytearray)"
)
MALICIOUS = re.compile(
    r"(os|posix|nt|subprocess|pty|socket|shutil|sys|importlib|runpy|ctypes|webbrowser)\..+|"
    r"(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__)"
)


def read(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint file, on the CPU, without running any code in it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: damaged, or not a checkpoint; the message says what it is.
    """
    path = Path(path)
    if fault := _find_fault(path):
        raise ValueError(f"{path}: {fault}")
    try:
        with torch.serialization.safe_globals(SAFE_GLOBALS), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the refusal below says it in one line
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # torch raises seven types for damaged files
        raise ValueError(f"{path}: {_explain_refusal(path)}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}; a state dict is expected")
    return content


def _find_fault(path: Path) -> str:
    """What is wrong with a file, found without unpickling; "" for nothing."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):  # to open a pipe would wait for its writer
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            return f"{kind}; give a checkpoint (.pth)"
        with path.open("rb") as file:
            head = file.read(512)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such checkpoint") from None
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not head:
        return "an empty file; fetch or write it again"
    if head.lstrip()[:1] == b"<":
        return "a web page: the download of a checkpoint failed; fetch it again"
    if head[8:10] == b'{"':
        return "a safetensors file; a checkpoint of PyTorch (.pth) is expected"
    return _find_zip_fault(path) if head.startswith(b"PK") else ""


def _find_zip_fault(path: Path) -> str:
    """torch checks no CRC: one flipped byte would load silently."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename.rpartition("/")[2] for member in members}
            if "constants.pkl" in names:
                return "a TorchScript program; a checkpoint (.pth) is expected"
            if "data.pkl" not in names:
                return "an archive, but not a checkpoint of PyTorch; give a checkpoint (.pth)"
            stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
            if not stored or sum(m.file_size for m in members) > path.stat().st_size:
                return "compressed, which PyTorch never writes; fetch the original file"
            broken = archive.testzip()
    except Exception as error:  # zipfile raises six types for damaged files
        return f"cut off or damaged ({error}); fetch or write it again"
    return f"damaged (checksum of {broken!r}); fetch or write it again" if broken else ""


def _explain_refusal(path: Path) -> str:
    """Why torch does not load a file."""
    # Names in the file are the author's: no line breaks or terminal codes from there.
    imports = {ascii(name)[1:-1][:100] for name in _find_imports(path)}
    calls = sorted(name for name in imports if MALICIOUS.fullmatch(name))
    if calls:
        return f"looks malicious: loading it would call {', '.join(calls[:3])}; delete it"
    objects = sorted(name for name in imports if not EXPECTED.fullmatch(name))
    if objects:
        return (
            f"stores Python objects ({', '.join(objects[:3])}), not only weights; loading them "
            "could run code from its author. Ask the author for a state dict"
        )
    return "damaged, or not a checkpoint of PyTorch; fetch or write it again"


def _find_imports(path: Path) -> set[str]:
    """Names of the classes and functions that a file's pickles ask for; nothing is run."""
    names: set[str] = set()
    with contextlib.ExitStack() as stack, contextlib.suppress(Exception):
        file: IO[bytes] = stack.enter_context(path.open("rb"))
        if zipfile.is_zipfile(file):
            archive = stack.enter_context(zipfile.ZipFile(file))
            member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            file = stack.enter_context(archive.open(member))
        file.seek(0)
        while True:  # the legacy format is a row of pickles; what follows them ends this
            names |= _pickle_imports(file)
    return names


def _pickle_imports(file: IO[bytes]) -> set[str]:
    """Those of one pickle."""
    names: set[str] = set()
    texts: list[Any] = []  # what was pushed, as far as it can be the parts of a name
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name in ("GLOBAL", "INST"):
            names.add(argument.replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            names.add(".".join(map(str, texts[-2:])))
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = texts[-1:]
        elif opcode.name.endswith("PUT"):
            memo[argument] = texts[-1:]
        elif opcode.name.endswith("GET"):
            texts += memo[argument]
        elif isinstance(argument, str):
            texts.append(argument)
    return names


def state_dict(content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """The named tensors in the content of a checkpoint, without wrappers and prefixes.

    Raises:
        ValueError: there are none.
    """
    for _ in WRAPPERS:
        if not _is_state_dict(content):
            inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), dict))
            content = next(inner, {})
    if not _is_state_dict(content):
        raise ValueError(f"{path}: holds no named tensors; a state dict is expected")
    for prefix in PREFIXES * 2:
        if all(key.startswith(prefix) for key in content):
            content = {key.removeprefix(prefix): tensor for key, tensor in content.items()}
    return {key: tensor.detach() for key, tensor in content.items()}


def _is_state_dict(content: dict) -> bool:
    return bool(content) and all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    )


def check_format(content: dict[str, Any], path: str | Path) -> None:
    """Refuses a checkpoint of ours that this version does not understand.

    Raises:
        ValueError: another format number, or its parts are missing.
    """
    if content.get("format") != FORMAT or not {"model", "dataset", "weights"} <= content.keys():
        raise ValueError(
            f"{path}: format {content.get('format')!r}; this version reads format {FORMAT}, as "
            "train.py writes it"
        )


def write(path: str | Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint so that `path` is at every instant the old file or the new one, whole.

    Raises:
        FloatingPointError: a weight is not finite; the old file stays.
        OSError: no room, no permission; the old file stays.
    """
    path = Path(path)
    for name, tensor in content["weights"].items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise FloatingPointError(f"{path}: not written: {name} is not finite")
    # Through memory: torch hides the errno of a full disk behind an internal assertion.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_bytes(path, buffer.getbuffer())


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file atomically and durably: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: no room, no permission; the old file stays.
    """
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
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        need = f"; it needs {math.ceil(len(data) / 1e6)} MB" if full else ""
        raise OSError(error.errno, f"{path}: not written ({error.strerror}){need}") from None
    with contextlib.suppress(OSError):  # some network file systems cannot, and need not
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
