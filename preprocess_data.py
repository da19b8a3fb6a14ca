"""Prepares a data set, once: checks it, writes train-id labels, class weights, decoded samples.

examples:
  python preprocess_data.py --check --dataset cityscapes --data-root data/cityscapes
  python preprocess_data.py --check --dataset folder --data-root mine --json faults.json
  python preprocess_data.py --dataset cityscapes --data-root data/cityscapes --train-ids
  python preprocess_data.py --dataset camvid --class-weights weights.json --split train
  python preprocess_data.py --train-ids --save-dir meta/label_imgs --void-id 19
  python preprocess_data.py --cache raw --split train --workers 16

Nothing here is needed for training: train.py maps ids while it reads. It serves other programs
that want `_gtFine_labelTrainIds.png` files, or flat NAME.png files of train ids: for fregu856's
meta/label_imgs give --save-dir and --void-id 19. Safe to interrupt: what is right stays.

--check reads every file once and says of every fault what is wrong, where, and how to mend it.
Errors, which would stop a training or spoil it silently, end it with exit code 2. Notes do not:
counts other than published, classes that never occur, hidden and unused files.
"""

import argparse
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets import DATASETS, build_dataset, doctor, find_root
from datasets.base import SegmentationDataset
from datasets.cache.decoded import open_cache
from datasets.cache.per_label import cache_folder, count_class_pixels
from datasets.doctor.report import lines, verdict
from datasets.reading import check_exif, find_bits
from datasets.samples import Sample
from model.losses import CLASS_WEIGHTS, class_weights
from utils.files import write_json
from utils.images import read_label, write_png
from utils.labels import IGNORE
from utils.options.data import add_data, check_output
from utils.options.parser import Parser, whole
from utils.options.training import add_cache
from utils.stopping import run
from utils.workers import map_in_threads


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_data(parser, DATASETS, default="cityscapes", split=None)
    parser.add_argument("--split", help="part of the data set (default: train; with --check, all "
                        "that are there)")
    group = parser.add_argument_group("what to check")
    group.add_argument("--check", action=argparse.BooleanOptionalAction, default=False,
                       help="read every file, with --workers threads, and report what is wrong; "
                       "changes nothing")
    group.add_argument("--json", metavar="FILE",
                       help="write all that --check found there; only with --check")
    group = parser.add_argument_group("what to prepare")
    group.add_argument("--train-ids", action=argparse.BooleanOptionalAction, default=False,
                       help="write every label as train ids")
    group.add_argument("--save-dir", metavar="DIR",
                       help="folder of these labels, as NAME.png (default: beside the labels)")
    group.add_argument("--void-id", type=whole, default=IGNORE, metavar="N",
                       help="id of the pixels that do not count, in the labels written")
    group.add_argument("--class-weights", metavar="FILE",
                       help="write pixels, shares and weights of the classes there, as JSON")
    add_cache(group)
    group.add_argument("--verify", action=argparse.BooleanOptionalAction, default=False,
                       help="compare what --cache finds with its checksums; damage is made again")
    return parser.parse_args()


def train_id_path(sample: Sample, folder: str | None) -> Path:
    """Where the train-id label of a sample goes; ValueError where it would be one of the labels."""
    if folder:
        return Path(folder) / f"{sample.name}.png"
    name = sample.label.name.replace("_labelIds", "_labelTrainIds")
    if name == sample.label.name:
        raise ValueError(f"{sample.label}: give --save-dir; only *_labelIds.png have a place "
                         "for train ids beside them")
    return sample.label.with_name(name)


def write_train_ids(dataset: SegmentationDataset, index: int, path: Path, void_id: int) -> bool:
    """Writes the label of a sample; False if it was there."""
    target = dataset.to_train_ids(dataset.read_ids(index), index)
    target[target == IGNORE] = void_id
    with suppress(FileNotFoundError, ValueError):  # not there, or damaged
        if np.array_equal(read_label(path), target):  # dates of unpacked files say nothing
            return False
    write_png(path, target)
    return True


