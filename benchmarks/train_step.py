"""A training step beside the published way: images per second and memory.

examples:
  python -m benchmarks.train_step
  python -m benchmarks.train_step --network cspsg_s --batch 8 --size 256 512 --rounds 9

The published way: eager float32, planes of pixels, logits of every class at the image's size, the
published loss on them, an optimizer that updates one tensor after the other. Ours: the step of
train.py, in each --precision: channels_last, its loss, its optimizer, freed memory kept. Masks of
relaxed labels count as the published loader's work and are there already; ours makes its own.

Each side has a process of its own, and all take turns. Memory is how far the process grew, at the
most, above what it held before it built the network. The losses of the first step are compared.
"""

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.relaxation import CLASSES, published_loss, relax
from benchmarks.streets import make_street
from benchmarks.timing import bf16_flags, machine, resident, table, take_turns
from datasets.cityscapes_labels import TABLE
from model import build_model, check_name
from model.losses import build_loss
from utils import distributed
from utils.inference.predictor import autocast
from utils.labels import IGNORE
from utils.options.parser import Parser, checked, positive
from utils.processes import count_cores
from utils.stopping import run
from utils.training import optimization
from utils.training.schedules import Schedule

PUBLISHED = "published, fp32"
LR, MOMENTUM, WEIGHT_DECAY = 1e-4, 0.9, 1e-4


@dataclass(frozen=True)
class Case:
    """A network and what its recipe trains it with, small enough for a CPU."""

    batch: int = 8
    size: tuple[int, int] = (360, 480)
    optimizer: str = "sgd"
    loss: str = "cross_entropy"
    options: dict[str, Any] = field(default_factory=dict)


CASES = {
    "deeplabv3_resnet18": Case(optimizer="adamw", options={"output_stride": 8}),
    "sgcpnet": Case(),
    "cspsg_s": Case(optimizer="adamw"),
    "deeplabv3plus_efficientnet_lite0": Case(optimizer="adamw"),
    "deeplabv3plus_se_resnext50": Case(2, (512, 512), loss="label_relaxation"),
}


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.train_step"
    parser.add_argument("--network", nargs="+", type=checked(check_name), default=list(CASES),
                        metavar="NAME", help="of the README's table, or smp:ARCHITECTURE:ENCODER")
    parser.add_argument("--batch", type=positive, metavar="N",
                        help="images of a step (default: 8, of large networks 2)")
    parser.add_argument("--size", type=positive, nargs=2, metavar=("H", "W"),
                        help="pixels of a crop (default: 360 480, of large networks 512 512)")
    parser.add_argument("--precision", nargs="+", choices=("fp32", "bf16"),
                        default=["fp32", "bf16"] if any(bf16_flags().values()) else ["fp32"],
                        help="of ours; bf16 is left out where the CPU has no instructions for it")
    parser.add_argument("--compile", action="store_true",
                        help="ours with --compile too, which takes minutes to begin")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N",
                        help="turns of each side, of which the median counts")
    parser.add_argument("--threads", type=positive, metavar="N",
                        help="that compute (default: all cores)")
    return parser.parse_args()


def draw(case: Case) -> tuple[Tensor, Tensor]:
    """(N, H, W, 3) uint8 and (N, H, W) uint8 train ids, as the loader gives them."""
    streets = [make_street(number, case.size) for number in range(case.batch)]
    target = TABLE.id_to_train_id[np.stack([street.ids for street in streets])]
    return torch.from_numpy(np.stack([s.image for s in streets])), torch.from_numpy(target)


