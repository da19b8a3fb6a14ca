"""Draws street scenes and writes them as a Cityscapes data set: images, fine and coarse labels.

examples:
  python -m datasets.synthetic data/synthetic
  python -m datasets.synthetic data/synthetic --train 400 --val 50 --size 512x1024 --workers 8
  python -m datasets.synthetic data/clips --train 12 --val 4 --clips --all-labels --flow

The same arguments give the same bytes with any number of workers. A second run finds everything
there, one that was stopped goes on. Read the folder with `--dataset cityscapes`.
"""

import argparse
import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import FrameType
from typing import NoReturn

import cv2
from tqdm import tqdm

from datasets.clips import SPLITS, Clip, Extras, write_clip
from datasets.render import render
from datasets.scene import make_scene
from datasets.synthetic_labels import KINDS, write_labels
from utils import exit_codes, options
from utils.images import write_png
from utils.signals import Stopped

VERSION = 2  # to be raised whenever the same seed gives other bytes
CITIES = {"train": ("aldern", "brookau", "cindal"), "val": ("dornfels",), "test": ("eschwald",),
          "train_extra": ("falkenau", "grunwede")}  # fmt: skip
RECORD = "synthetic.json"
SMALLEST, MOST_PIXELS = 32, 2048 * 4096
Size = tuple[int, int]


def image_seed(seed: int, split: str, index: int) -> int:
    """The seed of a split's scene; consecutive ones differ by one, so rare classes take turns."""
    digest = hashlib.sha256(f"{seed} {split}".encode()).digest()
    return int.from_bytes(digest[:5], "big") * 10_000_000 + index


def image_path(out: Path, split: str, index: int) -> Path:
    """Where an image is; it is written after its labels."""
    city = CITIES[split][index % len(CITIES[split])]
    return out / "leftImg8bit" / split / city / f"{city}_{index:06d}_000019_leftImg8bit.png"


def write_city(
    out: str | Path,
    counts: Mapping[str, int],
    size: Size = (256, 512),
    seed: int = 0,
    workers: int = 1,
    clips: Extras | None = None,
) -> int:
    """Writes a data set in the flat Cityscapes layout.

    Args:
        out: its folder; made, or continued if it was begun with the same arguments.
        counts: number of images of each split: train, val, test (which gets no labels) and
            train_extra (which gets coarse ones only).
        size: height and width in pixels.
        seed: any whole number.
        workers: processes; the bytes do not depend on it.
        clips: adds 30 frames around each image of train, val and test, with these extras.

    Returns:
        How many images were drawn; 0 if all were there.

    Raises:
        ValueError: the folder holds something else, or the arguments are out of range.
    """
    out = Path(out)
    counts = {split: counts.get(split, 0) for split in CITIES}
    _check_size(size)
    moving = {"clips": asdict(clips)} if clips else {}
    _claim(out, {"version": VERSION, "seed": seed, "size": list(size), **counts, **moving})
    jobs = [(split, k) for split, count in counts.items() for k in range(count)]
    missing = [job for job in jobs if not image_path(out, *job).exists()]
    bar = tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="image", disable=None)
    with bar, _mapping(min(workers, len(missing))) as map_jobs:
        for _ in map_jobs(partial(_write_image, out, size, seed, clips), missing):
            bar.update()
    return len(missing)


def _check_size(size: Size) -> None:
    if min(size) < SMALLEST or size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"size {size[0]}x{size[1]}: height and width must be at least {SMALLEST} "
                         f"and together at most {MOST_PIXELS:,} pixels")  # fmt: skip


