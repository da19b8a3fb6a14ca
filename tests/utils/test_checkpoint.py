"""Reading a checkpoint runs no code and names what is wrong; writing one loses nothing."""

import argparse
import errno
import io
import os
import pickle
import resource
import sys
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from utils import checkpoint, files

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
WEIGHTS = NETWORK.state_dict()
MARKER = "marker-of-a-payload"


class Local(nn.Module):
    """A class that a reader of its pickle cannot import."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)


class Payload:
    """Its pickle calls a function."""

    def __init__(self, function: Callable, *args: object) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple:
        return self.call


def saved(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def legacy(content: object) -> bytes:
    return saved(content, _use_new_zipfile_serialization=False)


def flipped() -> bytes:
    """One bit of a weight."""
    data = bytearray(saved(WEIGHTS))
    data[data.index(WEIGHTS["0.weight"].numpy().tobytes()) + 5] ^= 1
    return bytes(data)


def rezipped(archive: bytes, compression: int = zipfile.ZIP_STORED, **replaced: bytes) -> bytes:
    """An archive written anew, with some members replaced."""
    old, buffer = zipfile.ZipFile(io.BytesIO(archive)), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as new:
        for member in old.namelist():
            new.writestr(member, replaced.get(Path(member).stem, old.read(member)))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, weights=np.zeros(3))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.jit.save(torch.jit.script(NETWORK), buffer)
        except Exception as error:  # deprecated: it may go
            pytest.skip(str(error))
    return buffer.getvalue()


SYSTEM = Payload(os.system, f"touch {MARKER}")
EVAL = Payload(eval, f"open({MARKER!r}, 'w')")
PRINT = Payload(print, "harmless")
REFUSED = {
    "empty": (lambda: b"", "an empty file; fetch or write it again"),
    "one byte": (lambda: b"P", "damaged, or not a checkpoint of PyTorch; fetch or"),
    "text": (lambda: b"cats\ndogs\n", "damaged, or not a checkpoint of PyTorch; fetch or"),
    "noise": (lambda: np.random.default_rng(0).bytes(3000), "damaged, or not a checkpoint of Py"),
    "html": (lambda: b"\n <!DOCTYPE html><p>Quota exceeded", "a web page: the download of a chec"),
    "half": (lambda: saved(WEIGHTS)[: len(saved(WEIGHTS)) // 2], "cut off or damaged"),
    "no end": (lambda: saved(WEIGHTS)[:-1], "cut off or damaged"),
    "half legacy": (lambda: legacy(WEIGHTS)[: len(legacy(WEIGHTS)) // 2], "damaged, or not a"),
    "flipped bit": (flipped, "damaged (checksum of '"),
    "npz": (npz, "an archive, but not a checkpoint of PyTorch"),
    "TorchScript": (torchscript, "a TorchScript program; a checkpoint (.pth) is expected"),
    "safetensors": (lambda: (64).to_bytes(8, "little") + b'{"__metadata__":{}}',
                    "damaged (Error while deserializing header"),
    "compressed": (lambda: rezipped(saved(WEIGHTS), zipfile.ZIP_DEFLATED), "compressed, which Py"),
    "wrong content": (lambda: rezipped(saved(WEIGHTS), data=b"nonsense"), "damaged, or not a chec"),
    "no storage": (lambda: rezipped(saved(WEIGHTS), **{"0": b""}), "damaged, or not a checkpoint"),
    "tensor": (lambda: saved(torch.zeros(3)), "holds a Tensor; a state dict is expected"),
    "list": (lambda: saved([1, 2]), "holds a list; a state dict is expected"),
    "module": (lambda: saved(NETWORK), "stores Python objects (torch.nn.modules.batchnorm.Batch"),
    "legacy module": (lambda: legacy(NETWORK), "stores Python objects (torch.nn.modules.batchno"),
    "module inside": (lambda: saved({"net": Local()}), "stores Python objects (test_checkpoint.Lo"),
    "path inside": (lambda: saved({"file": Path("x")}), "stores Python objects (pathlib.PosixPath"),
    "system": (lambda: saved({"weights": WEIGHTS, "x": SYSTEM}), "looks malicious: loading it wou"),
    "legacy system": (lambda: legacy(SYSTEM), "looks malicious: loading it would call posix.sys"),
    "raw system": (lambda: pickle.dumps(SYSTEM, 4), "looks malicious: loading it would call posix"),
    "old raw system": (lambda: pickle.dumps(SYSTEM, 0), "looks malicious: loading it would call "),
    "eval": (lambda: saved(EVAL), "looks malicious: loading it would call __builtin__.eval; dele"),
    "legacy eval": (lambda: legacy([EVAL]), "looks malicious: loading it would call __builtin__.e"),
    "raw eval": (lambda: pickle.dumps(EVAL, 4), "looks malicious: loading it would call builtins."),
    "remembered names": (lambda: pickle.dumps(["builtins", "eval", EVAL], 4), "looks malicious"),
    "print": (lambda: saved(PRINT), "stores Python objects (__builtin__.print), not only weights"),
    "terminal codes": (lambda: pickle.dumps(Payload(print), 4).replace(
        b"\x8c\x05print", b"\x8c\x05\x1b[2J\n"), r"stores Python objects (builtins.\x1b[2J\n)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                 recwarn: pytest.WarningsRecorder) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = REFUSED[name]
    path = tmp_path / "a b.pth"
    path.write_bytes(make())
    recwarn.clear()
    with pytest.raises(ValueError, match="^") as caught:
        checkpoint.read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: {message}")
    assert text.isprintable()  # one line
    assert "weights_only" not in text
    assert "safe_globals" not in text
    assert not recwarn.list
    assert not Path(MARKER).exists()


def test_payloads_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no marker would prove nothing."""
    monkeypatch.chdir(tmp_path)
    for payload in (SYSTEM, EVAL):
        pickle.loads(pickle.dumps(payload))
        Path(MARKER).unlink()


