"""Centroids of the classes in the tiles of a label, for class-uniform sampling: labels per second.

examples:
  python -m benchmarks.centroids
  python -m benchmarks.centroids --tile 512 --threads 8

From PNGs of ids. Published code has a pool of 32 threads; ours has --threads.
"""

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from benchmarks import peers
from benchmarks.streets import write_streets
from benchmarks.timing import table, take_turns
from datasets import build_dataset
from datasets.base import SegmentationDataset
from datasets.class_uniform import tile_centroids
from utils import options
from utils.exit_codes import run

POOL = 32
MASKS, MASKS_POOL = "a mask per class, 1 thread", f"a mask per class, {POOL} threads"


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.prog = "python -m benchmarks.centroids"
    parser.add_argument("--data-root", metavar="DIR",
                        help="CamVid, whose labels are enlarged (default: drawn streets)")
    parser.add_argument("--rounds", type=options.positive, default=9, metavar="N",
                        help="turns of each alternative, of which the median counts")
    parser.add_argument("--images", type=options.positive, default=10, metavar="N",
                        help="labels")
    parser.add_argument("--size", type=options.positive, nargs=2, default=(1024, 2048),
                        metavar=("H", "W"), help="pixels of a label")
    parser.add_argument("--tile", type=options.positive, default=1024, metavar="N",
                        help="pixels a side")
    parser.add_argument("--threads", type=options.positive, default=2, metavar="N",
                        help="of our own pool")
    return parser.parse_args()


def measure(dataset: SegmentationDataset, tile: int, index: int) -> list:
    """As `find_centroids` does it, but for its cache."""
    train_ids = dataset.to_train_ids(dataset.read_ids(index), index)
    return [tuple(row) for row in tile_centroids(train_ids, tile).tolist()]


def check_equal(dataset: SegmentationDataset, tile: int) -> None:
    """Raises RuntimeError if the alternatives do not find the same."""
    for index, sample in enumerate(dataset.samples):
        if measure(dataset, tile, index) != peers.centroids(sample.truth, tile):
            raise RuntimeError(f"{sample.truth}: the alternatives find other centroids")


def alternatives(
    dataset: SegmentationDataset, tile: int, threads: int
) -> dict[str, Callable[[int], object]]:
    """Name -> finds the centroids of all labels."""
    indices, paths = range(len(dataset)), [sample.truth for sample in dataset.samples]
    ours, theirs = partial(measure, dataset, tile), partial(peers.centroids, tile=tile)

    def pool(count: int, work: Callable, items: object) -> list:
        with ThreadPoolExecutor(count) as executor:
            return list(executor.map(work, items))

    return {
        MASKS: lambda _: list(map(theirs, paths)),
        MASKS_POOL: lambda _: pool(POOL, theirs, paths),
        "ours, 1 thread": lambda _: list(map(ours, indices)),
        f"ours, {threads} threads": lambda _: pool(threads, ours, indices),
    }


def main() -> None:
    args = parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_streets(Path(folder), args.images, args.size, args.data_root)
        dataset = build_dataset("cityscapes", folder, "train")
        check_equal(dataset, args.tile)
        times = take_turns(alternatives(dataset, args.tile, args.threads), args.rounds)
    for seconds in times.values():
        seconds[:] = [value / len(dataset) for value in seconds]
    print(f"{len(dataset)} labels of {args.size[0]}x{args.size[1]}, tiles of {args.tile}; medians "
          f"of {args.rounds} rounds; equal centroids")
    print(table(times, "labels", {"1 thread": MASKS, f"{POOL} threads": MASKS_POOL}))


if __name__ == "__main__":
    run(main)
