"""The options of what the demo of a folder takes besides: videos, cameras, time lapses."""

import argparse
from collections.abc import Collection

from utils.argument_types import above_zero, below_one, positive
from utils.pictures import SHOWS


def add_source(parser: argparse.ArgumentParser) -> None:
    """Where the images come from: one of these is needed."""
    group = parser.add_argument_group("images, one of")
    group.add_argument("--demo-folder", metavar="DIR",
                       help="a folder of images: pictures of each")
    group.add_argument("--video", metavar="FILE|DIR|N|URL",
                       help="a video, a folder of its frames, the number or the address of a "
                       "camera, or a Cityscapes sequence as stuttgart_00: a video of it")
    group.add_argument("--timelapse", action="store_true",
                       help="the images of a data set, one after the other: a video of them")


def add_video(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """What a video shows, and how a data set becomes one."""
    group = parser.add_argument_group("video")
    group.add_argument("--show", choices=SHOWS, default=SHOWS[0],
                       help="what its frames show; side-by-side is image and mask")
    group.add_argument("--fps", type=above_zero, metavar="X",
                       help="frames per second that are written (default: those of the video; 25 "
                       "for a folder, 17 for Cityscapes sequences, 10 for a time lapse)")
    group.add_argument("--smooth", type=below_one, default=0.0, metavar="X",
                       help="weight below 1 of the frames before in what the network says, moved "
                       "along with the pixels that look alike, for example 0.7: steadier labels; "
                       "0 is each frame by itself")
    group.add_argument("--limit", type=positive, metavar="N", help="first N images or frames only")
    group.add_argument("--dataset", default="cityscapes", choices=tuple(names),
                       help="of a time lapse")
    group.add_argument("--data-root", metavar="DIR",
                       help="folder of the data set (default: $NAME_DATASET, else data/NAME)")
    group.add_argument("--split", help="part of it (default: the part that has --city, else val)")
    group.add_argument("--city", metavar="NAME",
                       help="city or sequence of it, as stuttgart (default: all)")


def check_source(args: argparse.Namespace) -> None:
    """Refuses no source, two, and options that are for another one. Raises ValueError."""
    given = [bool(args.demo_folder), args.video is not None, args.timelapse]
    if sum(given) != 1:
        raise ValueError("--demo-folder DIR, --video FILE|DIR|N|URL, --timelapse: give one of them")
    if args.video == "":
        raise ValueError("--video '': a file, a folder, the number or the address of a camera is "
                         "expected")
    if args.fps and not 0.1 <= args.fps <= 1000:
        raise ValueError(f"--fps {args.fps:g}: 0.1 to 1000 frames per second are expected")
    if not args.timelapse and (args.city or args.split):
        raise ValueError("--city and --split: without --timelapse they choose nothing")
    if args.demo_folder and (args.fps or args.show != SHOWS[0]):
        raise ValueError("--fps and --show are of a video; a folder of frames becomes one by "
                         "--video DIR, pictures are chosen by --outputs")
    if args.demo_folder and (args.data_root or args.dataset != "cityscapes"):
        raise ValueError("--data-root and --dataset: of a --timelapse or a Cityscapes sequence; "
                         "--demo-folder is the folder itself")
    if args.video is None and args.smooth:
        raise ValueError("--smooth: of a video, whose frames follow each other; --video DIR takes "
                         "a folder of frames as one")
    if not args.demo_folder and args.outputs:
        raise ValueError("--outputs: pictures of a --demo-folder; a video is chosen by --show")