def weights_report(dataset: SegmentationDataset, pixels: torch.Tensor) -> dict[str, dict]:
    """Per class: pixels, share of the counted pixels, every kind of weight."""
    kinds = [kind for kind, constant in CLASS_WEIGHTS.items() if constant]
    columns = {"pixels": pixels, "share": pixels.double() / pixels.sum(),
               **{kind: class_weights(kind, pixels) for kind in kinds}}
    return {name: {kind: values[i].item() for kind, values in columns.items()}
            for i, name in enumerate(dataset.class_names)}


def check_options(args: argparse.Namespace) -> None:
    """Refuses what does not go together. Raises ValueError."""
    others = args.train_ids or args.class_weights or args.cache
    if args.check and (others or args.holdout or args.cv_split is not None):
        raise ValueError("--check: not with --train-ids, --class-weights, --cache, --holdout, "
                         "--holdout-fraction, --cv-split")
    if args.json and not args.check:
        raise ValueError("--json: only with --check")
    if not (args.check or others):
        raise ValueError("nothing to do: give --check, --train-ids, --class-weights FILE "
                         "or --cache raw")
    if args.void_id > IGNORE:
        raise ValueError(f"--void-id {args.void_id}: 0 to 255 are possible")


def check(args: argparse.Namespace) -> None:
    """Prints what the data set doctor finds. Raises ValueError: errors were found."""
    root = find_root(args.dataset, args.data_root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root.resolve()}: no such folder; give --data-root DIR")
    report = doctor.check(args.dataset, root, args.split, args.limit, args.workers, args.exif)
    if args.json:  # first: the output may go into a pipe that ends
        write_json(args.json, report.to_json())
    print("\n".join(lines(report)), flush=True)
    if report.count("error"):
        raise ValueError(verdict(report))
    print(verdict(report))


def prepare(args: argparse.Namespace) -> None:
    """Writes train-id labels, class weights, decoded samples."""
    check_output(args.class_weights)
    root = find_root(args.dataset, args.data_root)
    split = args.split or "train"
    dataset = build_dataset(args.dataset, root, split, holdout=args.holdout,
                            cv_split=args.cv_split, limit=args.limit)
    dataset.exif = args.exif
    if args.cache:
        check_exif(dataset)
        dataset.bits = find_bits(dataset.samples)
        cache = open_cache(dataset, args.workers, args.verify)
        said = ", compared with their checksums" if args.verify else ""
        print(f"raw cache of {len(cache.entries)} samples{said}: {cache_folder(dataset.root)}")
    if not (args.train_ids or args.class_weights):
        return
    dataset.sizes()
    doctor.check_ids(args.dataset, dataset, 0, args.workers)
    if args.train_ids:
        if args.void_id < len(dataset.class_names):
            raise ValueError(f"--void-id {args.void_id}: is the train id of "
                             f"{dataset.class_names[args.void_id]}; give a larger one")
        paths = [train_id_path(sample, args.save_dir) for sample in dataset.samples]
        found = [dataset.files(part) for part in dataset.parts() if args.save_dir]
        files = [path for each in found if each.images
                 for path in [*each.images.values(), *each.labels.values()]]
        files += [sample.instance for sample in dataset.samples if sample.instance]
        own, taken = ({os.path.realpath(path.parent) for path in each} for each in (files, paths))
        if args.save_dir and own & taken:
            raise ValueError(f"--save-dir {args.save_dir}: holds files of the data set, which would"
                             " be written over; choose another")
        if len(set(paths)) < len(paths):
            raise ValueError(f"--split {split}: several labels have one name, as fine and coarse; "
                             "prepare one part at a time")
        jobs = map_in_threads(lambda i: write_train_ids(dataset, i, paths[i], args.void_id),
                              range(len(paths)), args.workers)
        written = sum(tqdm(jobs, total=len(paths), disable=None, unit="label"))
        print(f"{written} train-id labels written, {len(paths) - written} were there: "
              f"{paths[0].parent}")
    if args.class_weights:
        report = weights_report(dataset, count_class_pixels(dataset, args.workers))
        write_json(args.class_weights, report)
        for name, row in report.items():
            print(f"{name:16} {100 * row['share']:6.2f} %  enet {row['enet']:6.2f}  "
                  f"enet110 {row['enet110']:5.2f}")
        print(f"class weights of {len(dataset)} labels: {args.class_weights}")


def main() -> None:
    args = parse_args()
    check_options(args)
    check_output(args.json)
    (check if args.check else prepare)(args)


if __name__ == "__main__":
    run(main)