def test_torch_alone_loads_a_flipped_bit(tmp_path: Path) -> None:
    """If this fails, torch checks the sums by itself and our check can go."""
    (tmp_path / "a.pth").write_bytes(flipped())
    loaded = torch.load(tmp_path / "a.pth", weights_only=True)
    assert not torch.equal(loaded["0.weight"], WEIGHTS["0.weight"])


def test_files_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for missing in (tmp_path / "x.pth", tmp_path / "file" / "x.pth"):
        with pytest.raises(FileNotFoundError, match="no such checkpoint"):
            checkpoint.read(missing)
    with pytest.raises(ValueError, match=r": a folder; give a checkpoint \(.pth\)"):
        checkpoint.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=": not a regular file; give a checkpoint"):
        checkpoint.read(tmp_path / "pipe")  # and does not wait for a writer
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(ValueError, match=r"cannot be read \(Too many levels of symbolic links\)"):
        checkpoint.read(tmp_path / "loop")

    def deny(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", deny)
    with pytest.raises(ValueError, match=r"file: cannot be read \(Permission denied\)"):
        checkpoint.read(tmp_path / "file")


PREFIXED = {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}
PUBLISHED = {
    "state_dict": PREFIXED, "mean_iu": np.float64(0.7), "epoch": 3, "command": "train.py",
    "best": np.float32(0.5), "args": argparse.Namespace(arch="x", sizes=[1, 2]),
    "history": np.arange(3.0),
}


@pytest.mark.parametrize("save", [saved, legacy])
@pytest.mark.parametrize("content", [
    WEIGHTS, dict(WEIGHTS), PUBLISHED, {"net": {"model": PREFIXED}},
    {"model": {"arch": "x", "options": {}}, "weights": WEIGHTS, "optimizer": None},
    {"model_state": WEIGHTS}, {"ema": WEIGHTS},
    {f"_orig_mod.module.{name}": tensor for name, tensor in WEIGHTS.items()},
    {f"module._orig_mod.{name}": tensor for name, tensor in WEIGHTS.items()},
    {name: nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
     for name, tensor in WEIGHTS.items()},
], ids=lambda content: next(iter(content)))
def test_state_dict(save: Callable, content: dict, tmp_path: Path) -> None:
    path = tmp_path / "a.pth.tar"
    path.write_bytes(save(content))
    weights = checkpoint.state_dict(checkpoint.read(path), path)
    assert list(weights) == list(WEIGHTS)
    for name, tensor in weights.items():
        assert torch.equal(tensor, WEIGHTS[name])
        assert not tensor.requires_grad


def test_numbers_of_old_numpy(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    data = saved({"state_dict": WEIGHTS, "mean_iu": np.float64(0.5)})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        member = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        pickled = archive.read(member)
    assert b"numpy._core" in pickled
    path.write_bytes(rezipped(data, data=pickled.replace(b"numpy._core", b"numpy.core")))
    assert checkpoint.read(path)["mean_iu"] == 0.5


def test_mixed_prefixes_stay() -> None:
    weights = {"module.a": torch.zeros(1), "b": torch.zeros(1)}
    assert list(checkpoint.state_dict(weights, "x")) == ["module.a", "b"]


def test_no_named_tensors() -> None:
    ring: dict = {"epoch": 1}
    ring["model"] = ring
    for content in ({}, {"epoch": 1}, {"state_dict": {}}, {"model": {"a": 1}}, {1: torch.ones(1)},
                    ring):
        with pytest.raises(ValueError, match="x.pth: holds no named tensors; a state dict is"):
            checkpoint.state_dict(content, "x.pth")


def new(value: float = 2.0) -> dict:
    return {"weights": {"a": torch.full((50_000,), value)}, "step": 2}


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "last.pth"
    checkpoint.write(path, {"weights": OrderedDict(a=torch.ones(50_000)), "step": 1})
    return path


def test_written_and_read(old: Path) -> None:
    checkpoint.write(old, new())
    assert checkpoint.read(old)["step"] == 2
    assert torch.equal(torch.load(old, weights_only=True)["weights"]["a"], new()["weights"]["a"])
    assert os.listdir(old.parent) == ["last.pth"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_weights_are_not_written(value: float, old: Path) -> None:
    before = old.read_bytes()
    content = new()
    content["weights"]["a"][77] = value
    with pytest.raises(FloatingPointError, match=r"last.pth: not written: a is not finite"):
        checkpoint.write(old, content)
    assert old.read_bytes() == before
    assert os.listdir(old.parent) == ["last.pth"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_full_disk(call: str, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = old.read_bytes()
    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"last.pth: not written \(No space .*\); it needs 1 MB$"
                       ) as caught:
        checkpoint.write(old, new())
    assert caught.value.errno == errno.ENOSPC
    assert old.read_bytes() == before
    assert os.listdir(old.parent) == ["last.pth"]


def test_order_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data reach the disk before their name does, and the name before write() returns."""
    calls = []
    fsync, replace = os.fsync, os.replace

    def see_fsync(descriptor: int) -> None:
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        calls.append(("fsync", "folder" if Path(name).is_dir() else os.stat(descriptor).st_size))
        fsync(descriptor)

    def see_replace(source: Path, target: Path) -> None:
        calls.append(("replace", source.stat().st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", see_fsync)
    monkeypatch.setattr(os, "replace", see_replace)
    files.write_file(tmp_path / "x", b"0123456789" * 100_000)
    assert calls == [("fsync", 1_000_000), ("replace", 1_000_000), ("fsync", "folder")]


def in_fork(act: Callable[[], None]) -> int:
    """Exit code of a child process that does it. No torch operation may come before fork."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except OSError as error:
            print(error.strerror, file=sys.stderr, flush=True)
            os._exit(3)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize(("call", "whole"), [("fsync", "old"), ("replace", "old"), ("open", "new")])
def test_killed_while_writing(call: str, whole: str, tmp_path: Path) -> None:
    """`open` is that of the folder, after the rename."""
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write_and_die() -> None:
        setattr(os, call, lambda *_: os.kill(os.getpid(), 9))
        files.write_file(path, b"new")

    assert in_fork(write_and_die) == -9
    assert path.read_bytes() == whole.encode()


def test_limit_on_file_sizes(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def write_too_much() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
        files.write_file(path, bytes(2_500_000))

    assert in_fork(write_too_much) == 3
    assert capfd.readouterr().err == f"{path}: not written (File too large); it needs 3 MB\n"
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
