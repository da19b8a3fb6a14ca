"""Tensors of files that pickle whole networks, read without running anything that is in them.

Every class and function that a file asks for becomes an empty class that only keeps what it is
given. Tensors are cut out of the stored bytes here, with their bounds checked, not by torch.
"""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "UntypedStorage": torch.uint8,
}
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in set(STORAGES.values())}


class Inert:
    """Stands for an object of any class: keeps its attributes, does nothing."""

    def __init__(self, *args: Any, **words: Any) -> None:
        self.args = args

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})

    def ignore(self, *args: Any) -> None:
        """What is put into a container of an unknown kind is left out."""

    __setitem__ = append = extend = add = ignore


@dataclass(frozen=True)
class Storage:
    """The bytes of one or several tensors in a file."""

    key: str
    dtype: torch.dtype


@dataclass(frozen=True)
class Stored:
    """A tensor that was not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype

    def cut(self, data: bytes | bytearray) -> Tensor:
        """The tensor; ValueError if it reaches beyond its storage."""
        whole = torch.frombuffer(bytearray(data), dtype=self.dtype) if data else torch.empty(0)
        last = self.offset + sum((n - 1) * step for n, step in
                                 zip(self.size, self.stride, strict=True))
        if 0 in self.size:
            return torch.empty(self.size, dtype=self.dtype)
        if min((self.offset, *self.size, *self.stride)) < 0 or last >= len(whole):
            raise ValueError("a tensor reaches beyond what is stored of it")
        return whole.as_strided(self.size, self.stride, self.offset).clone()


def _rebuild(storage: Any, offset: int, size: Any, stride: Any, *rest: Any) -> Stored:
    dtype = next((each for each in rest if isinstance(each, torch.dtype)), storage.dtype)
    return Stored(storage, int(offset), tuple(size), tuple(stride), dtype)


def _parameter(data: Any, *rest: Any) -> Any:
    return data


SAFE: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "__builtin__.set": set,
    "torch.Size": tuple,
    "torch._utils._rebuild_tensor": _rebuild,
    "torch._utils._rebuild_tensor_v2": _rebuild,
    "torch._utils._rebuild_tensor_v3": _rebuild,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}


class StubUnpickler(pickle.Unpickler):
    """Knows tensors and dictionaries; all else is Inert."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.dtypes: dict[str, torch.dtype] = {}  # of the storages that were asked for

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if module in ("torch", "torch.storage") and name in STORAGES:
            return type(name, (Inert,), {"dtype": STORAGES[name]})
        if known := SAFE.get(f"{module}.{name}"):
            return known
        return type(name, (Inert,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Any:
        kind, what, *rest = pid
        if kind == "module":  # a class and its source, of the format before torch 1.6
            return what
        if kind != "storage":
            raise ValueError(f"stores a {kind!r}, which PyTorch does not write")
        storage = Storage(str(rest[0]), what.dtype)
        self.dtypes[storage.key] = storage.dtype
        return storage


def read(path: Path) -> tuple[Any, Callable[[Stored], Tensor]]:
    """What a checkpoint holds, and a function that reads one of its tensors.

    Raises:
        ValueError: not a pickle of PyTorch, or damaged.
    """
    try:
        if not zipfile.is_zipfile(path):
            return _read_legacy(path)
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.endswith("data.pkl"))
            with archive.open(name) as file:
                content = StubUnpickler(file).load()
    except Exception as error:  # an unpickler raises anything on damaged files
        raise ValueError(f"{path}: cannot be read as a pickle of PyTorch ({error})") from None
    folder = name.removesuffix("data.pkl")

    def fetch(stored: Stored) -> Tensor:
        with zipfile.ZipFile(path) as archive:
            return stored.cut(archive.read(f"{folder}data/{stored.storage.key}"))

    return content, fetch


def _read_legacy(path: Path) -> tuple[Any, Callable[[Stored], Tensor]]:
    """The format before torch 1.6: a row of pickles, then the storages one after the other."""
    with path.open("rb") as file:
        for _ in range(3):  # magic number, version, sizes of integers
            StubUnpickler(file).load()
        unpickler = StubUnpickler(file)
        content = unpickler.load()
        keys = StubUnpickler(file).load()
        places = {str(key): _skip_storage(file, unpickler.dtypes[str(key)]) for key in keys}

    def fetch(stored: Stored) -> Tensor:
        start, length = places[stored.storage.key]
        with path.open("rb") as file:
            file.seek(start)
            return stored.cut(file.read(length))

    return content, fetch


def _skip_storage(file: IO[bytes], dtype: torch.dtype) -> tuple[int, int]:
    """Where the next storage is, and its bytes; goes behind it."""
    count, = struct.unpack("<q", file.read(8))
    start, length = file.tell(), count * dtype.itemsize
    file.seek(length, 1)
    return start, length


def tensors_of(network: Inert) -> Iterator[tuple[str, Stored]]:
    """Names and tensors of a pickled network, as its `state_dict()` would name them."""
    attributes = vars(network)
    volatile = attributes.get("_non_persistent_buffers_set", ())
    for kind in ("_parameters", "_buffers"):
        for name, stored in (attributes.get(kind) or {}).items():
            if isinstance(stored, Stored) and name not in volatile:
                yield name, stored
    for name, part in (attributes.get("_modules") or {}).items():
        if isinstance(part, Inert):
            for inner, stored in tensors_of(part):
                yield f"{name}.{inner}", stored


def is_network(value: Any) -> bool:
    """Whether an object was a network."""
    return isinstance(value, Inert) and {"_parameters", "_modules"} <= vars(value).keys()
