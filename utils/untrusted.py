"""What a checkpoint file is, found without running it: whole, damaged, or made to run code."""

import contextlib
import pickletools
import re
import stat
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

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


class Inert:
    """Stands for an object of any class: keeps its attributes, does nothing."""

    def __init__(self, *args: Any, **words: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


def load_inert(path: Path) -> Any:
    """What a file holds, with an `Inert` object for each that is no tensor, number or text.

    Raises:
        ValueError: damaged, malicious, or a whole network as torch before 1.6 pickled it.
    """
    if danger := _find_danger(path):
        raise ValueError(f"{path}: {danger}")
    known: list[Any] = [(set, "__builtin__.set")]
    try:
        if zipfile.is_zipfile(path):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            known += [(type(name.rpartition(".")[2], (Inert,), {}), name)
                      for name in names if name != "__builtin__.set"]
        with torch.serialization.safe_globals(known):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises seven types for damaged files
        if not zipfile.is_zipfile(path) and _foreign_names(path):
            raise ValueError(f"{path}: pickles a whole network as torch before 1.6 did; save its "
                             "state_dict() with that torch, and give that file") from None
        reason = ascii(str(error).partition("\n")[0])[1:-1][:200]
        raise ValueError(f"{path}: cannot be read as a pickle of PyTorch ({reason})") from None


def is_network(value: Any) -> bool:
    """Whether an object was a network."""
    return isinstance(value, Inert) and {"_parameters", "_modules"} <= vars(value).keys()


def tensors_of(network: Inert) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a pickled network, as its `state_dict()` would name them."""
    attributes = vars(network)
    volatile = attributes.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, tensor in (attributes.get(kind) or {}).items():
            if isinstance(tensor, Tensor) and name not in volatile:
                yield name, tensor
    for name, part in (attributes.get("_modules") or {}).items():
        if isinstance(part, Inert):
            for inner, tensor in tensors_of(part):
                yield f"{name}.{inner}", tensor


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors do: a length, and JSON of the tensors."""
    with path.open("rb") as file:
        return file.read(10)[8:] == b'{"'


def check_file(path: Path) -> None:
    """Refuses what is no whole file of PyTorch.

    Raises:
        FileNotFoundError, ValueError: missing, damaged, or another kind of file.
    """
    if fault := _find_fault(path):
        raise ValueError(f"{path}: {fault}")


def _find_danger(path: Path) -> str:
    """That loading a file would have called functions of the system, up to three named; or ""."""
    calls = sorted(filter(MALICIOUS.fullmatch, _find_imports(path)))[:3]
    return f"looks malicious: loading it would call {', '.join(calls)}; delete it" if calls else ""


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


def explain_refusal(path: Path) -> str:
    """Why torch does not load a file."""
    if danger := _find_danger(path):
        return danger
    if objects := _foreign_names(path):
        return (f"stores Python objects ({', '.join(objects[:3])}), not only weights; loading them "
                f"could run code from its author. python convert_checkpoint.py {path} OUT.pth "
                "reads its tensors and runs nothing")
    return "damaged, or not a checkpoint of PyTorch; fetch or write it again"


def _foreign_names(path: Path) -> list[str]:
    """Classes and functions that a file asks for and files of weights do not."""
    return sorted(name for name in _find_imports(path) if not EXPECTED.fullmatch(name))


def _find_imports(path: Path) -> set[str]:
    """Names of the classes and functions that a file's pickles ask for; nothing is run.

    They are the author's: no line breaks or terminal codes from there.
    """
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
    return {ascii(name)[1:-1][:100] for name in names}


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
