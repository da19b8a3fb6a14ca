"""Forwards compiled ahead of time for the sizes that come, on a CPU; kept between runs."""

import hashlib
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter, time
from typing import Any

import torch
from torch import Tensor, nn

from utils import distributed
from utils.files import reason, replacing
from utils.inference.multiscale import as_input
from utils.precision import autocast, processor_facts, time_by_turns

NETWORKS = Path(__file__).parents[2] / "model"  # whose code a compiled forward is of
FOLDER = Path(".cache/streetseg/compiled")  # in the user's home
ROOM = 2 << 30  # bytes of all that is kept; what was used longest ago goes
PAYS = 300.0  # seconds of forwards: to compile takes 20 to 50 s, and saves a tenth to a half
ABANDONED = 86_400  # seconds; no compiler works as long
FEWEST = 200  # images, for which it is worth to find out how fast they are both ways
GAIN = 1.03  # times as fast is what a compiled forward has to be
# Part of the largest logit that another order of operations may change on average, of noise (of
# SGCPNet with random weights 1.1e-4); and how many times what bf16 changes (seen: 0.3 to 1.0).
FAR, ROUNDED = 3e-4, 1.3

Forward = Callable[[Tensor], Tensor]  # (N, 3, H, W) uint8 -> coarse logits
Shape = tuple[int, ...]


class Eager(nn.Module):
    """A network's coarse forward in one precision."""

    def __init__(self, network: nn.Module, precision: str) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> coarse logits."""
        with autocast(images.device, self.precision):
            return self.network(images, full_size=False)


class CompiledForwards:
    """A coarse forward that is compiled for some sizes and as it is for the others.

    By torch.export and AOTInductor, the weights as constants. A compiled forward is a file in the
    user's own folder, for one network with its code, weights, size, precision, number of threads,
    CPU and PyTorch. It is compared with the forward as it is before it is kept.

    Args:
        network: on the CPU, in evaluation mode.
        precision: fp32 or bf16.
        every: whether a size is compiled when it comes first.
    """

    def __init__(self, network: nn.Module, precision: str, every: bool = False) -> None:
        self.eager, self.every = Eager(network, precision).eval(), every
        self.known: dict[Shape, Forward] = {}
        packages = {type(each).__module__.partition(".")[0] for each in self.eager.modules()}
        versions = [(each, getattr(sys.modules.get(each), "__version__", ""))
                    for each in sorted(packages)]
        facts = [processor_facts(), versions, torch.get_num_threads(), precision,
                 getattr(network, "config", None)]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for file in sorted(NETWORKS.rglob("*.py")):
            digest.update(file.read_bytes())
        for name, tensor in network.state_dict().items():
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        self.digest = digest.hexdigest()

    def __call__(self, images: Tensor) -> Tensor:
        """Coarse logits of (N, 3, H, W) uint8."""
        shape = tuple(images.shape)
        if self.every and shape not in self.known:
            self.known[shape] = self.eager
            self.prepare(shape)
        forward = self.known.get(shape, self.eager)
        return forward(images.contiguous(memory_format=torch.channels_last))

    def path(self, shape: Shape) -> Path:
        """The file of a size."""
        key = hashlib.sha256(f"{self.digest} {shape}".encode()).hexdigest()[:32]
        return Path.home() / FOLDER / f"{key}.pt2"

    def prepare(self, shape: Shape) -> str:
        """Has a compiled forward for a size, said in a line; why not, if there is none."""
        path, start = self.path(shape), perf_counter()
        fault = ""
        try:
            own_folder()
            if path.is_file():
                with suppress(RuntimeError, OSError, ValueError):  # damaged: made anew
                    self.known[shape] = _load(path)
                    path.touch()  # used now
                    return ""
            forward = self._compile(shape, path)
            distributed.say(f"compiled for {shape[3]}x{shape[2]} in {perf_counter() - start:.0f} "
                            f"s, kept in ~/{FOLDER}")
            self.known[shape] = forward
            _make_room(path)
        except Exception as error:  # of a compiler, in whatever state it is
            fault = f"not compiled: {reason(error)[:200]}"
            if self.every:
                distributed.say(fault)
        return fault

    def _compile(self, shape: Shape, path: Path) -> Forward:
        """Writes the file of a size. Raises RuntimeError, OSError, ...: none there, or it fails."""
        if not find_compiler():
            raise RuntimeError("there is no C++ compiler (g++ or clang++)")
        images = draw(shape)
        with _quietly(path.parent) as place, torch.inference_mode(False), torch.no_grad():
            program = torch.export.export(self.eager, (images,))
            made = torch._inductor.aoti_compile_and_package(
                program, package_path=f"{place}/forward.pt2",
                inductor_configs={"freezing": True, "compile_threads": 1})
            forward = _load(Path(made))
            exact, expected = Eager(self.eager.network, "fp32")(images), self.eager(images).float()
            largest = expected.abs().max().clamp(min=1e-12)
            rounded, far = (float((other.float() - expected).abs().mean() / largest)
                            for other in (exact, forward(images)))
            if not far <= FAR + ROUNDED * rounded:
                raise RuntimeError(f"the compiled forward differs by {far:.1e} of the largest "
                                   "logit on average")
            with replacing(path, durable=False) as part:
                shutil.copyfile(made, part)
        return forward


def compile_where_it_pays(predictor: Any, wanted: bool | None, workload: Any) -> Any:
    """The predictor, with compiled forwards where they pay; the main rank decides.

    Args:
        predictor: as of `utils.inference.predictor`.
        wanted: True for every size that comes, False for none; None, on a CPU, for that of the
            workload, if its images are many, faster so, and compiled already or soon enough.
        workload: size of the first image, and how many there are.

    Raises ValueError: wanted of an ONNX file.
    """
    network, on_cpu = predictor.network, predictor.device.type == "cpu"
    exported = not sum(each.numel() for each in network.parameters())
    if wanted and exported:
        raise ValueError("--compile: an ONNX file is run by onnxruntime; leave it out")
    if wanted and not on_cpu:
        network.compile(dynamic=False, options={"freezing": True})
    many = all(workload.size) and (workload.images or 0) >= FEWEST
    asked = wanted or (wanted is None and many)  # else not a byte of the weights is looked at
    if not asked or not on_cpu or exported or predictor.precision == "fp16":
        return predictor
    forwards = CompiledForwards(network, predictor.precision, bool(wanted))
    if wanted:
        return replace(predictor, forward=forwards)
    own = _choose(predictor, forwards, workload) if distributed.rank() == 0 else None
    shapes, why = distributed.gather(own, patiently=True)[0]
    distributed.say(why)
    for shape in shapes:
        if shape not in forwards.known:  # as on the main rank
            forwards.prepare(shape)
    return replace(predictor, forward=forwards) if forwards.known else predictor


def _choose(predictor: Any, forwards: CompiledForwards, workload: Any) -> tuple[list[Shape], str]:
    """The sizes of batches that have a compiled forward now, and why these, in words."""
    try:
        own_folder()
    except (OSError, RuntimeError) as error:  # no home, or one that cannot be written
        return [], f"not compiled: {reason(error)}"
    pixels = draw((1, 3, *workload.size))[0].permute(1, 2, 0)
    shapes = _shapes(predictor, pixels)
    if missing := sum(not forwards.path(shape).is_file() for shape in shapes):
        seconds = time_by_turns({"eager": partial(predictor, pixels)})["eager"]
        if seconds * workload.images < PAYS * missing:
            least = round(PAYS * missing / seconds, -2)
            return [], (f"not compiled: with {1000 * seconds:.0f} ms an image it pays from "
                        f"{least:,.0f} images (--compile)")
    for shape in shapes:
        if fault := forwards.prepare(shape):
            return [], fault
    timed = time_by_turns({"eager": partial(predictor, pixels),
                           "compiled": partial(replace(predictor, forward=forwards), pixels)})
    gain = timed["eager"] / timed["compiled"]  # here and now: other programs may change it
    if gain < GAIN:
        forwards.known.clear()
        shapes = []
    return shapes, f"{'not ' * (not shapes)}compiled: it is {gain:.2f} times as fast on this CPU"


def _shapes(predictor: Any, pixels: Tensor) -> list[Shape]:
    """Of the batches that the network gets of an image, (H, W, 3) uint8."""
    if predictor.inference.plain:
        return [tuple(as_input(pixels).shape)]
    shapes = set()
    eager = Eager(predictor.network, predictor.precision)

    def see(batch: Tensor) -> Tensor:
        shapes.add(tuple(batch.shape))
        return eager(batch)

    replace(predictor, forward=see)(pixels)
    return sorted(shapes)


def draw(shape: Shape) -> Tensor:
    """(N, 3, H, W) uint8 noise, channels last."""
    pixels = torch.randint(256, (shape[0], *shape[2:], 3), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    return pixels.permute(0, 3, 1, 2)


def find_compiler() -> str | None:
    """The C++ compiler that PyTorch would take."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "g++", "clang++"))),
                None)


