"""Scores a network on a labelled split: IoU and accuracy per class, confusion matrix.

examples:
  python evaluate.py --snapshot runs/NAME/best.pth --data-root data/cityscapes
  python evaluate.py --snapshot best.pth --dataset camvid --split val --json scores.json
  python -m torch.distributed.run --standalone --nproc-per-node 8 evaluate.py --snapshot best.pth

The figures are exact: one matrix of integers over all images, at the labels' own size, the same
for any number of processes.
"""

import argparse
import json
from pathlib import Path

import torch

from datasets import DATASETS, build_dataset, complete, find_root
from datasets.class_map import match_classes
from datasets.transforms import EvalTransform
from model import from_snapshot, read_snapshot
from utils import checkpoint, distributed, options
from utils.exit_codes import run
from utils.inference import Predictor, choose_precision, validate


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    options.add_snapshot(parser)
    options.add_data(parser, DATASETS, default=None, split="val")
    options.add_eval_crop(parser)
    options.add_class_map(parser)
    options.add_inference(parser)
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    options.add_device(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    options.check_output(args.json)
    device = distributed.start(args.device, args.threads)
    snapshot = read_snapshot(args.snapshot)
    known = complete(snapshot["dataset"], snapshot["model"]["num_classes"])
    name = args.dataset or known["name"]
    dataset = build_dataset(name, find_root(name, args.data_root), args.split,
                            EvalTransform(args.eval_size, args.eval_crop),
                            args.holdout, args.cv_split, args.limit)
    table = match_classes(known["class_names"], dataset.class_names, args.snapshot,
                          args.class_map)
    dataset.sizes()
    if dataset.samples[0].label is None:
        raise ValueError(f"--split {args.split} has no labels; predict it with test.py")

    network = from_snapshot(snapshot).to(device, memory_format=torch.channels_last)
    predictor = Predictor(network, choose_precision(device, args.precision), table,
                          options.build_inference(args))
    confusion = validate(predictor, dataset, args.workers, progress=True)
    if distributed.rank() == 0:
        if args.json:  # before the table, which may go into a pipe that breaks
            scores = {"snapshot": args.snapshot, "dataset": name, "split": args.split,
                      **confusion.summary()}
            checkpoint.write_bytes(Path(args.json), json.dumps(scores, indent=1).encode())
        print(confusion.table())
        print(f"{confusion.images} images of {name} {args.split}, snapshot {args.snapshot}")
    distributed.stop()


if __name__ == "__main__":
    run(main)
