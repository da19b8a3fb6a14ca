"""Segments a folder of images, a video, what a camera sees, or a time lapse of a data set.

examples:
  python demo_folder.py --demo-folder photos --save-dir out
  python demo_folder.py --video street.mp4 --snapshot best.pth --show side-by-side --legend
  python demo_folder.py --video street.mp4 --snapshot best.pth --smooth 0.7
  python demo_folder.py --video 0 --snapshot best.pth --limit 500
  python demo_folder.py --video rtsp://192.168.0.9/stream --snapshot best.pth --limit 500
  python demo_folder.py --video stuttgart_00 --snapshot best.pth --data-root data/cityscapes
  python demo_folder.py --timelapse --city stuttgart --limit 200 --fps 10 --snapshot best.pth

Images are read, segmented and written at the same time. A folder gives color mask, id mask and
overlay of each image, the others a video without sound, H.264 in MP4. Damaged images and frames,
and files that are no images, are passed over with a line; the exit code is then 1. Ctrl-C completes
what is written.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from datasets import DATASETS, dataset_of, find_root
from datasets.folder import is_image, list_images
from datasets.video.sequences import find_sequence
from model.snapshot import open_predictor, read_snapshot
from utils import distributed
from utils.files import check_folder
from utils.images import allow_pixels, read_image, seen_size, shown
from utils.inference.pipeline import Done, Pace, pipeline
from utils.inference.predictor import FEW_IMAGES, Predictor, Workload
from utils.inference.smoothing import Smoother
from utils.options import prediction as options
from utils.options.data import SHIPPED, add_device, add_snapshot, choose_snapshot, see_as_trained
from utils.options.parser import Parser
from utils.pictures import Painter, picture_paths, replaced
from utils.stopping import Stopped, StopRequest, run
from utils.video import reader
from utils.video.writer import VideoFile
from utils.workers import map_in_threads


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    options.add_source(parser)
    add_snapshot(parser, default=SHIPPED)
    options.add_pictures(parser)
    options.add_video(parser, DATASETS)
    options.add_inference(parser)
    options.add_compile(parser)
    add_device(parser)
    return parser.parse_args()


def open_video(args: argparse.Namespace) -> reader.Video:
    """The frames that the options ask for.

    Raises FileNotFoundError, ValueError: nothing there, or not as it should be.
    """
    if args.timelapse:
        name = args.dataset or "cityscapes"
        root = find_root(name, args.data_root)
        paths = find_sequence(name, root, args.city, args.split)[: args.limit]
        video = reader.open_frames(paths, args.city or f"{name}_{args.split or 'val'}",
                                   bits=args.bits)
        video.fps = reader.TIMELAPSE_FPS
        return video
    if "://" in args.video:
        return reader.open_address(args.video)
    path = Path(args.video)
    if args.video.isdecimal():
        return reader.open_camera(int(args.video))
    if path.is_dir():
        files = list_images(path)
        video = reader.open_frames(files[: args.limit], path.resolve().name, upright=True,
                                   bits=args.bits)
        others = [other for other in list_images(path, every_file=True) if not is_image(other)]
        video.left_out = [] if args.limit else others
        return video
    if path.exists() or path.suffix:
        return reader.open_file(path)
    try:
        frames = find_sequence("cityscapes", find_root("cityscapes", args.data_root), path.name,
                               "demoVideo")
    except (FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(f"{shown(path)}: no such file or folder, and as a sequence of "
                                f"Cityscapes: {error}") from None
    return reader.open_frames(frames[: args.limit], path.name)


def look_ahead(
    items: Iterable[Any],
    read: Callable[[Any], np.ndarray],
    count: int | None,
    seen: list[int] | None,
) -> tuple[Workload, Iterable[Any]]:
    """What the network will see, as far as the first item tells, and all items again.

    Args:
        items: images or frames.
        read: as in `pipeline`.
        count: of items, if known.
        seen: size that they are resized to.
    """
    items = iter(items)
    first = list(islice(items, 1))
    workload = FEW_IMAGES
    with suppress(OSError, ValueError):  # damaged: `pipeline` says so
        for image in map(read, first):
            workload = Workload(seen_size(image.shape[:2], seen), count)
    return workload, chain(first, items)


def read_network(args: argparse.Namespace) -> dict[str, Any]:
    """The snapshot; its own size of images becomes that of the options."""
    choose_snapshot(args)
    snapshot = read_snapshot(args.snapshot)
    see_as_trained(args, snapshot)
    return snapshot


def open_network(
    args: argparse.Namespace, snapshot: dict[str, Any], device: torch.device, workload: Workload
) -> tuple[Predictor, Painter]:
    """The network, and what draws its predictions."""
    dataset = dataset_of(snapshot, {"name": args.dataset})
    predictor = open_predictor(snapshot, device, args.precision, options.build_inference(args),
                               compiled=args.compile, workload=workload)
    return predictor, Painter(dataset, args.opacity, args.legend, args.percentages)


def count(results: Generator[Done], total: int | None, unit: str) -> tuple[int, int]:
    """How many were done, and how many passed over, when all are through."""
    counts = [0, 0]
    with closing(results):  # ends its threads, whatever happens here
        for done in tqdm(results, total=total, disable=None, unit=unit):
            counts[bool(done.fault)] += 1
            if done.fault:
                tqdm.write(f"passed over: {done.fault}", file=sys.stderr)
    return counts[0], counts[1]


def segment_folder(args: argparse.Namespace, device: torch.device, stop: StopRequest) -> bool:
    """Writes pictures of each image of a folder; whether all could be read."""
    folder, save_dir = Path(args.demo_folder), Path(args.save_dir)
    files = list_images(folder, every_file=True)[: args.limit]
    if folder.resolve() == save_dir.resolve():
        raise ValueError("--save-dir is --demo-folder: the next run would take its own pictures")
    check_folder(save_dir)
    often, images = Counter(path.stem for path in files), list(filter(is_image, files))
    alone = len({path.stem for path in images}) == len(images)  # pictures of a.png and a.jpg differ
    names = {path: path.stem if alone and (is_image(path) or often[path.stem] == 1) else path.name
             for path in files}
    below = [path.name for path in folder.iterdir()
             if path.is_dir() and path.name[0] != "." and path.resolve() != save_dir.resolve()]
    if below:
        print(f"folders in {shown(folder)} are not looked into: {shown(', '.join(sorted(below)))}")
    over = replaced(path for name in names.values()
                    for path in picture_paths(save_dir, name, args.outputs).values())
    snapshot = read_network(args)
    read = partial(read_image, upright=True, bits=args.bits)
    workload, _ = look_ahead(files, read, len(files), args.eval_size)
    predictor, painter = open_network(args, snapshot, device, workload)
    pace = Pace(device)

    def write(path: Path, image: np.ndarray, prediction: Tensor) -> None:
        painter.write(save_dir, names[path], image, prediction, args.outputs)

    infer = pace.timed(partial(predictor.label_map, seen=args.eval_size))
    results = pipeline(files, read, infer, write, torch.get_num_threads(), stop)
    written, passed_over = count(results, len(files), "image")
    said = f"{written} of {len(files)} files segmented: {save_dir}"
    print(*filter(None, [said, over]), pace, sep="\n")
    return not passed_over


def segment_video(args: argparse.Namespace, device: torch.device, stop: StopRequest) -> bool:
    """Writes a video of a video; whether all of it could be read."""
    snapshot = read_network(args)
    video = open_video(args)
    for path in video.left_out:
        print(f"passed over: {shown(path)}: not an image", file=sys.stderr)
    check_folder(Path(args.save_dir))
    total = min((n for n in (video.count, args.limit) if n), default=None)
    workload, frames = look_ahead(video.items, video.read, total, args.eval_size)
    predictor, painter = open_network(args, snapshot, device, workload)
    if args.smooth:
        predictor = replace(predictor, smoother=Smoother(args.smooth))
    pace = Pace(device, "frame")

    def draw(_: object, image: np.ndarray, prediction: Tensor) -> np.ndarray:
        return painter.frame(args.show, image, prediction.cpu().numpy())

    def write(done: Done) -> Done:
        if not done.fault:
            keeps_time = video.live or not args.fps
            file.write(done.result, video.due(done.item) if keeps_time else None)
        return Done(None, None, done.fault)

    # It may look at several frames: it is called with one after the other, in their order.
    infer = pace.timed(partial(predictor.label_map, seen=args.eval_size))
    path = Path(args.save_dir) / f"{video.name}_{args.show}"
    with VideoFile(path, args.fps or video.fps) as file:
        over = replaced([file.path])
        drawn = pipeline(islice(frames, args.limit), video.read, infer, draw,
                         torch.get_num_threads(), stop)
        written, passed_over = count(map_in_threads(write, drawn, 1), total, "frame")
    if not file.frames:
        raise Stopped(stop.number) if stop else ValueError(f"{video.name}: no frame could be read")
    ended = not stop and written + passed_over != args.limit
    cut_short = video.cut_short() if ended else ""
    odd = "odd sides: one more line of pixels, since those of a video are even" * file.padded
    lines = [video.uneven(), odd, cut_short, f"{file.frames} frames, "
             f"{file.frames / file.fps:.1f} s at {file.fps:g} frames/s, H.264: {file.path}", over]
    print(*filter(None, lines), pace, sep="\n")
    return not passed_over and not cut_short and not video.left_out


def main() -> None:
    args = parse_args()
    options.check_source(args)
    allow_pixels(args.max_pixels)
    device = distributed.start(args.device, args.threads)
    stop = StopRequest()
    whole = (segment_folder if args.demo_folder else segment_video)(args, device, stop)
    if stop:
        print("stopped; what is written is complete", file=sys.stderr)
        raise Stopped(stop.number)
    sys.exit(0 if whole else 1)


if __name__ == "__main__":
    run(main)
