"""Segments every image of a folder: color mask, id mask, overlay of each.

examples:
  python demo_folder.py --demo-folder photos --snapshot runs/NAME/best.pth --save-dir out
  python demo_folder.py --demo-folder photos --snapshot best.pth --outputs overlay --legend

Images are read, segmented and written at the same time. Damaged ones are passed over with a line;
the exit code is then 1.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets import complete
from datasets.folder import SUFFIXES
from model import read_snapshot
from model.prediction import open_predictor
from utils import disk, distributed, options
from utils.exit_codes import run
from utils.images import read_image, shown
from utils.pipeline import Pace, pipeline
from utils.predictions import Painter
from utils.signals import Stopped, StopRequest


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.add_argument("--demo-folder", required=True, metavar="DIR", help="the images")
    options.add_snapshot(parser)
    options.add_pictures(parser)
    options.add_inference(parser)
    options.add_compile(parser)
    options.add_device(parser)
    return parser.parse_args()


def find_images(folder: Path, save_dir: Path) -> dict[Path, str]:
    """Path -> beginning of the names of its pictures.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: the pictures would lie among the images, or cannot be written.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder")
    files = sorted(path for path in folder.iterdir()
                   if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if folder.resolve() == save_dir.resolve():
        raise ValueError("--save-dir is --demo-folder: the next run would take its own pictures")
    if not files:
        raise FileNotFoundError(f"{shown(folder)}: no images in it")
    disk.check_folder(save_dir)
    stems = [path.stem for path in files]
    # a.png and a.jpg must not overwrite each other
    return {path: path.stem if stems.count(path.stem) == 1 else path.name for path in files}


def main() -> None:
    args = parse_args()
    device = distributed.start(args.device, args.threads)
    names = find_images(Path(args.demo_folder), Path(args.save_dir))
    snapshot = read_snapshot(args.snapshot)
    dataset = complete(snapshot["dataset"], snapshot["model"]["num_classes"])
    predictor = open_predictor(snapshot, device, args.precision, options.build_inference(args),
                               compiled=args.compile)
    painter, stop, pace = Painter(dataset, args.opacity, args.legend), StopRequest(), Pace(device)

    def write(path: Path, image: np.ndarray, prediction: Tensor) -> None:
        painter.write(Path(args.save_dir), names[path], image, prediction, args.outputs)

    done = pipeline(names, partial(read_image, upright=True),
                    pace.timed(partial(predictor.picture, seen=args.eval_size)), write,
                    torch.get_num_threads(), stop)
    passed_over = written = 0
    for each in tqdm(done, total=len(names), disable=None, unit="image"):
        passed_over, written = passed_over + bool(each.fault), written + (not each.fault)
        if each.fault:
            tqdm.write(f"passed over: {each.fault}", file=sys.stderr)
    print(f"{written} of {len(names)} files segmented: {args.save_dir}", pace, sep="\n")
    if stop:
        raise Stopped(stop.number)
    sys.exit(1 if passed_over else 0)


if __name__ == "__main__":
    run(main)
