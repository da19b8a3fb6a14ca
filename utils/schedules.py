"""Courses of the learning rate, and the options that choose one."""

import argparse
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from utils.argument_types import at_least_zero, share, whole


@dataclass(frozen=True)
class Shape:
    """Numbers of the curves that have some."""

    power: float = 0.9  # of poly, and of scl-poly until it starts again
    restart: float = 1.0  # progress at which scl-poly starts again
    restart_factor: float = 1.0  # on the learning rate there
    restart_power: float = 1.5
    final_factor: float = 0.01  # on the learning rate at the end of linear


def poly(progress: float, shape: Shape) -> float:
    """(1 - progress)^power, Liu et al., ParseNet, 2015."""
    return (1 - progress) ** shape.power


def scl_poly(progress: float, shape: Shape) -> float:
    """poly, which then starts again and falls with another power, Zhu et al., CVPR 2019.

    Epoch e has the factor of e here. The published loop steps its scheduler before the epoch, which
    since torch 1.1 gives epoch e the factor of e + 1; when it was published, that of e.
    """
    if progress < shape.restart:
        return poly(progress, shape)
    rest = (1 - progress) / (1 - shape.restart)
    return shape.restart_factor * rest**shape.restart_power


def cosine(progress: float, shape: Shape) -> float:
    """Half a cosine from 1 to 0, Loshchilov and Hutter, ICLR 2017."""
    return (1 + math.cos(math.pi * progress)) / 2


def linear(progress: float, shape: Shape) -> float:
    """1 to the final factor."""
    return 1 - progress * (1 - shape.final_factor)


def steps(progress: float, shape: Shape) -> float:
    """1, from half of the way 0.1, from nine tenths 0.01: SDCNet2D of Zhu et al., CVPR 2019."""
    return 0.1 ** bisect_right((0.5, 0.9), progress)


def constant(progress: float, shape: Shape) -> float:
    """1."""
    return 1.0


# progress in 0..1 after warm-up -> factor on the learning rate
SCHEDULES: dict[str, Callable[[float, Shape], float]] = {
    "poly": poly, "scl-poly": scl_poly, "cosine": cosine, "linear": linear,
    "steps": steps, "constant": constant,
}


@dataclass(frozen=True)
class Schedule:
    """Factor on the learning rate at a step: linear warm-up, then the named curve."""

    name: str
    total_steps: int
    warmup_steps: int = 0
    shape: Shape = Shape()
    epochs: tuple[int, ...] = ()  # steps at which they begin, and the end; the curve stays within
    warmup_momentum: float | None = None  # at the first step; None: warm-up leaves it alone

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / (self.warmup_steps + 1)
        return SCHEDULES[self.name](self.progress(step), self.shape)

    def momentum(self, step: int, usual: float) -> float:
        """Momentum at a step: it rises linearly to the `usual` one with the warm-up."""
        if self.warmup_momentum is None or step >= self.warmup_steps:
            return usual
        return self.warmup_momentum + (usual - self.warmup_momentum) * step / self.warmup_steps

    def progress(self, step: int) -> float:
        """0 after the warm-up to 1 at the end; with `epochs`, that of the step's epoch."""
        if self.epochs:
            return (bisect_right(self.epochs, step) - 1) / (len(self.epochs) - 1)
        return (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """The course of the learning rate."""
    group = parser.add_argument_group("schedule")
    group.add_argument("--schedule", default="poly", choices=tuple(SCHEDULES),
                       help="course of the learning rate; constant and linear do not end at 0, "
                       "steps is a tenth from half of the way and a hundredth from nine tenths. "
                       "scl-poly is a poly that starts again with epoch --relax-until")
    group.add_argument("--schedule-per", default="step", choices=("step", "epoch"),
                       help="the rate changes at every optimizer step or at every epoch")
    group.add_argument("--warmup-steps", type=whole, default=0, metavar="N",
                       help="steps of linear rise before the schedule")
    group.add_argument("--warmup-momentum", type=share, metavar="X",
                       help="momentum of SGD at the first step, which rises to --momentum with "
                       "the warm-up (default: --momentum)")
    group.add_argument("--poly-power", type=at_least_zero, metavar="X",
                       help="exponent of poly and scl-poly (default: 0.9)")
    group.add_argument("--final-factor", type=at_least_zero, metavar="X",
                       help="part of --lr that linear ends at (default: 0.01)")
    group.add_argument("--restart-factor", type=at_least_zero, metavar="X",
                       help="part of --lr that scl-poly starts again with (default: 1)")
    group.add_argument("--restart-power", type=at_least_zero, metavar="X",
                       help="exponent of scl-poly from there (default: 1.5)")


def check_schedule(args: argparse.Namespace) -> None:
    """Refuses a schedule that does not say when it starts again. Raises ValueError."""
    if args.schedule == "scl-poly" and args.relax_until is None:
        raise ValueError("--schedule scl-poly: when does it start again? give --relax-until")


def build_schedule(args: argparse.Namespace, offsets: Sequence[int]) -> Schedule:
    """What the options of `add_schedule` ask for.

    Args:
        args: the options.
        offsets: steps at which the epochs begin, and the end; when --max-steps cuts them before
            scl-poly starts again, it does not.
    """
    epochs = tuple(offsets) if args.schedule_per == "epoch" else ()
    plain = Schedule(args.schedule, offsets[-1], args.warmup_steps, Shape(), epochs,
                     args.warmup_momentum)
    restart = args.relax_until if args.schedule == "scl-poly" else None
    given = {
        "power": args.poly_power, "restart_factor": args.restart_factor,
        "restart_power": args.restart_power, "final_factor": args.final_factor,
    }
    if restart is not None and restart < len(offsets) - 1:
        given["restart"] = plain.progress(offsets[restart])
    shape = Shape(**{name: value for name, value in given.items() if value is not None})
    return replace(plain, shape=shape)
