"""The options of the propagation of labels along videos."""

import argparse
from collections.abc import Collection

from utils.argument_types import at_least_zero, positive


def add_propagation(parser: argparse.ArgumentParser, motions: Collection[str]) -> None:
    """Which frames get labels, and how.

    Args:
        parser: gets the options.
        motions: names of the sources of motion, the default first.
    """
    group = parser.add_argument_group("propagation")
    group.add_argument("--propagate", type=positive, default=5, metavar="K",
                       help="frames before and after each labelled one that get a label")
    group.add_argument("--motion", choices=tuple(motions), default=next(iter(motions)),
                       help="dis is OpenCV's dense inverse search and needs no weights, raft and "
                       "raft_small are torchvision's, sdcnet corrects one of them by three frames")
    group.add_argument("--motion-weights", metavar="FILE",
                       help="weights of --motion raft (default: torchvision's download) or sdcnet")
    group.add_argument("--direct", action=argparse.BooleanOptionalAction, default=False,
                       help="take each frame in one step from the labelled one, instead of from "
                       "the frame before it")
    group.add_argument("--consistency", type=at_least_zero, metavar="PIXELS",
                       help="ignore pixels whose motion there and back ends farther than that from "
                       "its start, for example 1 (default: no check, half the time)")
    group.add_argument("--upstream", action=argparse.BooleanOptionalAction, default=False,
                       help="as the paper's code: nearest pixels of images too from the second "
                       "step on, and border labels repeated where nothing is known")


def check_propagation(args: argparse.Namespace) -> None:
    """Refuses what does not go together. Raises ValueError."""
    if args.upstream and (args.direct or args.consistency is not None):
        raise ValueError("--upstream: is joint, step by step and unchecked; not with --direct "
                         "or --consistency")
