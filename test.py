"""Predicts a split for a benchmark server: one PNG of ids per image, at the image's own size.

examples:
  python test.py --snapshot runs/NAME/best.pth --data-root data/cityscapes --save-dir results/test
  python -m torch.distributed.run --standalone --nproc-per-node 8 test.py --snapshot best.pth \\
      --save-dir results/test

Writes SAVE_DIR/pred/NAME.png with the data set's ids (not train ids) and, when all are there,
SAVE_DIR/test.json.
"""

import argparse
import json
from pathlib import Path

import torch
from tqdm import tqdm

from datasets import DATASETS, build_dataset, complete, find_root
from datasets.class_map import match_classes
from datasets.transforms import EvalTransform
from model import from_snapshot, read_snapshot
from utils import checkpoint, distributed, options
from utils.exit_codes import run
from utils.images import write_png
from utils.inference import Predictor, choose_precision, read_shard
from utils.predictions import to_ids


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    options.add_snapshot(parser)
    options.add_data(parser, DATASETS, default=None, split="test")
    options.add_class_map(parser)
    options.add_inference(parser)
    parser.add_argument("--save-dir", required=True, metavar="DIR",
                        help="gets the predictions; must not hold any yet")
    options.add_device(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = distributed.start(args.device, args.threads)
    folder = Path(args.save_dir)
    if any(folder.glob("pred/*")):
        raise ValueError(f"{folder}/pred: holds predictions; choose another --save-dir, so that "
                         "two networks do not mix")
    distributed.barrier()
    snapshot = read_snapshot(args.snapshot)
    known = complete(snapshot["dataset"], snapshot["model"]["num_classes"])
    name = args.dataset or known["name"]
    dataset = build_dataset(name, find_root(name, args.data_root), args.split,
                            EvalTransform(args.eval_size), args.holdout, args.cv_split, args.limit)
    table = match_classes(known["class_names"], dataset.class_names, args.snapshot,
                          args.class_map)
    sizes = dataset.sizes()

    network = from_snapshot(snapshot).to(device, memory_format=torch.channels_last)
    predictor = Predictor(network, choose_precision(device, args.precision), table,
                          options.build_inference(args))
    samples = read_shard(dataset, args.workers)
    silent = None if distributed.rank() == 0 else True
    bar = tqdm(samples, disable=silent, unit="image")
    for index, (image, _) in zip(samples.sampler, bar, strict=True):
        ids = to_ids(predictor(image, sizes[index]).cpu().numpy(), dataset.train_id_to_id)
        write_png(folder / "pred" / f"{dataset.samples[index].name}.png", ids)
    distributed.barrier()
    if distributed.rank() == 0:
        done = {"snapshot": args.snapshot, "dataset": name, "split": args.split,
                "images": len(dataset)}
        checkpoint.write_bytes(folder / "test.json", json.dumps(done, indent=1).encode())
        print(f"{len(dataset)} predictions of {name} {args.split}: {folder / 'pred'}")
    distributed.stop()


if __name__ == "__main__":
    run(main)
