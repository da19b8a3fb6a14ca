"""Scores labels that are carried along video against the true ones, for each source of motion.

examples:
  python -m benchmarks.propagation --data-root data/camvid
  python -m benchmarks.propagation --data-root data/camvid --motion none dis raft --consistency 1
  python -m benchmarks.propagation --data-root data/camvid --motion sdcnet --motion-weights FILE

CamVid's val is one clip, labelled at half its rate: labels are carried 2, 4, ... frames of 30 Hz
onwards, from each of its images. mIoU is taken over the pixels that got a label, beside it is the
share that got none.

Joint and label-only propagation move labels alike, what differs is the image beside them. How well
that fits is what --snapshot is for: the mIoU of a trained network's prediction of the moved image,
and of the real one, against the moved label. Motion "none" leaves labels where they are.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from datasets import build_dataset, dataset_of, find_root
from datasets.base import SegmentationDataset
from datasets.classes import match_classes
from datasets.video.propagation import Method, Propagation, State
from model.flow import MOTIONS
from model.snapshot import open_predictor, read_snapshot
from utils import distributed
from utils.images import read_image, read_label
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference
from utils.labels import IGNORE
from utils.options.data import add_class_map, add_device
from utils.options.parser import Parser, at_least_zero, positive
from utils.scoring.validation import ConfusionMatrix
from utils.stopping import run
from utils.video.flow import Motion

RATE = 2  # frames of CamVid's video between its labels


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--data-root", metavar="DIR",
                        help="of CamVid (default: $CAMVID_DATASET, else data/camvid)")
    parser.add_argument("--motion", nargs="+", default=["none", "dis"], choices=("none", *MOTIONS),
                        help="to compare")
    parser.add_argument("--motion-weights", metavar="FILE", help="of the motions that have some")
    parser.add_argument("--propagate", type=positive, default=2, metavar="K",
                        help="labelled frames to carry labels on")
    parser.add_argument("--consistency", type=at_least_zero, default=1.0, metavar="PIXELS",
                        help="of the rows with a check")
    parser.add_argument("--snapshot", metavar="FILE", help="a network to ask")
    add_class_map(parser)
    add_device(parser)
    return parser.parse_args()


@dataclass
class Walk:
    """Frames to carry a label along, the labelled one second; the first only shows motion."""

    images: list[Path]
    labels: list[Path]


def find_walks(dataset: SegmentationDataset, count: int) -> list[Walk]:
    """From each image of a clip onwards, `count` images far.

    Raises:
        ValueError: the clip is too short.
    """
    farthest = len(dataset) - 2
    if count > farthest:
        raise ValueError(f"--propagate {count}: {dataset.root} has at most {max(0, farthest)} "
                         "frames after a labelled one; give fewer, or data with a longer clip")
    pieces = (dataset.samples[k : k + count + 2] for k in range(len(dataset) - count - 1))
    return [Walk([s.image for s in piece], [s.truth for s in piece]) for piece in pieces]


def open_network(
    args: argparse.Namespace, dataset: SegmentationDataset, device: torch.device
) -> Predictor | None:
    """The network of --snapshot, if one is given.

    Raises:
        FileNotFoundError, ValueError: not to be read, or of other classes.
    """
    if not args.snapshot:
        return None
    snapshot = read_snapshot(args.snapshot)
    known = dataset_of(snapshot)
    table = match_classes(known["class_names"], dataset.class_names, args.snapshot, args.class_map)
    return open_predictor(snapshot, device, args.precision, Inference(), table)


def stand_still(target: np.ndarray, *_: object) -> np.ndarray:
    """A motion that is none."""
    return np.zeros((*target.shape[:2], 2), np.float32)


@dataclass
class Score:
    """What is counted of labels that were carried equally far."""

    names: list[str]
    pixels: int = 0
    without: int = 0  # pixels without a label
    truth: ConfusionMatrix = field(init=False)
    moved: ConfusionMatrix = field(init=False)  # a network's prediction of the moved image
    real: ConfusionMatrix = field(init=False)

    def __post_init__(self) -> None:
        self.truth, self.moved, self.real = (ConfusionMatrix(self.names) for _ in range(3))

    def __str__(self) -> str:
        text = f"{100 * self.truth.mean_iou():6.2f} ({100 * self.without / self.pixels:4.1f})"
        if self.moved.images:
            text += f" {100 * self.moved.mean_iou():6.2f} {100 * self.real.mean_iou():6.2f}"
        return text


@dataclass(frozen=True)
class Judge:
    """Counts what became of labels.

    Args:
        dataset: has the classes.
        predictor: of these classes.
    """

    dataset: SegmentationDataset
    predictor: Predictor | None

    def add(self, score: Score, state: State, label: Path) -> None:
        """Counts one label that was carried along."""
        carried, target = (cv2.LUT(ids, self.dataset.lookup(label))
                           for ids in (state.ids, read_label(label)))
        score.without += int((state.ids == IGNORE).sum())
        score.pixels += target.size
        target[carried == IGNORE] = IGNORE
        score.truth.update(torch.from_numpy(target), torch.from_numpy(carried))
        if self.predictor:
            for confusion, image in ((score.moved, state.image), (score.real, state.read_real())):
                found = self.predictor.label_map(image).cpu()
                confusion.update(torch.from_numpy(carried), found)


def carry(propagation: Propagation, walk: Walk) -> Iterator[State]:
    """The labelled frame's image and ids, carried 1, 2, ... frames."""
    image, ids = read_image(walk.images[1]), read_label(walk.labels[1])
    start = state = State(walk.images[1], image, ids, image)
    for step, frame in enumerate(walk.images[2:]):
        if propagation.method.direct:
            # A frame as far before the center is not there; that one does for what needs it.
            state = propagation.step(start, frame, walk.images[0], first=True)
        else:
            state = propagation.step(state, frame, walk.images[step], first=step == 0)
        yield state


def main() -> None:
    args = parse_args()
    if args.class_map and not args.snapshot:
        raise ValueError("--class-map: of a network's classes; give --snapshot FILE too")
    device = distributed.start(args.device, args.threads)
    cv2.setNumThreads(torch.get_num_threads())
    dataset = build_dataset("camvid", find_root("camvid", args.data_root), "val")
    walks = find_walks(dataset, args.propagate)
    predictor = open_network(args, dataset, device)
    judge = Judge(dataset, predictor)
    distances = [RATE * k for k in range(1, args.propagate + 1)]
    print(f"{len(walks)} labels carried; mIoU %, (% without a label)"
          + (", of a network: moved image, real image" if predictor else ""))
    print(f"{'frames':28}" + "".join(f"{k:<30}" for k in distances))
    methods = {"": Method(), "direct": Method(direct=True), "upstream": Method(upstream=True),
               f"checked to {args.consistency:g}": Method(consistency=args.consistency),
               "direct, checked": Method(direct=True, consistency=args.consistency)}
    for motion in args.motion:
        find: Motion = stand_still
        if motion != "none":
            find = MOTIONS[motion](None if motion == "dis" else args.motion_weights, device)
        for way, method in methods.items() if motion != "none" else [("", Method())]:
            scores: dict[int, Score] = defaultdict(lambda: Score(dataset.class_names))
            propagation = Propagation(dataset, find, method)
            for walk in tqdm(walks, desc=f"{motion} {way}", disable=None, leave=False):
                for step, state in enumerate(carry(propagation, walk)):
                    judge.add(scores[step], state, walk.labels[step + 2])
            row = "".join(f"{score!s:<30}" for score in scores.values())
            print(f"{f'{motion} {way}':28}{row}", flush=True)


if __name__ == "__main__":
    run(main)
