"""Segments every image of a folder: color mask, id mask, overlay of each.

examples:
  python demo_folder.py --demo-folder photos --snapshot runs/NAME/best.pth --save-dir out

Damaged images are passed over with a line; the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from datasets import complete
from datasets.folder import SUFFIXES
from model import read_snapshot
from model.prediction import open_predictor
from utils import distributed, options
from utils.exit_codes import run
from utils.images import read_image, shown
from utils.predictions import write_prediction


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.add_argument("--demo-folder", required=True, metavar="DIR", help="the images")
    options.add_snapshot(parser)
    options.add_pictures(parser)
    options.add_inference(parser)
    options.add_compile(parser)
    options.add_device(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = distributed.start(args.device, args.threads)
    folder = Path(args.demo_folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder")
    files = sorted(path for path in folder.iterdir()
                   if path.suffix.lower() in SUFFIXES and not path.name.startswith("."))
    if folder.resolve() == Path(args.save_dir).resolve():
        raise ValueError("--save-dir is --demo-folder: the next run would take its own pictures")
    if not files:
        raise FileNotFoundError(f"{shown(folder)}: no images in it")
    snapshot = read_snapshot(args.snapshot)
    dataset = complete(snapshot["dataset"], snapshot["model"]["num_classes"])
    predictor = open_predictor(snapshot, device, args.precision, options.build_inference(args),
                               compiled=args.compile)
    stems = [path.stem for path in files]
    passed_over = 0
    for path in tqdm(files, disable=None, unit="image"):
        try:
            image = read_image(path, upright=True)
        except (OSError, ValueError) as error:
            tqdm.write(f"passed over: {error}", file=sys.stderr)
            passed_over += 1
            continue
        prediction = predictor.picture(image, args.eval_size)
        # a.png and a.jpg must not overwrite each other
        name = path.stem if stems.count(path.stem) == 1 else path.name
        write_prediction(Path(args.save_dir), name, image, prediction, dataset, args.opacity,
                         args.legend)
    print(f"{len(files) - passed_over} of {len(files)} files segmented: {args.save_dir}")
    sys.exit(1 if passed_over else 0)


if __name__ == "__main__":
    run(main)
