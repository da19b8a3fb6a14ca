"""Exports a network to ONNX, and checks that it computes the same.

examples:
  python export.py --snapshot runs/NAME/best.pth --output street.onnx --images photos
  python export.py --snapshot best.pth --output street.onnx --images photos --labels
  python export.py --snapshot best.pth --output street_int8.onnx --images photos --int8
  python demo.py --snapshot street.onnx --demo-image street.jpg

Pixels in: (N, 3, H, W) uint8 RGB of any size from 32; normalization is inside. Out: full-size
logits, or with --labels (N, H, W) uint8. The file is there only if it passed the check.
"""

import argparse
import os
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from datasets import TABLES, dataset_of
from datasets.folder import list_images
from model.onnx_export import ExportedNetwork, quantize, write_onnx
from model.snapshot import from_snapshot, read_snapshot
from utils import distributed
from utils.images import read_image, resize_image
from utils.options.data import SHIPPED, check_output
from utils.options.parser import Parser, positive, side, threads
from utils.stopping import run

TOLERANCE = 1e-3  # of the largest logit


class Agreement(NamedTuple):
    """Of an exported network with the one it was written from, over some images."""

    difference: float  # the largest, as part of the largest logit
    labels: float  # part of the pixels with the same label

    def __str__(self) -> str:
        return (f"labels agree on {100 * self.labels:.3f} % of the pixels, logits differ by at "
                f"most {self.difference:.1e} of the largest")


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--snapshot", metavar="FILE|DIR|NAME",
                        help="the checkpoint, a folder of a training or of the model hub, or the "
                        "hub's OWNER/NAME")
    parser.add_argument("--dataset", choices=tuple(TABLES), help="whose the classes of a network "
                        "are that has no names of them")
    parser.add_argument("--output", required=True, metavar="FILE", help="the ONNX file to write")
    parser.add_argument("--images", required=True, metavar="DIR",
                        help="folder of photos to check with, and for --int8 to take ranges from")
    parser.add_argument("--limit", type=positive, default=8, metavar="N",
                        help="how many photos are used")
    parser.add_argument("--size", type=side, nargs=2, metavar=("H", "W"),
                        help="pixels, photos are resized to (default: as in the snapshot's "
                        "training, else their own)")
    parser.add_argument("--labels", action="store_true", help="put the choice of a class in too")
    parser.add_argument("--int8", action="store_true",
                        help="8-bit weights and activations of convolutions; says what it costs")
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads")
    return parser.parse_args()


def read_photos(
    args: argparse.Namespace, size: Sequence[int] | None, bits: int | None
) -> list[np.ndarray]:
    """(1, 3, H, W) uint8 each, at `size` if given. Raises FileNotFoundError, ValueError."""
    files = list_images(Path(args.images))[: args.limit]
    photos = (read_image(path, upright=True, bits=bits) for path in files)
    resized = (resize_image(photo, size) if size else photo for photo in photos)
    return [np.ascontiguousarray(photo.transpose(2, 0, 1)[None]) for photo in resized]


@torch.inference_mode()
def compare(
    network: torch.nn.Module, exported: ExportedNetwork, photos: list[np.ndarray]
) -> Agreement:
    """How far both agree."""
    differences, same, pixels = [0.0], 0, 0
    for photo in map(torch.from_numpy, photos):
        expected, found = network(photo), exported(photo)
        if not expected.sum().isfinite():  # which agree with whatever
            warnings.warn("the network gives logits that are not finite", stacklevel=1)
        labels = expected.argmax(1) == found.argmax(1)
        same, pixels = same + int(labels.sum()), pixels + labels.numel()
        if not exported.labels:
            largest = expected.abs().max()
            differences.append(float((found - expected).abs().max() / largest))
    return Agreement(max(differences), same / pixels)


def main() -> None:
    args = parse_args()
    if not args.snapshot:
        raise ValueError(f"--snapshot FILE: give the checkpoint, as {SHIPPED}")
    check_output(args.output)
    if Path(args.output).suffix != ".onnx":
        raise ValueError(f"{args.output}: give a name that ends in .onnx")
    distributed.start("cpu", args.threads)
    snapshot = read_snapshot(args.snapshot, weights=True)
    longer = snapshot.get("eval_size")
    if longer and not args.size:
        distributed.say(f"photos are seen with {longer} pixels on their longer side, as in the "
                        "network's training (--size)")
    photos = read_photos(args, args.size or ([longer] if longer else None),
                         snapshot["dataset"].get("bits"))
    network = from_snapshot(snapshot)
    about = {"model": snapshot["model"], "eval_size": longer,
             "dataset": dataset_of(snapshot, {"name": args.dataset})}
    with tempfile.TemporaryDirectory(dir=Path(args.output).resolve().parent) as folder:
        written = Path(folder) / "fp32.onnx"
        write_onnx(network, about, written, args.labels)
        agreement = compare(network, ExportedNetwork(written), photos)
        print(f"fp32: {agreement}")
        if agreement.difference > TOLERANCE or agreement.labels < 1 - TOLERANCE:
            raise RuntimeError(f"{args.output}: not written: the export computes something else")
        if args.int8:
            source, written = written, Path(folder) / "int8.onnx"
            quantize(source, written, photos)
            print(f"int8: {compare(network, ExportedNetwork(written), photos)}")
        os.replace(written, args.output)
    print(f"{args.output}: {Path(args.output).stat().st_size / 1e6:.1f} MB, {len(photos)} photos "
          "compared")


if __name__ == "__main__":
    run(main)
