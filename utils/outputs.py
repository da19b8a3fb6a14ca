"""Predictions of a data set as files: ids, colors, overlay, and what is wrong."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from utils.images import write_png
from utils.visualize import colorize, overlay

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

    Raises:
        ValueError: the folder holds predictions, of another network perhaps.
    """

    def __init__(
        self, folder: str, labels: Sequence[ColoredLabel], names: Sequence[str]
    ) -> None:
        self.folder, self.names = Path(folder), names
        for kind in KINDS:
            if any((self.folder / kind).glob("*.png")):
                raise ValueError(f"{folder}/{kind}: holds predictions; choose another --save-dir, "
                                 "so that two networks do not mix")
        self.colors = [label.color for label in labels]
        self.ids = np.zeros(256, np.uint8)
        self.ids[: len(labels)] = [label.id for label in labels]
        self.ignored = np.ones(256, bool)
        self.ignored[: len(labels)] = [label.ignored for label in labels]

    def write(
        self, index: int, image: np.ndarray | None, prediction: np.ndarray, truth: np.ndarray
    ) -> None:
        """Writes the files of one image; `image` is resized to the labels."""
        pictures = {
            "pred": self.ids[prediction],
            "rgb": colorize(prediction, self.colors),
            "diff": self.difference(prediction, truth),
        }
        if image is not None:
            size = prediction.shape[::-1]
            pictures["compose"] = overlay(cv2.resize(image, size), prediction, self.colors)
        for kind, picture in pictures.items():
            write_png(self.folder / kind / f"{self.names[index]}.png", picture)

    def difference(self, prediction: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8: the predicted color where it is wrong, white where right, else black."""
        picture = colorize(prediction, self.colors)
        picture[prediction == truth] = 255
        picture[self.ignored[truth]] = 0
        return picture
