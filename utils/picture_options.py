"""The options of what the demos draw."""

import argparse

from utils.argument_types import share
from utils.pictures import KINDS


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """What the demos draw and where."""
    group = parser.add_argument_group("pictures")
    group.add_argument("--save-dir", default="results", metavar="DIR", help="gets the pictures")
    group.add_argument("--outputs", nargs="+", choices=KINDS, 
                       help="which pictures of an image are written (default: all)")
    group.add_argument("--opacity", type=share, default=0.5, metavar="X",
                       help="of the colors in the overlay")
    group.add_argument("--legend", action=argparse.BooleanOptionalAction, default=False,
                       help="names of the classes beside the overlay")
    group.add_argument("--percentages", action=argparse.BooleanOptionalAction, default=False,
                       help="likewise, with the share of the pixels that each has")
