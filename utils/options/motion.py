"""The options of motion networks and of propagation."""

import argparse
from collections.abc import Collection

from utils.options.parser import above_zero, at_least_zero, positive, whole

SMALLEST_CROP = 64  # pixels, one cell of its coarsest features


def add_frames(parser: argparse.ArgumentParser, workers: int) -> None:
    """What it learns from."""
    group = parser.add_argument_group("frames")
    group.add_argument("--data-root", metavar="DIR",
                       help="folder of leftImg8bit_sequence/SPLIT, or of SPLIT/VIDEO with numbered "
                       "frames (default: $CITYSCAPES_DATASET, else data/cityscapes)")
    group.add_argument("--train-split", default="train", metavar="SPLIT",
                       help="part of the frames to train on")
    group.add_argument("--val-split", default="val", metavar="SPLIT",
                       help="part of which 200 frames, evenly spread, are reconstructed in "
                       "validation")
    group.add_argument("--crop-size", type=positive, nargs=2, default=(448, 448),
                       metavar=("H", "W"), help="pixels of a training crop")
    group.add_argument("--workers", type=whole, default=workers, metavar="N",
                       help="processes that read frames and find flow, per process that computes")


def add_sdcnet(
    parser: argparse.ArgumentParser, names: Collection[str], motions: Collection[str]
) -> None:
    """The network and the flow that it corrects; the first of each is the default."""
    group = parser.add_argument_group("network")
    group.add_argument("--arch", choices=tuple(names), default=next(iter(names)),
                       help="sdcnet2d_recon sees the frame that it explains, sdcnet2d predicts it")
    group.add_argument("--motion", choices=tuple(motions), default=next(iter(motions)),
                       help="flow that goes in; dis is OpenCV's dense inverse search, raft and "
                       "raft_small are torchvision's. Use the network with the same")
    group.add_argument("--motion-weights", metavar="FILE",
                       help="weights of --motion raft (default: torchvision's download)")
    group.add_argument("--init", metavar="FILE",
                       help="start from the weights of a checkpoint, ours or published (default: "
                       "from a network that repeats the flow)")


def add_steps(parser: argparse.ArgumentParser, schedules: Collection[str]) -> None:
    """How long and how fast it learns; the defaults are published."""
    group = parser.add_argument_group("optimization")
    group.add_argument("--epochs", type=positive, default=500, metavar="N",
                       help="passes over the training frames")
    group.add_argument("--max-steps", type=positive, metavar="N",
                       help="end after N optimizer steps, if the epochs are longer")
    group.add_argument("--batch-size", type=positive, default=4, metavar="N",
                       help="crops per optimizer step, over all processes")
    group.add_argument("--lr", type=above_zero, default=1e-4, metavar="X",
                       help="learning rate of Adam")
    group.add_argument("--schedule", choices=tuple(schedules), default="steps",
                       help="course of the learning rate; steps: a tenth from half of the way, a "
                       "hundredth from nine tenths")
    group.add_argument("--seed", type=whole, default=0, metavar="N",
                       help="of weights, order and crops")


def add_output(parser: argparse.ArgumentParser) -> None:
    """What it writes, when."""
    group = parser.add_argument_group("output")
    group.add_argument("--run-dir", metavar="DIR",
                       help="folder of checkpoints and logs (default: runs/ARCH-frames-TIME)")
    group.add_argument("--resume", nargs="?", const="", metavar="DIR",
                       help="continue the training in DIR, or in --run-dir, with its options")
    group.add_argument("--val-every", type=positive, default=1000, metavar="N",
                       help="steps between validations; the last step has one too")
    group.add_argument("--save-every", type=positive, default=500, metavar="N",
                       help="steps between checkpoints; every validation writes one too")
    group.add_argument("--log-every", type=positive, default=10, metavar="N",
                       help="steps between records in log.jsonl and TensorBoard")


def check_sdcnet(args: argparse.Namespace, world: int) -> None:
    """Refuses what would fail later.

    Raises:
        ValueError: what was given, what is allowed.
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
