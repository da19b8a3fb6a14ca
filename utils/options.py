"""Every option of every script, in groups that the scripts compose."""

import argparse
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from utils.argument_types import OneOrTwo, positive, share, whole
from utils.augmentation_options import add_augmentation as add_augmentation
from utils.augmentation_options import check_augmentation
from utils.inference_options import add_compile as add_compile
from utils.inference_options import add_inference as add_inference
from utils.inference_options import build_inference as build_inference
from utils.loss_options import add_loss as add_loss
from utils.loss_options import build_loss_options as build_loss_options
from utils.loss_options import check_loss
from utils.network_options import add_network as add_network
from utils.network_options import starting_network as starting_network
from utils.optimization_options import add_optimization as add_optimization
from utils.optimization_options import check_optimization
from utils.parser import Parser as Parser
from utils.picture_options import add_pictures as add_pictures
from utils.schedules import add_schedule as add_schedule
from utils.schedules import build_schedule as build_schedule
from utils.schedules import check_schedule
from utils.video_options import add_source as add_source
from utils.video_options import add_video as add_video
from utils.video_options import check_source as check_source


def add_device(parser: argparse.ArgumentParser) -> None:
    """Where and how it computes."""
    group = parser.add_argument_group("device")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    group.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16", "fp16"),
                       help="of the forward; auto is bf16 where it is fast: on a CPU where, timed "
                       "once, it is 5 %% faster than fp32; a resumed run keeps what it has")
    group.add_argument("--threads", type=positive, metavar="N",
                       help="CPU threads per process (default: cores / processes)")


def add_data(
    parser: argparse.ArgumentParser, names: Collection[str], default: str | None, split: str | None
) -> Any:
    """Which images; returns the group."""
    group = parser.add_argument_group("data")
    group.add_argument("--dataset", default=default, choices=tuple(names),
                       help="layout and classes"
                       + ("" if default else " (default: those of the snapshot)"))
    group.add_argument("--data-root", metavar="DIR",
                       help="folder of the data set (default: $NAME_DATASET, else data/NAME)")
    if split:
        group.add_argument("--split", default=split, help="part of the data set")
    group.add_argument("--holdout", metavar="GROUP",
                       help="city or sequence of train that becomes val")
    group.add_argument("--cv-split", type=whole, metavar="N",
                       help="published cross-validation of train and val: 0, 1 or 2")
    group.add_argument("--limit", type=positive, metavar="N", help="first N images of a split only")
    group.add_argument("--workers", type=whole, default=min(4, os.cpu_count() or 1), metavar="N",
                       help="processes that read images, per process that computes")
    return group


def add_eval_size(group: Any) -> None:
    """The size that a network sees in evaluation."""
    group.add_argument("--eval-size", type=positive, nargs="+", action=OneOrTwo,
                       metavar=("H", "W"),
                       help="pixels, images are resized to H W, or to a longer side of one number, "
                       "before the network; scores and predictions have the original size "
                       "(default: no resize)")


def add_eval_crop(group: Any) -> None:
    """The part of an image that is scored."""
    group.add_argument("--eval-crop", type=positive, nargs=2, metavar=("H", "W"),
                       help="pixels, only this center of the resized image is scored, at that "
                       "size (default: the whole image at its own size)")


def add_class_map(group: Any) -> None:
    """What the network's classes are in another data set."""
    group.add_argument("--class-map", metavar="FILE",
                       help="lines \"network's class = data set's class\", to score a network on a "
                       "data set of other classes")


