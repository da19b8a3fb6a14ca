"""What another busy process on each core costs: ours beside onnxruntime, in one run.

  python -m benchmarks.shared_machine [--arch sgcpnet] [--size 512 1024]

An image from pixels to labels as demo_folder.py has it and as it is not compiled, a training step,
and the relaxed loss of a crop, each in a process of its own; and the exported network by
onnxruntime, if installed. Rounds with and without the load alternate. The load ends by itself.
"""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks import engines, train_step
from benchmarks.latency import ENGINE, MANY, build_random
from benchmarks.loss import OURS, losses
from benchmarks.relaxation import CLASSES, street_target
from benchmarks.timing import machine
from latency import draw
from model import MODELS
from model.snapshot import open_predictor
from utils import distributed
from utils.inference.predictor import Workload
from utils.options.parser import Parser, positive
from utils.processes import count_cores
from utils.stopping import run

SETTLE = 3.0  # seconds after which the watch of the cores has noticed the load, or its end
LONGEST = 60.0  # seconds of a load, whatever becomes of this process
TURN = 1.5  # seconds of calls


def spin(until: float) -> None:
    """Keeps a core busy."""
    while time.time() < until:
        sum(range(10_000))


@contextmanager
def load(processes: int) -> Iterator[None]:
    """So many busy processes."""
    busy = [multiprocessing.get_context("spawn").Process(
        target=spin, args=(time.time() + LONGEST,), daemon=True) for _ in range(processes)]
    for each in busy:
        each.start()
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.join()


_works: list[Callable[[], object]] = []  # in the process of `apart`


def _start(kind: str, snapshot: dict[str, Any], size: tuple[int, int]) -> None:
    distributed.start("cpu")
    if kind == "loss":
        target = street_target(min(size))
        _works.append(losses(torch.randn(1, CLASSES, min(size), min(size)), target)[OURS])
    elif kind == "step":
        arch = snapshot["model"]["arch"]
        case = train_step.CASES.get(arch, train_step.Case())
        _works.append(train_step.our_step(arch, case, "fp32"))
    else:
        predictor = open_predictor(snapshot, "cpu", "fp32", workload=Workload(size, MANY),
                                   compiled=None if kind == "default" else False)
        images = draw(1, size)
        _works.append(lambda: predictor.label_maps(images))


def _call() -> None:
    _works[0]()


@contextmanager
def apart(*given: Any) -> Iterator[Callable[[], object]]:
    """A work in a process of its own, `given` as of `_start`."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start, given) as pool:
        pool.submit(_call).result()
        yield lambda: pool.submit(_call).result()


def seconds_of(work: Callable[[], object]) -> float:
    """Of a call, on average over a turn that first lets the cores settle."""
    end = time.perf_counter() + SETTLE
    while time.perf_counter() < end:
        work()
    calls, start = 0, time.perf_counter()
    while not calls or time.perf_counter() < start + TURN:
        work()
        calls += 1
    return (time.perf_counter() - start) / calls


def main() -> None:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.shared_machine"
    parser.add_argument("--arch", default="sgcpnet", choices=tuple(MODELS), help="network")
    parser.add_argument("--size", type=positive, nargs=2, default=(512, 1024), metavar=("H", "W"),
                        help="pixels of the image")
    parser.add_argument("--rounds", type=positive, default=3, help="turns with and without load")
    args = parser.parse_args()
    distributed.start("cpu")
    size, cores = tuple(args.size), count_cores()
    network = build_random(args.arch)
    snapshot = {"model": network.config, "weights": network.state_dict()}
    kinds = {"label map, as demo_folder.py has it": "default", "label map, not compiled": "eager",
             "training step": "step", "relaxed loss, with gradient": "loss"}
    with ExitStack() as stack:
        works = {name: stack.enter_context(apart(kind, snapshot, size))
                 for name, kind in kinds.items()}
        if ENGINE in engines.available():
            label, _ = stack.enter_context(engines.apart(
                ENGINE, network, np.ascontiguousarray(draw(1, size).numpy()), cores))
            works[f"label map, {ENGINE}"] = lambda: label(0)
        quiet: dict[str, list[float]] = {name: [] for name in works}
        loaded: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(args.rounds):
            for name, work in works.items():
                quiet[name].append(seconds_of(work))
                with load(cores):
                    loaded[name].append(seconds_of(work))
    print(f"{args.arch}, {size[1]}x{size[0]}, {cores} busy processes; {machine()}")
    for name in works:
        before, after = median(quiet[name]), median(loaded[name])
        print(f"{name:36s}{1000 * before:9.1f} ms  beside others {1000 * after:9.1f} ms  "
              f"{after / before:6.2f} times as long")


if __name__ == "__main__":
    run(main)
