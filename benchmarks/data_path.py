"""Files to augmented training crops: images per second of one core.

examples:
  python -m benchmarks.data_path
  python -m benchmarks.data_path --images 20 --rounds 15

Every alternative decodes, scales by 0.5 to 2, crops, mirrors, changes colors and blurs. Ours leaves
normalization and label relaxation to the device that trains; the others end with them. `decoder`
is OpenCV alone, on bytes that are in memory already. Seconds are the processor's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from benchmarks.peers import JITTER, TorchvisionSample, load_gaussian, pillow_sample
from benchmarks.streets import write_streets
from benchmarks.timing import machine, ratio, table, take_turns
from datasets import build_dataset
from datasets.base import SegmentationDataset
from datasets.cache.decoded import open_cache
from datasets.transforms import TrainTransform
from utils.options.parser import Parser, positive
from utils.stopping import run

RELAXED = "PIL, scikit-image, scipy: relaxed labels"
PLAIN = "the same with plain labels"
TORCHVISION = "torchvision.transforms.v2"
OURS = "ours, PNG"
DECODER = "decoder"
RAW = "ours, --cache raw"


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.data_path"
    parser.add_argument("--rounds", type=positive, default=9, metavar="N",
                        help="turns of each alternative, of which the median counts")
    parser.add_argument("--images", type=positive, default=10, metavar="N",
                        help="pairs of image and label")
    parser.add_argument("--size", type=positive, nargs=2, default=(1024, 2048),
                        metavar=("H", "W"), help="pixels of an image")
    parser.add_argument("--crop-size", type=positive, default=896, metavar="N",
                        help="pixels a side")
    return parser.parse_args()


def our_samples(dataset: SegmentationDataset) -> Callable[[int], object]:
    return lambda number: dataset[0, number, number % len(dataset), None]


def decoder(dataset: SegmentationDataset) -> Callable[[int], object]:
    content = [(np.fromfile(sample.image, np.uint8), np.fromfile(sample.truth, np.uint8))
               for sample in dataset.samples]

    def decode(number: int) -> None:
        image, label = content[number % len(content)]
        cv2.imdecode(image, cv2.IMREAD_COLOR_RGB)
        cv2.imdecode(label, cv2.IMREAD_GRAYSCALE)

    return decode


def alternatives(root: Path, crop: int, height: int) -> dict[str, Callable[[int], object]]:
    """Name -> makes the sample of a number."""
    transform = TrainTransform((crop, crop), jitter=JITTER, hue=JITTER, blur=1.0)
    plain, raw = (build_dataset("cityscapes", root, "train", transform) for _ in range(2))
    raw.cache = open_cache(raw)
    samples, torchvision = plain.samples, TorchvisionSample(crop, height)
    return {
        RELAXED: lambda n: pillow_sample(samples[n % len(samples)], crop, relaxed=True),
        PLAIN: lambda n: pillow_sample(samples[n % len(samples)], crop, relaxed=False),
        TORCHVISION: lambda n: torchvision(samples[n % len(samples)]),
        DECODER: decoder(plain),
        OURS: our_samples(plain),
        RAW: our_samples(raw),
    }


def main() -> None:
    args = parse_args()
    load_gaussian()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        size = write_streets(Path(folder), args.images, args.size)
        print(machine())
        print(f"{args.images} PNGs of {args.size[0]}x{args.size[1]}, {size:.2f} MB each; crops of "
              f"{args.crop_size}x{args.crop_size}; medians of {args.rounds} rounds")
        times = take_turns(alternatives(Path(folder), args.crop_size, args.size[0]), args.rounds,
                           clock=time.process_time)
    print(table(times, "images", {"relaxed": RELAXED, "torchvision": TORCHVISION}))
    print(f"ours takes {ratio(times, OURS, DECODER):.2f} times as long as its decoder")


if __name__ == "__main__":
    run(main)
