"""The options of inference, pictures and videos."""

import argparse
from collections.abc import Collection
from typing import Any

from utils.images import MAX_PIXELS
from utils.inference.settings import AVERAGES, Inference
from utils.options.parser import SWITCH, above_zero, below_one, positive, share, side
from utils.pictures import KINDS, SHOWS


def add_inference(parser: argparse.ArgumentParser) -> None:
    """In which sizes and pieces the network sees an image."""
    add = parser.add_argument_group("inference").add_argument
    add("--scales", type=_numbers, nargs="+", action=_Joined, default=[1.0], metavar="X",
        help="factors on the image's size whose scores are averaged, for example 0.5 1 2 or "
        "0.5,1,2; above 0 up to 16")
    add("--flip", dest="flip_average", **SWITCH,
        help="average with the scores of the mirrored image")
    add("--window", type=side, metavar="PIXELS", help="side of square windows that are seen "
        "one at a time, at scales above 1 times the scale; from 32 (default: the whole image)")
    add("--overlap", "--sliding-overlap", type=below_one, help="part of its side that a window "
        "shares with the next, as 0.25 or 1/3; 0 to below 1 (default: 1/3)")
    add("--window-batch", type=positive, default=1,
        help="windows per forward: more are faster on a GPU and take more memory")
    add("--average", choices=AVERAGES, default=AVERAGES[0],
        help="what windows, scales and mirror images are averaged in")


def add_compile(parser: argparse.ArgumentParser) -> None:
    """Whether time is spent on becoming faster."""
    add = parser.add_argument_group("speed").add_argument
    add("--compile", action=argparse.BooleanOptionalAction, help="compile the network for each "
        "size of images, which takes up to a minute once and is kept for later runs (default: on a "
        "CPU, where the number of images pays for it; on a GPU small networks are faster without)")


def build_inference(args: argparse.Namespace) -> Inference:
    """What the options of `add_inference` ask for.

    Raises ValueError: out of range.
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

    def __call__(self, parser: Any, namespace: Any, values: Any, *rest: Any) -> None:
        setattr(namespace, self.dest, sum(values, []))


def add_pictures(parser: argparse.ArgumentParser) -> None:
    """What the demos draw and where."""
    add = parser.add_argument_group("pictures").add_argument
    add("--save-dir", default="results", metavar="DIR", help="gets the pictures")
    add("--outputs", nargs="+", choices=KINDS,
        help="which pictures of an image are written (default: all)")
    add("--max-pixels", type=positive, default=MAX_PIXELS, help="of an image or a frame; larger "
        "ones are refused, since they may be made to fill the memory")
    add("--opacity", type=share, default=0.5, help="of the colors in the overlay")
    add("--legend", **SWITCH, help="names of the classes beside the overlay")
    add("--percentages", **SWITCH, help="likewise, with the share of the pixels that each has")


def add_source(parser: argparse.ArgumentParser) -> None:
    """Where the images come from: one of these is needed."""
    add = parser.add_argument_group("images, one of").add_argument
    add("--demo-folder", metavar="DIR", help="a folder of images: pictures of each")
    add("--video", metavar="FILE|DIR|N|URL", help="a video, a folder of its frames, the number or "
        "the address of a camera, or a Cityscapes sequence as stuttgart_00: a video of it")
    add("--timelapse", action="store_true",
        help="the images of a data set, one after the other: a video of them")


def add_video(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """What a video shows, and how a data set becomes one."""
    add = parser.add_argument_group("video").add_argument
    add("--show", choices=SHOWS, default=SHOWS[0],
        help="what its frames show; side-by-side is image and mask")
    add("--fps", type=above_zero, help="frames per second that are written (default: those of the "
        "video; 25 for a folder, 17 for Cityscapes sequences, 10 for a time lapse)")
    add("--smooth", type=below_one, default=0.0,
        help="weight below 1 of the frames before in what the network says, moved along with the "
        "pixels that look alike, for example 0.7: steadier labels; 0 is each frame by itself")
    add("--limit", type=positive, help="first N images or frames only")
    add("--dataset", choices=tuple(names), help="of a time lapse (default: cityscapes); and whose "
        "the classes of a network are that has no names of them")
    add("--data-root", metavar="DIR",
        help="folder of the data set (default: $NAME_DATASET, else data/NAME)")
    add("--split", help="part of it (default: the part that has --city, else val)")
    add("--city", metavar="NAME", help="city or sequence of it, as stuttgart (default: all)")


def check_source(args: argparse.Namespace) -> None:
    """Refuses no source, two, and options that are for another one. Raises ValueError."""
    given = [bool(args.demo_folder), args.video is not None, args.timelapse]
    if sum(given) != 1:
        raise ValueError("--demo-folder DIR, --video FILE|DIR|N|URL, --timelapse: give one of them")
    if args.fps and not 0.1 <= args.fps <= 1000:
        raise ValueError(f"--fps {args.fps:g}: 0.1 to 1000 frames per second are expected")
    if not args.timelapse and (args.city or args.split):
        raise ValueError("--city and --split: without --timelapse they choose nothing")
    if args.demo_folder and (args.fps or args.show != SHOWS[0]):
        raise ValueError("--fps and --show are of a video; a folder of frames becomes one by "
                         "--video DIR, pictures are chosen by --outputs")
    if args.demo_folder and args.data_root:
        raise ValueError("--data-root: of a --timelapse or a Cityscapes sequence; --demo-folder is "
                         "the folder itself")
    if args.video is None and args.smooth:
        raise ValueError("--smooth: of a video, whose frames follow each other; --video DIR takes "
                         "a folder of frames as one")
    if not args.demo_folder and args.outputs:
        raise ValueError("--outputs: pictures of a --demo-folder; a video is chosen by --show")
