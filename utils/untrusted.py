"""What a checkpoint file is, found without running it: whole, damaged, or made to run code."""

import contextlib
import json
import math
import pickletools
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from utils.files import PathLike, patiently, reason, shown
from utils.images import DEPTHS

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

MOST_PARTS, MOST_CLASSES, LONGEST_NAME = 20_000, 1024, 1000  # of networks; characters


class Inert:
    """Stands for an object of any class: keeps its attributes, does nothing."""

    def __init__(self, *args: Any, **words: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


def load_inert(path: Path) -> Any:
    """What a file holds, with an `Inert` object for each that is no tensor, number or text.

    Raises ValueError: damaged, malicious, or a whole network as torch before 1.6 pickled it.
    """
    if is_safetensors(path):
        return load_safetensors(path)
    if danger := _find_danger(path):
        raise ValueError(f"{path}: {danger}")
    known: list[Any] = [(set, "__builtin__.set")]
    try:
        if zipfile.is_zipfile(path):
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
            known += [(type(name.rpartition(".")[2], (Inert,), {}), name)
                      for name in names if name != "__builtin__.set"]
        with torch.serialization.safe_globals(known):
            return load_pickle(path)
    except Exception as error:  # torch raises seven types for damaged files
        if not zipfile.is_zipfile(path) and _foreign_names(path):
            raise ValueError(f"{path}: pickles a whole network as torch before 1.6 did; save its "
                             "state_dict() with that torch, and give that file") from None
        raise ValueError(f"{path}: cannot be read as a pickle of PyTorch ({reason(error)})"
                         ) from None


def is_network(value: Any) -> bool:
    """Whether an object was a network."""
    return isinstance(value, Inert) and {"_parameters", "_modules"} <= vars(value).keys()


def tensors_of(network: Inert, path: Path) -> Iterator[tuple[str, Tensor]]:
    """Names and tensors of a pickled network, as its `state_dict()` would name them.

    Raises ValueError: it has no end, as one that contains itself.
    """
    waiting = [("", network)]
    for _ in range(MOST_PARTS):
        if not waiting:
            return
        start, part = waiting.pop()
        attributes = vars(part)
        volatile = attributes.get("_non_persistent_buffers_set", ())
        for kind in ("_parameters", "_buffers"):
            for name, tensor in (attributes.get(kind) or {}).items():
                if isinstance(tensor, Tensor) and name not in volatile:
                    yield f"{start}{name}", tensor
        inner = [(f"{start}{name}.", each)
                 for name, each in (attributes.get("_modules") or {}).items()
                 if isinstance(each, Inert)]
        if any(len(name) > LONGEST_NAME for name, _ in inner):
            break
        waiting += reversed(inner)
    raise ValueError(f"{shown(path)}: a network that contains itself, or of more than {MOST_PARTS} "
                     "parts; give its state_dict()")


def check_tensors(tensors: dict[str, Tensor], path: PathLike) -> None:
    """Refuses tensors that are not plain numbers in the file, each its own. Raises ValueError."""
    for name, tensor in tensors.items():
        if not (_is_line(name) and isinstance(tensor, Tensor)):
            raise ValueError(f"{shown(path)}: {shown(str(name)[:100])} is no tensor with a name")
        plain = tensor.layout == torch.strided and not tensor.is_quantized
        if not plain or tensor.device.type == "meta":
            kind = tensor.device.type if plain else str(tensor.layout)
        elif tensor.nbytes > tensor.untyped_storage().nbytes():
            kind = "repeated"
        else:
            continue
        raise ValueError(f"{shown(path)}: {shown(name)} is a {kind} tensor; plain ones are "
                         "expected")


def _is_list(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list | tuple) and len(value) <= MOST_CLASSES and all(map(each, value))


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME


def _is_number(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _are_colors(value: Any, above: float = -math.inf) -> bool:
    return _is_list(value, lambda x: type(x) in (int, float) and above < x < math.inf) and (
        len(value) == 3)


def _is_line(value: Any) -> bool:
    """A text that messages can be made of."""
    return _is_name(value) and value.isprintable()


def _is_json_object(text: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        return isinstance(json.loads(text), dict)
    return False


# What a checkpoint says of a network, part by part; the second ones may be left out.
_PARTS: tuple[dict[str, Callable[[Any], bool]], dict[str, Callable[[Any], bool]]] = ({
    "model": lambda value: isinstance(value, dict),
    "dataset": lambda value: isinstance(value, dict),
    "model.arch": _is_line,
    "model.num_classes": lambda value: _is_number(value, 0, MOST_CLASSES),
    "model.options": lambda value: isinstance(value, dict) and all(map(_is_line, value)) and (
        _are_colors(value.get("mean", [1] * 3)) and _are_colors(value.get("std", [1] * 3), 0)),
}, {
    "dataset.name": lambda value: value is None or _is_line(value),
    "dataset.class_names": lambda value: _is_list(value, _is_name),
    "dataset.class_map": lambda value: isinstance(value, dict) and all(
        _is_list(names, _is_name) for names in ([*value], [*value.values()])),
    "dataset.cv_split": lambda value: _is_number(value, 0, 2),
    "dataset.holdout_fraction": lambda value: isinstance(value, float) and 0 < value < 1,
    "dataset.palette": lambda value: _is_list(value, lambda color: _is_list(
        color, lambda part: _is_number(part, 0, 255)) and len(color) == 3),
    "dataset.bits": lambda value: type(value) is int and value in DEPTHS,
    "dataset.exif": lambda value: _is_name(value) and value in ("apply", "ignore"),
    "dataset.train_id_to_id": lambda value: _is_list(value, lambda i: _is_number(i, 0, 255)),
    "eval_size": lambda value: value is None or _is_number(value, 1, 1 << 16),
    "args": _is_json_object,
})


def check_about(about: Any, path: PathLike) -> None:
    """Refuses what no training says of a network: model, data set, options. Raises ValueError."""
    for needed, parts in zip((True, False), _PARTS, strict=True):
        for place, is_right in parts.items():
            *outer, last = place.split(".")
            part = about[outer[0]] if outer else about
            found = isinstance(part, dict) and last in part
            if not (is_right(part[last]) if found else not needed):
                raise _not_ours(path, place)
    dataset = about["dataset"]
    keys = "class_names", "palette", "train_id_to_id"
    lengths = {len(dataset.get(key, ())) for key in keys}
    if "palette" in dataset and lengths != {about["model"]["num_classes"]}:
        raise _not_ours(path, "dataset")


def _not_ours(path: PathLike, part: str) -> ValueError:
    return ValueError(f"{shown(path)}: {part} in it is not as train.py writes it; fetch or write "
                      "it again")


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors do: a length, and JSON of the tensors."""
    with open_patiently(path) as file:
        return file.read(10)[8:] == b'{"'


def load_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a file of safetensors. Raises ValueError."""
    try:
        return dict(safetensors.torch.load_file(path))
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path}: damaged ({reason(error)}); fetch it again") from None


def load_pickle(path: Path) -> Any:
    """What torch reads of a file of its own; of a path it would believe the suffix."""
    with open_patiently(path) as file:
        return torch.load(file, "cpu", weights_only=True)


def check_file(path: Path) -> None:
    """Refuses what is no whole file of PyTorch. Raises FileNotFoundError or ValueError."""
    if fault := _find_fault(path):
        raise ValueError(f"{path}: {fault}")


def open_patiently(path: Path) -> IO[bytes]:
    """A file on a disk that may be at the other end of a network."""
    return patiently(path, lambda: path.open("rb"))


def _find_danger(path: Path) -> str:
    """That loading a file would have called functions of the system, up to three named; or ""."""
    calls = sorted(filter(MALICIOUS.fullmatch, _find_imports(path)))[:3]
    return f"looks malicious: loading it would call {', '.join(calls)}; delete it" if calls else ""


def _find_fault(path: Path) -> str:
    """What is wrong with a file, found without unpickling; "" for nothing."""
    try:
        mode = patiently(path, path.stat).st_mode
        if not stat.S_ISREG(mode):  # to open a pipe would wait for its writer
            kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
            return f"{kind}; give a checkpoint (.pth)"
        with open_patiently(path) as file:
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
        with open_patiently(path) as file, zipfile.ZipFile(file) as archive:
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
        return f"cut off or damaged ({reason(error)}); fetch or write it again"
    return f"damaged (checksum of {broken[:100]!r}); fetch or write it again" if broken else ""


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
