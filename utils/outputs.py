"""Predictions of a data set as files: ids, colors, overlay, and what is wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from utils import files
from utils.images import read_label, write_png
from utils.pictures import colorize, difference, overlay

KINDS = ("pred", "rgb", "compose", "diff")


class ColoredLabel(Protocol):
    """A row of a class table."""

    id: int
    color: tuple[int, int, int]
    ignored: bool


class Outputs:
    """Writes NAME.png into the folders pred (ids), rgb (colors), compose (overlay) and diff.

    Args:
        folder: is made.
        labels: by the numbers that predictions hold.
        names: of the images.
        kinds: folders to write, of `KINDS`.

    Raises:
        ValueError: the folder holds predictions, of another network perhaps.
    """

    def __init__(
        self,
        folder: str,
        labels: Sequence[ColoredLabel],
        names: Sequence[str],
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.folder, self.names, self.kinds = Path(folder), names, kinds
        for kind in kinds:
            if any((self.folder / kind).glob("*.png")):
                raise ValueError(f"{folder}/{kind}: holds predictions; choose another folder, so "
                                 "that two networks do not mix")
        files.check_folder(self.folder)
        self.colors = [label.color for label in labels]
        self.ids = np.zeros(256, np.uint8)
        self.ids[: len(labels)] = [label.id for label in labels]
        self.numbers = np.zeros(256, np.uint8)
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