def published_step(name: str, case: Case) -> Callable[[], float]:
    """A step as published; gives its loss."""
    network = build_model(name, CLASSES, **case.options).train()
    kind = torch.optim.AdamW if case.optimizer == "adamw" else partial(
        torch.optim.SGD, momentum=MOMENTUM)
    optimizer = kind(network.parameters(), lr=LR, weight_decay=WEIGHT_DECAY, foreach=False,
                     fused=False)
    pixels, ids = draw(case)
    images, target = pixels.permute(0, 3, 1, 2).contiguous(), ids.long()
    masks = torch.stack([torch.from_numpy(relax(each.numpy())) for each in ids])

    def loss_of(logits: Tensor) -> Tensor:
        if case.loss == "label_relaxation":
            return published_loss(logits, masks) / case.batch
        return F.cross_entropy(logits, target, ignore_index=IGNORE)

    def step() -> float:
        optimizer.zero_grad()
        loss = loss_of(network(images))
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def our_step(name: str, case: Case, how: str) -> Callable[[], float]:
    """A step of train.py in a precision, and compiled if that is said; gives its loss."""
    device = torch.device("cpu")
    network = build_model(name, CLASSES, **case.options).to(memory_format=torch.channels_last)
    optimization.train_mode(network, freeze_bn=False)
    groups = optimization.parameter_groups(network, LR, WEIGHT_DECAY, 1.0, decay_all=True)
    state = optimization.TrainingState(
        network, None, optimization.build_optimizer(case.optimizer, groups, MOMENTUM),
        Schedule("constant", 1000), torch.amp.GradScaler("cpu", enabled=False))
    loss_function = build_loss(case.loss, 0)
    pixels, ids = draw(case)
    forward = distributed.wrap(network, compiled=how.endswith("compiled"))

    def step() -> float:
        images, target = pixels.permute(0, 3, 1, 2), ids.long()
        with autocast(device, how.split(",")[0]):
            logits = forward(images)
        loss = optimization.backward(state, loss_function(logits, target))
        optimization.update(state)
        return loss

    return step


_steps: list[Callable[[], tuple[float, int]]] = []  # of the process of a side


def start(name: str, case: Case, how: str | None, threads: int | None) -> None:
    """In a new process: builds a side, the published one if nothing is said."""
    if how:
        distributed.start("cpu", threads)
    else:
        torch.set_num_threads(threads or count_cores())
    torch.manual_seed(0)
    before = resident("VmRSS")
    step = our_step(name, case, how) if how else published_step(name, case)
    _steps.append(lambda: (step(), resident("VmHWM") - before))


def take_step() -> tuple[float, int]:
    """The loss of a step, and how many bytes the process grew by so far."""
    return _steps[0]()


@contextmanager
def apart(*given: Any) -> Iterator[Callable[[], tuple[float, int]]]:
    """A side in a process of its own, `given` as of `start`."""
    with ProcessPoolExecutor(1, get_context("spawn"), start, given) as pool:
        yield lambda: pool.submit(take_step).result()


def measure(name: str, case: Case, args: argparse.Namespace) -> str:
    """A table of the sides.

    Raises:
        RuntimeError: their losses differ, so that they cannot be compared.
    """
    grown: dict[str, int] = {}
    with ExitStack() as stack:
        sides = {PUBLISHED: stack.enter_context(apart(name, case, None, args.threads))}
        hows = [precision + compiled for compiled in ("", ", compiled")[: 1 + args.compile]
                for precision in args.precision]
        sides |= {f"ours, {how}": stack.enter_context(apart(name, case, how, args.threads))
                  for how in hows}
        losses = {side: step()[0] for side, step in sides.items()}
        if max(losses.values()) - min(losses.values()) > 0.02 * losses[PUBLISHED]:
            raise RuntimeError(f"{name}: the sides have other losses, {losses}")

        def turn(side: str, _: int) -> None:
            grown[side] = sides[side]()[1]

        times = take_turns({side: partial(turn, side) for side in sides}, args.rounds)
    images = {side: [each / case.batch for each in seconds] for side, seconds in times.items()}
    head, *rows = table(images, "images", {"published": PUBLISHED}).splitlines()
    rows = [f"{row}{grown[side] / 1e6:10.0f}{grown[side] / grown[PUBLISHED]:10.2f}"
            for row, side in zip(rows, sides, strict=True)]
    return "\n".join([f"{head}{'MB':>10}{'of it':>10}", *rows])


def main() -> None:
    args = parse_args()
    torch.set_num_threads(args.threads or count_cores())
    print(f"{machine()}; medians of {args.rounds} rounds")
    for name in args.network:
        case = CASES.get(name, Case())
        case = replace(case, batch=args.batch or case.batch, size=tuple(args.size or case.size))
        height, width = case.size
        print(f"\n{name}, {case.batch} x {height}x{width}, {case.loss}, {case.optimizer}")
        print(measure(name, case, args), flush=True)


if __name__ == "__main__":
    run(main)
