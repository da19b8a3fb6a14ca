"""Learning-rate schedules."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass


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
