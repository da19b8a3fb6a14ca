"""Segments one image: color mask, id mask, overlay.

examples:
  python demo.py --demo-image street.png
  python demo.py --demo-image street.png --snapshot runs/NAME/best.pth
  python demo.py --demo-image street.jpg --snapshot cityscapes.pth --save-dir out --legend

PNG, JPEG, WebP, BMP, TIFF, and HEIC where pillow-heif is installed; EXIF rotation is applied.
"""

import argparse
from pathlib import Path

from datasets import TABLES, dataset_of
from utils.files import check_folder
from utils.images import allow_pixels, read_image, seen_size
from utils.options.data import SHIPPED, add_device, add_snapshot, choose_snapshot, see_as_trained
from utils.options.parser import Parser
from utils.options.prediction import add_inference, add_pictures, build_inference
from utils.pictures import Painter, class_shares, picture_paths, replaced
from utils.stopping import run


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--demo-image", required=True, metavar="FILE", help="the image")
    add_snapshot(parser, TABLES, SHIPPED)
    add_pictures(parser)
    add_inference(parser)
    add_device(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    # Here, for PyTorch takes longer than all the rest: not before a word of help.
    from model.snapshot import open_predictor, read_snapshot
    from utils import distributed
    from utils.inference.predictor import Workload

    allow_pixels(args.max_pixels)
    check_folder(Path(args.save_dir))
    device = distributed.start(args.device, args.threads)
    choose_snapshot(args)
    snapshot = read_snapshot(args.snapshot)
    see_as_trained(args, snapshot)
    image = read_image(args.demo_image, upright=True, bits=args.bits)
    dataset = dataset_of(snapshot, {"name": args.dataset})
    predictor = open_predictor(snapshot, device, args.precision, build_inference(args),
                               workload=Workload(seen_size(image.shape[:2], args.eval_size), 1))
    prediction = predictor.label_map(image, args.eval_size)
    painter = Painter(dataset, args.opacity, args.legend, args.percentages)
    name, folder = Path(args.demo_image).stem, Path(args.save_dir)
    over = replaced(picture_paths(folder, name, args.outputs).values())
    paths = painter.write(folder, name, image, prediction, args.outputs)
    for name, share in class_shares(prediction, dataset).items():
        print(f"{100 * share:6.2f} %  {name}")
    print(*paths, *filter(None, [over]), sep="\n")


if __name__ == "__main__":
    run(main)
