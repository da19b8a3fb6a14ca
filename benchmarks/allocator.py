"""Steps of a training on the CPU with freed memory kept, beside glibc's default.

  python -m benchmarks.allocator [--arch cspsg_s] [--batch-size 8] [--crop-size 128 128]

Each side is a process of its own, in turns, because what is set cannot be taken back. A page fault
is a page of 4 kB that the kernel has to map and fill with zeros.
"""

import argparse
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context

import torch
from torch import Tensor

from benchmarks.memory import CLASSES, draw
from benchmarks.timing import table, take_turns
from model import MODELS, build_model
from model.loss import cross_entropy
from utils import options
from utils.allocator import keep_freed_memory
from utils.optimization import build_optimizer
from utils.precision import autocast

DEFAULT, OURS = "default", "kept"


class Training:
    """A network, its optimizer, and one batch."""

    def __init__(self, args: argparse.Namespace) -> None:
        device = torch.device("cpu")
        self._autocast = partial(autocast, device, args.precision)
        network = build_model(args.arch, CLASSES).to(memory_format=torch.channels_last)
        self._network = network.train()
        self._optimizer = build_optimizer("adamw", [{"params": network.parameters()}], 0.9)
        self._batch: tuple[Tensor, Tensor] = draw(args.batch_size, args.crop_size, device)

    def step(self) -> None:
        """Forward, backward, update."""
        images, target = self._batch
        with self._autocast():
            logits = self._network(images)
        cross_entropy(logits, target).backward()
        self._optimizer.step()
        self._optimizer.zero_grad()


_training: list[Training] = []  # of a process


def start(args: argparse.Namespace, kept: bool) -> None:
    """In a new process."""
    torch.set_num_threads(args.threads or torch.get_num_threads())
    if kept and not keep_freed_memory():
        raise ValueError("this C library is not glibc: there is nothing to compare")
    _training.append(Training(args))


def step(_: int) -> tuple[int, int]:
    """A step; page faults in it, and the most memory so far, in kB."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    _training[0].step()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_minflt - before.ru_minflt, after.ru_maxrss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cspsg_s", choices=tuple(MODELS), help="network")
    parser.add_argument("--batch-size", type=options.positive, default=8, help="crops of a step")
    parser.add_argument("--crop-size", type=options.positive, nargs=2, default=(128, 128),
                        metavar=("H", "W"), help="pixels of a crop")
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"),
                        help="of the forward")
    parser.add_argument("--rounds", type=options.positive, default=15, help="turns of each side")
    parser.add_argument("--threads", type=options.positive, help="default: all cores")
    args = parser.parse_args()
    seen: dict[str, tuple[int, int]] = {}
    spawn = get_context("spawn")
    with ExitStack() as stack:
        def side(name: str) -> Callable[[int], object]:
            pool = stack.enter_context(
                ProcessPoolExecutor(1, spawn, start, (args, name == OURS)))
            return lambda number: seen.update({name: pool.submit(step, number).result()})

        times = take_turns({name: side(name) for name in (DEFAULT, OURS)}, args.rounds)
    print(f"{args.arch}, {args.batch_size} crops of {args.crop_size[0]}x{args.crop_size[1]}")
    print(table(times, "steps", {DEFAULT: DEFAULT}))
    for name, (faults, most) in seen.items():
        print(f"{name}: {faults} page faults in the last step, {most / 1024:.0f} MB at the most")


if __name__ == "__main__":
    main()
