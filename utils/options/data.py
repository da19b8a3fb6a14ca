"""The options of data, device and snapshot, which most scripts share."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

from utils.files import check_folder
from utils.images import DEPTHS
from utils.options.parser import OneOrTwo, fraction, positive, readers, side, threads, whole
from utils.processes import count_cores

# Segments streets out of the box; what demos take without a --snapshot.
SHIPPED = "weights/camvid.pth"
DEFAULT_SNAPSHOT = Path(__file__).resolve().parents[2] / SHIPPED


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where and how it computes."""
    add = parser.add_argument_group("device").add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"),
        help="of the forward; auto is bf16 where it is fast: on a CPU where, timed once, it is "
        "5 %% faster than fp32; a resumed run keeps what it has")
    add("--threads", type=threads, help="CPU threads per process (default: cores / processes)")


def add_data(
    parser: argparse.ArgumentParser, names: Collection[str], default: str | None, split: str | None
) -> Any:
    """Which images; returns the group."""
    group = parser.add_argument_group("data")
    add = group.add_argument
    add("--dataset", default=default, choices=tuple(names),
        help="layout and classes" + ("" if default else " (default: those of the snapshot)"))
    add("--data-root", metavar="DIR",
        help="folder of the data set (default: $NAME_DATASET, else data/NAME)")
    if split:
        add("--split", default=split, help="part of the data set")
    add_held = group.add_mutually_exclusive_group().add_argument
    add_held("--holdout", metavar="GROUP", help="city or sequence of train that becomes val")
    add_held("--holdout-fraction", dest="holdout", type=fraction, metavar="F", help="part of train "
             "that becomes val where there is none, chosen by the images' names alone" + (
                 "" if default else " (default: as in the snapshot's training)"))
    add("--cv-split", type=whole, help="published cross-validation of train and val: 0, 1 or 2" + (
        "" if default else " (default: as in the snapshot's training)"))
    add("--limit", type=positive, help="first N images of a split only")
    add("--exif", choices=("apply", "ignore"), help="whether labels were drawn on images as EXIF "
        "turns them, or on the stored pixels, where their sizes do not tell" + (
            "" if default else " (default: as in the snapshot's training)"))
    add("--workers", type=readers, default=min(4, count_cores()),
        help="processes that read images, per process that computes")
    return group


def add_eval_size(group: Any, default: str = "no resize") -> None:
    """The size that a network sees in evaluation."""
    group.add_argument("--eval-size", type=side, nargs="+", action=OneOrTwo, metavar=("H", "W"),
                       help="pixels, images are resized to H W, or to a longer side of one number, "
                       "before the network; scores and predictions have the original size "
                       f"(default: {default})")


def add_eval_crop(group: Any) -> None:
    """The part of an image that is scored."""
    group.add_argument("--eval-crop", type=side, nargs=2, metavar=("H", "W"),
                       help="pixels, only this center of the resized image is scored, at that size "
                       "(default: the whole image at its own size)")


def add_class_map(group: Any) -> None:
    """What the network's classes are in another data set."""
    group.add_argument("--class-map", metavar="FILE",
                       help="lines \"network's class = data set's class\", to score a network on a "
                       "data set of other classes")


def add_snapshot(
    parser: argparse.ArgumentParser, datasets: Collection[str] = (), default: str = ""
) -> None:
    """Which network; of `datasets` it may have the classes without saying so.

    `default` is what is taken without the option, in words.
    """
    group = parser.add_argument_group("network")
    group.add_argument("--snapshot", metavar="FILE|DIR|NAME",
                       help="checkpoint of train.py or a published one, folder of a training or "
                       "of the model hub, or the hub's OWNER/NAME; says all about the network"
                       + f" (default: {default})" * bool(default))
    add_eval_size(group, "that of the snapshot's training, else no resize")
    group.add_argument("--bits", type=int, choices=DEPTHS, help="that a value of a 16-bit image "
                       "has (default: as in the snapshot's training, else 16)")
    if datasets:
        group.add_argument("--dataset", choices=tuple(datasets), help="whose the classes of a "
                           "network are that has no names of them")


def choose_snapshot(args: argparse.Namespace) -> None:
    """Where no --snapshot is given, the network that comes with the project.

    Raises ValueError: it is not there.
    """
    if args.snapshot is None:
        if not DEFAULT_SNAPSHOT.is_file():
            raise FileNotFoundError(f"{DEFAULT_SNAPSHOT}: missing; give a network by --snapshot")
        args.snapshot = str(DEFAULT_SNAPSHOT)
        _say(f"network: {SHIPPED}, 11 classes of streets (CamVid), for "
             "research, terms in weights/README.md; --snapshot takes another")


def see_as_trained(args: argparse.Namespace, snapshot: dict[str, Any]) -> None:
    """Where no --eval-size, --bits or --exif is given, those of the snapshot's training."""
    for name in ("bits", "exif"):
        setattr(args, name, getattr(args, name, None) or snapshot["dataset"].get(name))
    if args.eval_size is None and (longer := snapshot.get("eval_size")):
        args.eval_size = [longer]
        _say(f"images are seen with {longer} pixels on their longer side, as in the network's "
             "training (--eval-size)")


def _say(text: str) -> None:
    from utils import distributed  # PyTorch, which --help does without

    distributed.say(text)


def check_output(path: str | None) -> None:
    """Refuses a file that could not be written after the work is done.

    Raises ValueError: its folder is missing or cannot be written, or it is a folder.
    """
    if not path:
        return
    if not Path(path).resolve().parent.is_dir():
        raise ValueError(f"{path}: its folder does not exist; make it first")
    if Path(path).is_dir():
        raise ValueError(f"{path}: is a folder; give the name of a file")
    if Path(path).is_file() or not Path(path).exists():  # not a device
        check_folder(Path(path).resolve().parent)
