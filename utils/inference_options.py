"""The options of multi-scale, mirrored and sliding inference."""

import argparse
from collections.abc import Sequence
from typing import Any

from utils.argument_types import below_one, positive
from utils.inference.multiscale import AVERAGES, Inference


def add_inference(parser: argparse.ArgumentParser) -> None:
    """In which sizes and pieces the network sees an image."""
    group = parser.add_argument_group("inference")
    group.add_argument("--scales", type=_numbers, nargs="+", action=_Joined, default=[1.0],
                       metavar="X", help="factors on the image's size whose scores are averaged, "
                       "for example 0.5 1 2 or 0.5,1,2; above 0 up to 16")
    group.add_argument("--flip", dest="flip_average", action=argparse.BooleanOptionalAction,
                       default=False, help="average with the scores of the mirrored image")
    group.add_argument("--window", type=positive, metavar="PIXELS",
                       help="side of square windows that are seen one at a time, at scales above 1 "
                       "times the scale; from 32 (default: the whole image)")
    group.add_argument("--overlap", "--sliding-overlap", type=below_one, metavar="X",
                       help="part of its side that a window shares with the next, as 0.25 or 1/3; "
                       "0 to below 1 (default: 1/3)")
    group.add_argument("--window-batch", type=positive, default=1, metavar="N",
                       help="windows per forward: more are faster on a GPU and take more memory")
    group.add_argument("--average", choices=AVERAGES, default=AVERAGES[0],
                       help="what windows, scales and mirror images are averaged in")


def add_compile(parser: argparse.ArgumentParser) -> None:
    """Whether time is spent on becoming faster."""
    group = parser.add_argument_group("speed")
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False,
                       help="torch.compile the network: the first image of every size takes up "
                       "to a minute longer, the others less; for many images of few sizes on a "
                       "CPU (on a GPU small networks are faster without)")


def build_inference(args: argparse.Namespace) -> Inference:
    """What the options of `add_inference` ask for.

    Raises:
        ValueError: out of range.
    """
    overlap = Inference.overlap if args.overlap is None else args.overlap
    return Inference(tuple(args.scales), args.flip_average, args.window, overlap, args.average,
                     args.window_batch)


def _numbers(text: str) -> list[float]:
    """Numbers between commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers, as 0.5,1,2") from None


class _Joined(argparse.Action):
    """Makes one list of lists."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
        values: str | Sequence[Any] | None, option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, sum(values or [], []))
