"""Other programs that run an exported network: onnxruntime and OpenVINO, each in its own process.

Each gets the file with logits and the one with labels that export.py writes, and the faster counts.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from torch import nn

from benchmarks.timing import bf16_flags
from model.onnx_export import write_onnx

PACKAGES = {"onnxruntime, fp32": "onnxruntime", "OpenVINO, fp32": "openvino",
            "OpenVINO, bf16": "openvino"}
Run = Callable[[np.ndarray], np.ndarray]  # (1, 3, H, W) uint8 -> logits or labels
_works: list[Callable[[], np.ndarray]] = []  # in the process of `apart`: pixels to labels


def available() -> list[str]:
    """The names of those whose package is installed; in bf16 only where the CPU has it."""
    return [name for name, package in PACKAGES.items()
            if find_spec(package) and ("bf16" not in name or any(bf16_flags().values()))]


@contextmanager
def apart(
    name: str, network: nn.Module, images: np.ndarray, threads: int
) -> Iterator[tuple[Callable[[int], object], Callable[[], np.ndarray]]]:
    """What has an engine label images that it has already, and what gives the labels.

    Args:
        name: of `available`.
        network: in evaluation mode, on the CPU.
        images: (1, 3, H, W) uint8.
        threads: of the engine.
    """
    about = {"model": network.config, "dataset": {}}
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{labels}.onnx" for labels in (False, True)]
        for labels, path in enumerate(paths):
            write_onnx(network, about, path, bool(labels))
        with ProcessPoolExecutor(1, get_context("spawn"), _start,
                                 (name, paths, images, threads)) as pool:
            yield (lambda _: pool.submit(_label).result(),
                   lambda: pool.submit(_labels).result())


def _start(name: str, paths: list[Path], images: np.ndarray, threads: int) -> None:
    opened = _onnxruntime if PACKAGES[name] == "onnxruntime" else _openvino
    runs = [opened(path, images.shape, threads, name.rpartition(" ")[2]) for path in paths]
    works = [lambda: runs[0](images).argmax(1).astype(np.uint8), lambda: runs[1](images)]
    seconds = [median(_seconds(work) for _ in range(4)) for work in works]
    _works.append(works[seconds.index(min(seconds))])


def _onnxruntime(path: Path, shape: tuple[int, ...], threads: int, precision: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})[0]


def _openvino(path: Path, shape: tuple[int, ...], threads: int, precision: str) -> Run:
    import openvino

    core = openvino.Core()
    network = core.read_model(str(path))
    network.reshape(list(shape))
    compiled = core.compile_model(network, "CPU", {
        "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision)})
    return lambda images: compiled(images)[0]


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _label() -> None:
    _works[0]()


def _labels() -> np.ndarray:
    return _works[0]()
