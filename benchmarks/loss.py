"""Label relaxation beside the published way and torch's cross entropy: seconds and memory.

examples:
  python -m benchmarks.loss
  python -m benchmarks.loss --size 512 --threads 1

From the train ids of streets and random logits. `target` is what is made of the train ids:
published, a mask per class of every shift by scipy.ndimage. `loss` is forward and backward of
logits that need a gradient, ours with its target, the published one without. Each memory figure is
from a fresh process: how far it grows above what it holds before. All are warmed up, and medians of
turns count; with one thread, seconds are the processor's, which other programs do not lengthen.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.relaxation import CLASSES, published_loss, relax, street_target
from benchmarks.timing import Times, machine, ratio, resident, take_turns
from model.losses.label_relaxation import class_sets, label_relaxation
from utils.labels import IGNORE
from utils.options.parser import Parser, positive
from utils.stopping import run

PUBLISHED, OURS, PLAIN = "published", "ours", "cross entropy"
Work = dict[str, Callable[[], Tensor]]


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.loss"
    parser.add_argument("--size", type=positive, default=896, metavar="PIXELS",
                        help="side of the crop")
    parser.add_argument("--rounds", type=positive, default=9, metavar="N",
                        help="turns of each alternative, of which the median counts")
    parser.add_argument("--threads", type=positive, metavar="N",
                        help="that compute (default: as many as torch takes)")
    parser.add_argument("--memory-of", choices=(PUBLISHED, OURS, PLAIN),
                        help="only measure what this loss needs, in bytes")
    return parser.parse_args()


def targets(target: Tensor) -> Work:
    """Name -> makes what its loss needs of train ids."""
    return {
        PUBLISHED: lambda: torch.from_numpy(relax(target[0].to(torch.uint8).numpy()))[None],
        OURS: lambda: class_sets(target, CLASSES, window=3).members,
    }


def losses(logits: Tensor, target: Tensor) -> Work:
    """Name -> gradient of its loss."""
    masks = targets(target)[PUBLISHED]()
    functions = {
        PUBLISHED: lambda values: published_loss(values, masks),
        OURS: lambda values: label_relaxation(values, target),
        PLAIN: lambda values: F.cross_entropy(values, target, ignore_index=IGNORE),
    }

    def gradient(name: str) -> Tensor:
        values = logits.detach().requires_grad_()
        functions[name](values).backward()
        return values.grad

    return {name: lambda name=name: gradient(name) for name in functions}


def check_equal(work: Work) -> None:
    """Raises RuntimeError if ours has another gradient than the published loss."""
    published, ours = work[PUBLISHED](), work[OURS]()
    if (ours - published).abs().max() > 1e-5 * published.abs().max():
        raise RuntimeError("the alternatives have other gradients")


def measure_memory(name: str, size: int) -> int:
    """Bytes that this process grows by in a forward and backward, which a small one precedes."""
    for side in (32, size):
        target = street_target(side)
        work = losses(torch.randn(1, CLASSES, side, side), target)
        before = resident("VmRSS")
        # What was at most resident so far was perhaps for the target; only the loss counts.
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        work[name]()
    return resident("VmHWM") - before


def memory(name: str, size: int) -> int:
    """What `measure_memory` finds in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.loss", "--memory-of", name, "--size", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, env=dict(os.environ))
    return json.loads(done.stdout)


def rows(title: str, times: Times, base: str) -> str:
    """A line per alternative: milliseconds, and how many times as long the base takes."""
    middle = {name: sorted(seconds)[len(seconds) // 2] for name, seconds in times.items()}
    return "\n".join(f"{title:8}{name:16}{1000 * middle[name]:10.1f} ms"
                     f"{ratio(times, base, name):10.1f} x {base}" for name in times)


def main() -> None:
    args = parse_args()
    if args.memory_of:
        print(measure_memory(args.memory_of, args.size))
        return
    if args.threads:
        torch.set_num_threads(args.threads)
    target = street_target(args.size)
    work = losses(torch.randn(1, CLASSES, args.size, args.size), target)
    check_equal(work)
    several = len(class_sets(target, CLASSES, window=3).places) / target.numel()
    print(f"{machine()}; {args.size}x{args.size} pixels, {100 * several:.1f} % with several "
          f"classes, {CLASSES} classes; medians of {args.rounds} rounds")
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    for title, alternatives, base in (("target", targets(target), PUBLISHED),
                                      ("loss", work, PUBLISHED)):
        calls = {name: lambda _, call=call: call() for name, call in alternatives.items()}
        times = take_turns(calls, args.rounds, least=0.05, clock=clock)
        print(rows(title, times, base))
    print(f"ours is {ratio(times, PLAIN, OURS):.2f} times as fast as cross entropy")
    for name in work:
        print(f"memory  {name:16}{memory(name, args.size) / 1e6:10.0f} MB")


if __name__ == "__main__":
    run(main)