def own_folder() -> Path:
    """Where compiled forwards are kept: nobody else may write there, since it is code.

    Raises OSError: it is another user's, or open to others.
    """
    folder = Path.home() / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.lstat()
    if hasattr(os, "getuid") and (facts.st_uid != os.getuid() or facts.st_mode & 0o22):
        raise OSError(f"{folder} is not yours alone: others could put code there; chmod 700 it")
    return folder


def _load(path: Path) -> Forward:
    """The forward in a file, by the loader below aoti_load_package, whose import takes 6 s."""
    loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    return lambda images: loader.run([images])[0]


def _make_room(newest: Path) -> None:
    """Removes what killed processes left, and what was used longest ago until the rest has room."""
    with suppress(OSError):
        for left in newest.parent.glob(".making-*"):
            if time() - left.stat().st_mtime > ABANDONED:
                shutil.rmtree(left)
        files = sorted(newest.parent.glob("*.pt2"), key=lambda file: -file.stat().st_mtime)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > ROOM and file != newest:
                file.unlink()


@contextmanager
def _quietly(folder: Path) -> Iterator[str]:
    """A folder for what a compiler leaves behind, which goes; and no warnings of libraries."""
    name, level = "TORCHINDUCTOR_CACHE_DIR", logging.root.manager.disable
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as place:
        os.environ[name] = place
        logging.disable(logging.WARNING)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield place
        finally:
            logging.disable(level)
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before