def add_snapshot(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Which network."""
    group = parser.add_argument_group("network")
    group.add_argument("--snapshot", required=required, metavar="FILE",
                       help="checkpoint of train.py or a published one; says all about the network")
    add_eval_size(group)


def add_training_data(parser: argparse.ArgumentParser) -> None:
    """What an epoch consists of."""
    group = parser.add_argument_group("training data")
    group.add_argument("--train-split", default="train", metavar="SPLIT",
                       help="part of the data set to train on; trainval, or parts joined by +, as "
                       "train+train_extra")
    group.add_argument("--class-uniform", type=share, default=0.0, metavar="X",
                       help="share of an epoch that is crops around pixels of every class equally "
                       "often, for example 0.5; 0 is none")
    group.add_argument("--tile", type=positive, default=1024, metavar="PIXELS",
                       help="side of the label tiles that give one such crop center per class")
    group.add_argument("--coarse-boost", nargs="*", default=[], metavar="CLASS",
                       help="classes that get crop centers from the coarse labels too")
    group.add_argument("--propagated-root", metavar="DIR",
                       help="frames and labels made from video, in the data set's own layout")
    group.add_argument("--propagated-skip", type=positive, nargs="+", default=[3], metavar="K",
                       help="take the frames K before and after each labelled one")
    group.add_argument("--max-cu-epoch", type=positive, metavar="N",
                       help="epochs after which propagated frames and coarse labels are left out")
    add_cache(group)


def add_cache(group: Any) -> None:
    """Decoded samples on disk."""
    group.add_argument("--cache", choices=("raw",),
                       help="read decoded samples from a copy beside the data, made when missing: "
                       "raw takes 4 bytes a pixel (25 GB of Cityscapes); of big sets, make it "
                       "beforehand with preprocess_data.py")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Where a training starts, what it writes, when."""
    group = parser.add_argument_group("start and output")
    group.add_argument("--run-dir", metavar="DIR",
                       help="folder of checkpoints and logs (default: runs/ARCH-DATASET-TIME)")
    group.add_argument("--resume", nargs="?", const="", metavar="DIR",
                       help="continue the training in DIR, or in --run-dir, with its options; "
                       "options given beside it replace them")
    group.add_argument("--init", "--snapshot", metavar="FILE",
                       help="start from a network's weights; a head of another class count is new")
    group.add_argument("--pretrained-encoder", metavar="FILE|imagenet",
                       help="weights for the encoder alone; imagenet downloads torchvision's, "
                       "or for smp: those of segmentation_models_pytorch")
    group.add_argument("--val-every", type=positive, default=1, metavar="N",
                       help="epochs between validations")
    add_eval_size(group)
    add_eval_crop(group)
    group.add_argument("--save-every", type=positive, default=500, metavar="N",
                       help="steps between checkpoints; every validation writes one too")
    group.add_argument("--log-every", type=positive, default=10, metavar="N",
                       help="steps between records in log.jsonl and TensorBoard")


def check_training(args: argparse.Namespace, world: int, cuda: bool) -> None:
    """Refuses combinations that would fail later.

    Raises:
        ValueError: what was given, what is allowed.
    """
    if args.init and args.pretrained_encoder:
        raise ValueError("--init and --pretrained-encoder: give one of them")
    check_augmentation(args)
    check_optimization(args, world, cuda)
    check_loss(args)
    check_schedule(args)


def parse_resumable(parser: Parser) -> tuple[argparse.Namespace, dict[str, Any] | None]:
    """The options, and with --resume the newest checkpoint, whose options fill in the rest.

    Raises:
        FileNotFoundError, ValueError: nothing to resume.
    """
    # Imported late: with them comes torch, which takes seconds that a download need not wait.
    from utils import checkpoint, run_folder

    args = parser.parse_args()
    if args.resume is None:
        return args, None
    encoder = vars(args).get("pretrained_encoder")  # not of every training
    if args.init or encoder or (args.resume and args.run_dir):
        raise ValueError("--resume DIR: not with --init, --pretrained-encoder or --run-dir; "
                         "weights and folder are those of DIR")
    folder = args.resume or args.run_dir
    if not folder:
        runs = sorted(Path("runs").glob(f"*/{run_folder.LAST}"), key=lambda p: p.stat().st_mtime)
        if not runs:
            raise FileNotFoundError("--resume: no training under runs/; give its folder")
        folder = runs[-1].parent
    if Path(folder).is_file():  # last.pth itself
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


def check_output(path: str | None) -> None:
    """Refuses a file that could not be written after the work is done.

    Raises:
        ValueError: its folder is missing.
    """
    if path and not Path(path).resolve().parent.is_dir():
        raise ValueError(f"{path}: its folder does not exist; make it first")
