"""Segments one image: color mask, id mask, overlay.

examples:
  python demo.py --demo-image street.png --snapshot runs/NAME/best.pth
  python demo.py --demo-image street.jpg --snapshot cityscapes.pth --save-dir out --legend

PNG, JPEG, WebP, BMP and TIFF of any size; EXIF rotation is applied.
"""

import argparse
from pathlib import Path

from datasets import dataset_of
from model.snapshot import open_predictor, read_snapshot
from utils import distributed, options
from utils.images import read_image
from utils.pictures import Painter, class_shares
from utils.stopping import run


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.add_argument("--demo-image", required=True, metavar="FILE", help="the image")
    options.add_snapshot(parser)
    options.add_pictures(parser)
    options.add_inference(parser)
    options.add_device(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    device = distributed.start(args.device, args.threads)
    image = read_image(args.demo_image, upright=True)
    snapshot = read_snapshot(args.snapshot)
    dataset = dataset_of(snapshot)
    predictor = open_predictor(snapshot, device, args.precision, options.build_inference(args))
    prediction = predictor.picture(image, args.eval_size)
    painter = Painter(dataset, args.opacity, args.legend, args.percentages)
    paths = painter.write(Path(args.save_dir), Path(args.demo_image).stem, image, prediction,
                          args.outputs)
    for name, share in class_shares(prediction, dataset).items():
        print(f"{100 * share:6.2f} %  {name}")
    print("\n".join(str(path) for path in paths))


if __name__ == "__main__":
    run(main)
