"""The options of motion networks and of propagation."""

import argparse
from collections.abc import Collection

from utils.options.optimization import add_length
from utils.options.parser import SWITCH, above_zero, at_least_zero, positive, readers, side
from utils.options.training import add_run_folder

SMALLEST_CROP = 64  # pixels, one cell of its coarsest features


def add_frames(parser: argparse.ArgumentParser, workers: int) -> None:
    """The frames to train on."""
    add = parser.add_argument_group("frames").add_argument
    add("--data-root", metavar="DIR", help="folder of leftImg8bit_sequence/SPLIT, or of "
        "SPLIT/VIDEO with numbered frames (default: $CITYSCAPES_DATASET, else data/cityscapes)")
    add("--train-split", default="train", metavar="SPLIT", help="part of the frames to train on")
    add("--val-split", default="val", metavar="SPLIT",
        help="part of which 200 frames, evenly spread, are reconstructed in validation")
    add("--crop-size", type=side, nargs=2, default=(448, 448), metavar=("H", "W"),
        help="pixels of a training crop")
    add("--workers", type=readers, default=workers,
        help="processes that read frames and find flow, per process that computes")


def add_sdcnet(
    parser: argparse.ArgumentParser, names: Collection[str], motions: Collection[str]
) -> None:
    """The network and the flow that it corrects; the first of each is the default."""
    add = parser.add_argument_group("network").add_argument
    add("--arch", choices=tuple(names), default=next(iter(names)),
        help="sdcnet2d_recon sees the frame that it explains, sdcnet2d predicts it")
    add("--motion", choices=tuple(motions), default=next(iter(motions)),
        help="flow that goes in; dis is OpenCV's dense inverse search, raft and raft_small are "
        "torchvision's. Use the network with the same")
    add("--motion-weights", metavar="FILE",
        help="weights of --motion raft (default: torchvision's download)")
    add("--init", metavar="FILE", help="start from the weights of a checkpoint, ours or published "
        "(default: from a network that repeats the flow)")


def add_steps(parser: argparse.ArgumentParser, schedules: Collection[str]) -> None:
    """Length, learning rate and schedule; the defaults are published."""
    add = parser.add_argument_group("optimization").add_argument
    add_length(add, epochs=500, batch_size=4)
    add("--lr", type=above_zero, default=1e-4, help="learning rate of Adam")
    add("--schedule", choices=tuple(schedules), default="steps", help="learning-rate schedule; "
        "steps: a tenth from half of the way, a hundredth from nine tenths")


def add_output(parser: argparse.ArgumentParser) -> None:
    """Run folder, validation, logging."""
    add = parser.add_argument_group("output").add_argument
    add_run_folder(add, "frames")
    add("--val-every", type=positive, default=1000,
        help="steps between validations; the last step has one too")


def check_sdcnet(args: argparse.Namespace, world: int) -> None:
    """Refuses what would fail later.

    Raises ValueError: what was given, what is allowed.
    """
    if args.batch_size % world:
        raise ValueError(f"--batch-size {args.batch_size} does not divide into {world} processes")
    if min(args.crop_size) < SMALLEST_CROP:
        raise ValueError(f"--crop-size {args.crop_size[0]} {args.crop_size[1]}: sides of at least "
                         f"{SMALLEST_CROP} pixels are needed")


def add_propagation(parser: argparse.ArgumentParser, motions: Collection[str]) -> None:
    """Which frames get labels, and how.

    Args:
        parser: gets the options.
        motions: names of the sources of motion, the default first.
    """
    add = parser.add_argument_group("propagation").add_argument
    add("--propagate", type=positive, default=5, metavar="K",
        help="frames before and after each labelled one that get a label")
    add("--motion", choices=tuple(motions), default=next(iter(motions)),
        help="dis is OpenCV's dense inverse search and needs no weights, raft and raft_small are "
        "torchvision's, sdcnet corrects one of them by three frames")
    add("--motion-weights", metavar="FILE",
        help="weights of --motion raft (default: torchvision's download) or sdcnet")
    add("--direct", **SWITCH, help="take each frame in one step from the labelled one, instead of "
        "from the frame before it")
    add("--consistency", type=at_least_zero, metavar="PIXELS",
        help="ignore pixels whose motion there and back ends farther than that from its start, for "
        "example 1 (default: no check, half the time)")
    add("--upstream", **SWITCH, help="as the paper's code: nearest pixels of images too from the "
        "second step on, and border labels repeated where nothing is known")


def check_propagation(args: argparse.Namespace) -> None:
    """Refuses what does not go together. Raises ValueError."""
    if args.upstream and (args.direct or args.consistency is not None):
        raise ValueError("--upstream: is joint, step by step and unchecked; not with --direct "
                         "or --consistency")
