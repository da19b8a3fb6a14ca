"""Scores a data set, image by image, in threads: from a network or from files."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from tqdm import tqdm

from utils import distributed, files
from utils.images import read_label, write_png
from utils.locks import hold_folder
from utils.pictures import colorize, difference, overlay
from utils.scoring.counts import ScoredLabel, Scores
from utils.workers import map_in_threads

KINDS = ("pred", "rgb", "compose", "diff")


class Scored(NamedTuple):
    """What is scored of one image."""

    number: int  # of the image
    prediction: np.ndarray  # (H, W) uint8 labels
    truth: np.ndarray  # (H, W) uint8 labels
    instances: np.ndarray | None  # (2, R) int32 runs of label * 1000 + n
    image: np.ndarray | None  # (h, w, 3) uint8 RGB, where it is needed


class Outputs:
    """Writes NAME.png into the folders pred (ids), rgb (colors), compose (overlay) and diff.

    Args:
        folder: is made.
        labels: by the numbers that predictions hold.
        names: of the images.
        kinds: folders to write, of `KINDS`.

    Raises ValueError: the folder holds predictions, of another network perhaps.
    """

    def __init__(
        self, folder: str, labels: Sequence[ScoredLabel], names: Sequence[str],
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.folder, self.names, self.kinds = Path(folder), names, kinds
        for kind in kinds:
            if any((self.folder / kind).rglob("*.png")):
                raise ValueError(f"{folder}/{kind}: holds predictions; choose another folder, so "
                                 "that two networks do not mix")
        files.check_folder(self.folder)
        self.lock = hold_folder(self.folder)
        self.colors = [label.color for label in labels]
        self.ids, self.numbers = np.zeros((2, 256), np.uint8)
        self.ids[: len(labels)] = [label.id for label in labels]
        self.numbers[self.ids[: len(labels)]] = np.arange(len(labels))
        self.ignored = [label.ignored for label in labels]

    def write(
        self, index: int, image: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray
    ) -> None:
        """Writes the files of one image; `image` is resized to the labels."""
        makers = {
            "pred": lambda: self.ids[prediction],
            "rgb": lambda: colorize(prediction, self.colors),
            "diff": lambda: difference(prediction, truth, self.colors, self.ignored),
        }
        if image is not None:
            resized = cv2.resize(image, prediction.shape[::-1])
            makers["compose"] = lambda: overlay(resized, prediction, self.colors)
        for kind in makers.keys() & set(self.kinds):
            write_png(self.folder / kind / f"{self.names[index]}.png", makers[kind]())

    def read(self, index: int) -> np.ndarray:
        """(H, W) uint8 labels that were written of an image."""
        return self.numbers[read_label(self.folder / "pred" / f"{self.names[index]}.png")]


def evaluate(
    scores: Scores, items: Iterable[Any], read: Callable[[Any], Scored] | None,
    outputs: Outputs | None, threads: int, total: int | None = None,
) -> None:
    """Counts this rank's images, and then those of all ranks.

    Args:
        scores: gets the counts.
        items: one per image of this rank; taken one after the other.
        read: from an item to what is scored, called in threads; None if items are that.
        outputs: writes pictures of each image.
        threads, total: of this process; number of items, to be shown.
    """
    def measure(item: Any) -> tuple[int, Any]:
        scored: Scored = read(item) if read else item
        if outputs:
            outputs.write(scored.number, scored.image, scored.prediction, scored.truth)
        return scored.number, scores.measure(scored.truth, scored.prediction, scored.instances)

    results = map_in_threads(measure, items, threads)
    for each in tqdm(results, total=total, disable=distributed.rank() > 0 or None, unit="image"):
        scores.add(*each)
    scores.gather()