def _claim(out: Path, arguments: dict) -> None:
    """Marks the folder as one of these arguments, unless it is somebody else's."""
    record = out / RECORD
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out}: not a folder; give another one")
    if record.exists():
        try:
            found = json.loads(record.read_text(encoding="utf-8"))
        except ValueError:
            raise ValueError(f"{record}: damaged; delete {out} or give another folder") from None
        if not isinstance(found, dict) or found.get("version") != VERSION:
            raise ValueError(f"{out}: drawn by another version; delete it, or give another folder")
        if found != arguments:
            differ = {key: found.get(key) for key in {**found, **arguments}
                      if found.get(key) != arguments.get(key)}
            raise ValueError(f"{out}: was made with {differ}; give these or another folder, or "
                             "delete it")
        return
    if any((out / kind).exists() for kind in ("leftImg8bit", "gtFine", "gtCoarse")):
        raise ValueError(f"{out}: holds another data set; give another folder")
    out.mkdir(parents=True, exist_ok=True)
    begun = record.with_name(f".{RECORD}.{os.getpid()}")
    begun.write_text(json.dumps(arguments) + "\n", encoding="utf-8")
    begun.replace(record)


def _write_image(
    out: Path, size: Size, seed: int, clips: Extras | None, job: tuple[str, int]
) -> None:
    split, index = job
    scene = make_scene(image_seed(seed, split, index))
    image, _, instance_ids = render(scene, scene.camera, *size)
    path = image_path(out, split, index)
    for kind in KINDS[split]:
        name = path.name.replace("leftImg8bit.png", kind)
        write_labels(out / kind / split / path.parent.name / name, instance_ids, scene.seed)
    if clips and split in SPLITS:
        name = path.name.removesuffix("_000019_leftImg8bit.png")
        write_clip(Clip(out, split, name), scene, size, clips)
    write_png(path, image)


@contextlib.contextmanager
def _mapping(workers: int) -> Iterator:
    """A `map` over processes, or the plain one."""
    if workers <= 1:
        yield map
        return
    # Not fork: a process that has threads may not be copied safely.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with context.Pool(workers, _start_worker) as pool:
        yield pool.imap_unordered


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends the pool
    cv2.setNumThreads(1)


def _size(text: str) -> Size:
    height, cross, width = text.partition("x")
    if not (cross and height.isdigit() and width.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not HEIGHTxWIDTH, such as 256x512")
    try:
        _check_size((int(height), int(width)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return int(height), int(width)


def _count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.prog = "python -m datasets.synthetic"
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    for split, count in (("train", 96), ("val", 16), ("test", 4)):
        said = "images without labels" if split == "test" else "labelled images"
        parser.add_argument(f"--{split}", type=_count, default=count, metavar="N",
                            help=f"number of {said} of the {split} split")  # fmt: skip
    parser.add_argument("--train-extra", type=_count, default=0, metavar="N",
                        help="number of images of the train_extra split, with coarse labels only")
    parser.add_argument("--size", type=_size, default="256x512", metavar="HxW",
                        help="height and width in pixels")  # fmt: skip
    parser.add_argument("--seed", type=_count, default=0, help="another seed, other streets")
    parser.add_argument("--workers", type=options.positive, default=os.cpu_count() or 1,
                        help="processes that draw")  # fmt: skip
    parser.add_argument("--clips", action="store_true",
                        help="30 frames around each image of train, val and test, at 17 a second")
    parser.add_argument("--all-labels", action="store_true",
                        help="with --clips: exact labels of every frame of train and val")
    parser.add_argument("--flow", action="store_true",
                        help="with --clips: exact optical flow, in pixels, between the frames of "
                        "train and val")  # fmt: skip
    args = parser.parse_args()
    if (args.all_labels or args.flow) and not args.clips:
        parser.error("--all-labels and --flow: what --clips gets; give it too")
    return args


def main() -> None:
    def stop(number: int, _: FrameType | None) -> NoReturn:
        raise Stopped(number)

    args = parse_args()
    signal.signal(signal.SIGTERM, stop)
    counts = {"train": args.train, "val": args.val, "test": args.test,
              "train_extra": args.train_extra}  # fmt: skip
    clips = Extras(args.all_labels, args.flow) if args.clips else None
    drawn = write_city(args.out, counts, args.size, args.seed, args.workers, clips)
    said = ", ".join(f"{count} {split}" for split, count in counts.items() if count) or "no"
    there = f"{drawn} drawn" if drawn else "all were there"
    print(f"{args.out.resolve()}: {said} images of {args.size[0]}x{args.size[1]} ({there})")


if __name__ == "__main__":
    exit_codes.run(main)
