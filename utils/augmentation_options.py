"""How training images vary: the options and what they refuse."""

import argparse
import math

from utils.argument_types import positive, share


def add_augmentation(parser: argparse.ArgumentParser) -> None:
    """How training images vary."""
    group = parser.add_argument_group("augmentation")
    group.add_argument("--crop-size", type=positive, nargs=2, default=(512, 512),
                       metavar=("H", "W"), help="pixels")
    group.add_argument("--pre-size", type=positive, metavar="PIXELS",
                       help="longer side of every image at magnification 1 (default: its own)")
    group.add_argument("--scale", type=float, nargs=2, default=(0.5, 2.0), metavar=("MIN", "MAX"),
                       help="random magnification before the crop")
    group.add_argument("--flip", type=share, default=0.5, metavar="P",
                       help="probability of mirroring")
    group.add_argument("--jitter", type=share, default=0.25, metavar="X",
                       help="brightness, contrast and saturation change by up to this factor")
    group.add_argument("--hue", type=share, default=0.05, metavar="X",
                       help="hue changes by up to this part of a turn")
    group.add_argument("--blur", type=share, default=0.5, metavar="P",
                       help="probability of a Gaussian blur, sigma 0.15 to 1.3 pixels")
    group.add_argument("--mosaic", type=share, default=0.0, metavar="P",
                       help="probability that a crop is put together from four of half its side, "
                       "each of another image and varied by itself; it reads four images")


def check_augmentation(args: argparse.Namespace) -> None:
    """Refuses sizes that no crop can have.

    Raises:
        ValueError: what was given, what is allowed.
    """
    if not 0 < args.scale[0] <= args.scale[1] < math.inf:
        raise ValueError(f"--scale {args.scale[0]} {args.scale[1]}: 0 < MIN <= MAX is expected")
    if min(args.crop_size) < 32:
        raise ValueError(f"--crop-size {args.crop_size}: networks need at least 32 pixels a side")
    if args.mosaic and any(side % 2 for side in args.crop_size):
        height, width = args.crop_size
        raise ValueError(f"--mosaic halves --crop-size {height} {width}; give even numbers")
