"""Scores a network on a labelled clip, with and without averages over time.

examples:
  python -m benchmarks.smoothing --snapshot runs/NAME/best.pth --data-root data/camvid
  python -m benchmarks.smoothing --snapshot FILE --data-root data/camvid --smooth 0.5 0.7 0.9
  python -m benchmarks.smoothing --snapshot FILE --clips data/clips

CamVid's val is one clip, labelled at half its rate of 30 frames a second; --clips takes the drawn
ones of val, of 30 frames, all labelled (python -m datasets.synthetic DIR --clips --all-labels).
Consistency is the share of pixels that have the label of where they come from in the frame before,
by the flow of DIS, of those that were in view.
"""

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from datasets import TABLES, build_dataset, dataset_of
from datasets.class_map import match_classes
from datasets.clips import find_clips
from datasets.street.motion import FRAMES
from model import read_snapshot
from model.prediction import open_predictor
from utils import distributed, options
from utils.argument_types import below_one
from utils.exit_codes import run
from utils.inference import Predictor
from utils.metrics import ConfusionMatrix
from utils.optical_flow import dis_flow
from utils.sliding import Inference
from utils.smoothing import Smoother, consistency

Labelled = list[tuple[np.ndarray, np.ndarray]]  # image and train ids of each frame of a clip


def parse_args() -> argparse.Namespace:
    parser = options.Parser(__doc__)
    parser.add_argument("--snapshot", required=True, metavar="FILE", help="the network")
    parser.add_argument("--data-root", metavar="DIR", help="of CamVid")
    parser.add_argument("--clips", metavar="DIR", help="of drawn clips, instead of CamVid")
    options.add_class_map(parser)
    parser.add_argument("--smooth", type=below_one, nargs="+", default=[0.5, 0.7, 0.8, 0.9],
                        metavar="X", help="weights of the past to compare, below 1")
    options.add_device(parser)
    return parser.parse_args()


def read_camvid(root: str) -> Iterator[Labelled]:
    """Its val, as the only clip."""
    dataset = build_dataset("camvid", root, "val")
    yield [(dataset.read_image(index), dataset.to_train_ids(dataset.read_ids(index), index))
           for index in range(len(dataset))]


def read_drawn(root: str) -> Iterator[Labelled]:
    """The clips of val."""
    train_ids = TABLES["cityscapes"].id_to_train_id
    for clip in find_clips(Path(root), "val"):
        yield [(clip.read_image(frame), cv2.LUT(clip.read_labels(frame), train_ids))
               for frame in range(FRAMES)]


class Score:
    """What is counted of one way to predict."""

    def __init__(self, names: list[str]) -> None:
        self.confusion = ConfusionMatrix(names)
        self.same = self.seen = 0
        self.seconds: list[float] = []

    def __str__(self) -> str:
        accuracy = self.confusion.summary()["pixel_accuracy"]
        figures = (self.same / self.seen, self.confusion.mean_iou(), accuracy)
        columns = "".join(f"{100 * figure:14.2f}" for figure in figures)
        return f"{columns}{1000 * np.median(self.seconds):14.1f}"


def score_clip(predictor: Predictor, clip: Labelled, flows: list[np.ndarray], score: Score) -> None:
    """Predicts the frames of a clip in order; `flows` lead from each but the first to the last."""
    before = np.empty(0)
    for (image, target), flow in zip(clip, [np.empty(0), *flows], strict=True):
        start = time.perf_counter()
        prediction = predictor.picture(image)
        labels = prediction.cpu().numpy()
        score.seconds.append(time.perf_counter() - start)
        score.confusion.update(torch.from_numpy(target), prediction.cpu())
        if len(before):
            same, seen = consistency(labels, before, flow)
            score.same, score.seen = score.same + same, score.seen + seen
        before = labels


def compare(predictor: Predictor, clips: Iterable[Labelled], scores: dict[float, Score]) -> None:
    """Fills in the scores of weights of the past, 0 is each frame by itself."""
    for clip in tqdm(clips, disable=None, unit="clip"):
        flows = [dis_flow(clip[i][0], clip[i - 1][0]) for i in range(1, len(clip))]
        for weight, score in scores.items():
            smoother = Smoother(weight) if weight else None
            score_clip(replace(predictor, smoother=smoother), clip, flows, score)


def main() -> None:
    args = parse_args()
    if bool(args.clips) == bool(args.data_root):
        raise ValueError("--data-root DIR of CamVid or --clips DIR: give one of them")
    device = distributed.start(args.device, args.threads)
    cv2.setNumThreads(torch.get_num_threads())
    snapshot = read_snapshot(args.snapshot)
    known = dataset_of(snapshot)
    names = TABLES["cityscapes" if args.clips else "camvid"].class_names
    table = match_classes(known["class_names"], names, args.snapshot, args.class_map)
    predictor = open_predictor(snapshot, device, args.precision, Inference(), table)
    clips = read_drawn(args.clips) if args.clips else read_camvid(args.data_root)
    scores = {weight: Score(names) for weight in (0.0, *args.smooth)}
    compare(predictor, clips, scores)
    print("smooth" + "".join(f"{head:>14}" for head in (
        "consistent %", "mIoU %", "pixels %", "ms a frame")))
    for weight, score in scores.items():
        print(f"{weight:<6g}{score}")


if __name__ == "__main__":
    run(main)
