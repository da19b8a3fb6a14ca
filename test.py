"""Predicts a split for a benchmark server and packs it: a zip of id PNGs that has been checked.

examples:
  python test.py --snapshot runs/NAME/best.pth --data-root data/cityscapes --save-dir results/test
  python -m torch.distributed.run --standalone --nproc-per-node 8 test.py --snapshot best.pth \\
      --save-dir results/test --skip-done
  python test.py --check-zip theirs.zip --dataset kitti --data-root data/kitti

Writes to SAVE_DIR: pred/ with the data set's ids (not train ids) at each image's own size, under
the names that the benchmark expects; DATASET_SPLIT.zip of it, once every file is there and right;
and test.json. --skip-done goes on after an interruption. --check-zip says what is wrong with a zip
or a folder that somebody else made.
"""

import argparse
from pathlib import Path

from torch.utils.data import Subset
from tqdm import tqdm

from datasets import DATASETS, build_as_trained, build_dataset, dataset_of, describe, find_root
from datasets.base import SegmentationDataset
from datasets.classes import match_classes
from datasets.evaluation.predictions import expected_package
from datasets.transforms import EvalTransform
from model.hub import weights_file
from model.snapshot import open_predictor, read_snapshot
from utils import distributed
from utils.files import settings_of, write_json
from utils.inference.predictor import Predictor, Workload
from utils.locks import hold_folder
from utils.options.data import (
    SHIPPED,
    add_class_map,
    add_data,
    add_device,
    add_snapshot,
    see_as_trained,
)
from utils.options.parser import Parser
from utils.options.prediction import add_compile, add_inference, build_inference
from utils.stopping import run
from utils.submission.folder import DONE, ResultsFolder
from utils.submission.package import inspect
from utils.workers import read_shard

# Options that say nothing about what a prediction is; with --skip-done they may change.
PASSING = {"save_dir", "skip_done", "pictures", "check_zip", "data_root", "limit", "workers",
           "device", "threads", "window_batch", "debug"}


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    add_snapshot(parser)
    add_data(parser, DATASETS, default=None, split="test")
    add_class_map(parser)
    add_inference(parser)
    add_compile(parser)
    group = parser.add_argument_group("package")
    group.add_argument("--save-dir", metavar="DIR",
                       help="gets the predictions; must not hold any yet, except with --skip-done")
    group.add_argument("--skip-done", action=argparse.BooleanOptionalAction, default=False,
                       help="keep the predictions that are in --save-dir already, if they are "
                       "whole and of the same network and settings")
    group.add_argument("--pictures", action=argparse.BooleanOptionalAction, default=False,
                       help="write rgb/ (colors) and compose/ (colors over the image) too")
    group.add_argument("--check-zip", metavar="FILE",
                       help="only say what is wrong with this zip or folder; needs --dataset")
    add_device(parser)
    args = parser.parse_args()
    if args.check_zip and not args.dataset:
        parser.error("--check-zip: give --dataset NAME")
    if not args.check_zip and not (args.snapshot and args.save_dir):
        parser.error(f"give --snapshot FILE, as {SHIPPED}, and --save-dir DIR, or --check-zip "
                     "FILE")
    return args


def check_zip(args: argparse.Namespace) -> None:
    """Refuses or accepts a package that is there."""
    dataset = build_dataset(args.dataset, find_root(args.dataset, args.data_root), args.split,
                            None, args.holdout, args.cv_split, args.limit)
    dataset.exif = args.exif
    package = expected_package(args.dataset, dataset)
    findings = inspect(Path(args.check_zip), package)
    findings.raise_faults(Path(args.check_zip))
    print(findings.report(Path(args.check_zip), package))


def predict(
    predictor: Predictor, dataset: SegmentationDataset, missing: list[int], results: ResultsFolder,
    workers: int,
) -> None:
    """Writes this rank's part of the predictions."""
    items = list(results.package.sizes.items())
    samples = read_shard(Subset(dataset, missing), workers, predictor.device)
    silent = None if distributed.rank() == 0 else True
    bar = tqdm(samples, desc="predict", disable=silent, unit="image")
    for place, (image, _) in zip(samples.sampler, bar, strict=True):
        index = missing[place]
        path, size = items[index]
        train_ids = predictor(image, size).cpu().numpy()
        if results.pictures:  # first, so that a finished prediction has its pictures
            pixels = dataset.read_image(index)
            results.write_pictures(path, train_ids, pixels, dataset.palette)
        results.write(path, train_ids)


def main() -> None:
    args = parse_args()
    if args.check_zip:
        check_zip(args)
        return
    inference = build_inference(args)
    device = distributed.start(args.device, args.threads)
    snapshot = read_snapshot(args.snapshot)
    see_as_trained(args, snapshot)
    name = args.dataset or dataset_of(snapshot)["name"]
    dataset = build_as_trained({} if args.class_map else snapshot["dataset"], name,
                               find_root(name, args.data_root), args.split,
                               EvalTransform(args.eval_size),
                               (args.holdout, args.cv_split, args.limit))
    dataset.exif, dataset.bits, args.cv_split = args.exif, args.bits, dataset.cv_split
    known = dataset_of(snapshot, describe(dataset, name))
    table = match_classes(known["class_names"], dataset.class_names, args.snapshot, args.class_map)

    package = expected_package(name, dataset)
    results = ResultsFolder(Path(args.save_dir), package, f"{name}_{args.split}", args.pictures)
    settings = settings_of({**vars(args), "dataset": name, "snapshot": weights_file(args.snapshot)},
                           PASSING, ("snapshot", "class_map"))
    lock = hold_folder(results.folder)
    settings = results.check(settings, go_on=args.skip_done)
    images = [sample.image for sample in dataset.samples]
    missing = results.unfinished(images, device) if args.skip_done else list(range(len(images)))
    main_rank = distributed.rank() == 0
    workload = Workload(dataset[0][0].shape[:2], len(dataset))
    predictor = open_predictor(snapshot, device, settings["precision"], inference, table,
                               settings["compile"], workload)
    compiled = bool(settings["compile"] or predictor.forward)
    settings |= {"precision": predictor.precision, "compile": compiled}
    if main_rank:
        results.start(settings)
    distributed.barrier()
    predict(predictor, dataset, missing, results, args.workers)
    distributed.stop()  # all predictions are there, and the others need not wait for the package
    if main_rank:
        findings = results.pack()
        write_json(results.folder / DONE, {
            "snapshot": args.snapshot, "precision": predictor.precision, "compile": compiled,
            "dataset": name, "split": args.split, "images": len(dataset),
            "package": results.zip.name})
        print(f"{len(missing)} of {len(dataset)} images of {name} {args.split} predicted now")
        print(findings.report(results.zip, package))
    lock.release()


if __name__ == "__main__":
    run(main)
