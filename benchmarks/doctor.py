"""How fast the data set doctor is, as a share of the rate at which cv2 alone decodes its files.

examples:
  python -m benchmarks.doctor
  python -m benchmarks.doctor --pairs 200 --repeats 9

Drawn streets of 1024x2048 pixels, as PNG pairs of image and label, are read from the page cache:
once by the doctor, with all that it does, once by threads that only read and decode. Both take
turns, so that other load on the machine meets both.
"""

import argparse
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from benchmarks.timing import medians
from datasets.doctor import check
from datasets.render import render
from datasets.scene import make_scene
from utils.argument_types import positive
from utils.exit_codes import run
from utils.images import write_png
from utils.parser import Parser

SIZE = 1024, 2048
SCENES = 6  # drawing one takes seconds; the pairs are these, mirrored and moved sideways


def draw_pairs(root: Path, pairs: int, threads: int) -> list[tuple[Path, int]]:
    """Writes pairs in the Cityscapes layout; the files, each with cv2's flag to decode it."""
    def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
        scene = make_scene(seed)
        image, ids, _ = render(scene, scene.camera, *SIZE)
        return image, ids

    def write(index: int) -> list[tuple[Path, int]]:
        image, ids = (np.roll(array, 64 * (index // SCENES), axis=1)[:, :: 1 - 2 * (index % 2)]
                      for array in scenes[index % len(scenes)])
        name = f"aldern_{index:06d}_000019"
        paths = (root / f"leftImg8bit/train/aldern/{name}_leftImg8bit.png",
                 root / f"gtFine/train/aldern/{name}_gtFine_labelIds.png")
        write_png(paths[0], np.ascontiguousarray(image))
        write_png(paths[1], np.ascontiguousarray(ids))
        return list(zip(paths, (cv2.IMREAD_COLOR_RGB, cv2.IMREAD_GRAYSCALE), strict=True))

    with ThreadPoolExecutor(threads) as pool:
        scenes = list(pool.map(draw, range(min(SCENES, pairs))))
        return [file for files in pool.map(write, range(pairs)) for file in files]


def decode_all(files: list[tuple[Path, int]], threads: int) -> None:
    """What no reader can do without: the bytes, decoded."""
    def decode(file: tuple[Path, int]) -> None:
        cv2.imdecode(np.frombuffer(file[0].read_bytes(), np.uint8), file[1])

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode, files))


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.doctor"
    parser.add_argument("--pairs", type=positive, default=60, metavar="N",
                        help="images, each with a label")
    parser.add_argument("--repeats", type=positive, default=5, metavar="N",
                        help="runs of each, of which the median counts")
    parser.add_argument("--threads", type=positive, default=os.cpu_count() or 1, metavar="N",
                        help="that read files, for both")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        files = draw_pairs(root, args.pairs, args.threads)
        size = sum(path.stat().st_size for path, _ in files)
        print(f"{args.pairs} pairs of {SIZE[0]}x{SIZE[1]}, {size / 1e6:.0f} MB, {args.threads} "
              f"threads, {args.repeats} repeats")
        seconds = medians({
            "cv2.imdecode alone": lambda: decode_all(files, args.threads),
            "the doctor": lambda: check("cityscapes", root, threads=args.threads),
        }, args.repeats)
    for name, time in seconds.items():
        print(f"{name:20} {args.pairs / time:7.1f} pairs/s")
    decoder, doctor = seconds.values()
    print(f"{'ratio':20} {decoder / doctor:7.2f}")


if __name__ == "__main__":
    run(main)
