"""Prediction files: color mask, id mask, overlay."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from utils.images import write_png
from utils.inference import Predictor
from utils.picture_options import KINDS
from utils.runs import histogram
from utils.visualize import colorize, legend, overlay, side_by_side


def to_ids(train_ids: np.ndarray, train_id_to_id: list[int], void: int = 0) -> np.ndarray:
    """(H, W) uint8 train ids -> the data set's ids; anything beyond the classes is `void`."""
    table = np.full(256, void, np.uint8)
    table[: len(train_id_to_id)] = train_id_to_id
    return table[train_ids]


@dataclass(frozen=True)
class Painter:
    """Pictures of predictions.

    Args:
        dataset: the snapshot's: class_names, palette, train_id_to_id.
        opacity: of the colors in an overlay, 0 to 1.
        legend: an overlay gets the classes that occur beside it, a frame all classes.
        percentages: likewise, with their shares of the pixels.
    """

    dataset: dict[str, Any]
    opacity: float = 0.5
    legend: bool = False
    percentages: bool = False

    def draw(self, kind: str, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """A picture, (H, W, 3) uint8 RGB, or (H, W) uint8 ids.

        Args:
            kind: of `KINDS`.
            image: (H, W, 3) uint8 RGB.
            train_ids: (H, W) uint8.
        """
        if kind == "id_mask":
            return to_ids(train_ids, self.dataset["train_id_to_id"])
        if kind == "color_mask":
            return colorize(train_ids, self.dataset["palette"])
        mixed = overlay(image, train_ids, self.dataset["palette"], self.opacity)
        return self._explained(mixed, train_ids, np.unique(train_ids).tolist())

    def frame(self, show: str, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8 RGB, of one width for images of one size.

        Args:
            show: of `SHOWS`.
            image: (H, W, 3) uint8 RGB.
            train_ids: (H, W) uint8.
        """
        if show == "overlay":
            picture = overlay(image, train_ids, self.dataset["palette"], self.opacity)
        else:
            picture = colorize(train_ids, self.dataset["palette"])
        if show == "side-by-side":
            picture = side_by_side(image, picture)
        return self._explained(picture, train_ids, range(len(self.dataset["palette"])))

    def _explained(
        self, picture: np.ndarray, train_ids: np.ndarray, classes: Iterable[int]
    ) -> np.ndarray:
        """The picture beside a legend of some classes, if one is wished."""
        palette = self.dataset["palette"]
        classes = [i for i in classes if i < len(palette)]
        if not classes or not (self.legend or self.percentages):
            return picture
        names = room = [self.dataset["class_names"][i] for i in classes]
        if self.percentages:
            shares = 100 * histogram(train_ids) / train_ids.size
            room = [f"{name} 100.0 %" for name in names]
            names = [f"{name} {shares[i]:.1f} %" for i, name in zip(classes, names, strict=True)]
        height = len(picture)
        strip = legend(names, [palette[i] for i in classes], max(16, height), room)
        return side_by_side(picture, strip[:height])

    def write(
        self, folder: Path, name: str, image: np.ndarray, prediction: Tensor,
        kinds: Sequence[str] | None = None,
    ) -> list[Path]:
        """Writes NAME_KIND.png of each kind.

        Args:
            folder: is made.
            name: beginning of the file names.
            image: (H, W, 3) uint8 RGB.
            prediction: (H, W) uint8 train ids.
            kinds: of `KINDS`; default all.

        Returns:
            The paths.
        """
        train_ids = prediction.cpu().numpy()
        paths = {kind: folder / f"{name}_{kind}.png" for kind in kinds or KINDS}
        for kind, path in paths.items():
            write_png(path, self.draw(kind, image, train_ids))
        return list(paths.values())


def class_shares(prediction: Tensor, dataset: dict[str, Any]) -> dict[str, float]:
    """Part of the pixels of every class that occurs, the largest first."""
    counts = prediction.flatten().bincount(minlength=len(dataset["class_names"])).double()
    shares = (counts / counts.sum()).tolist()
    pairs = zip(dataset["class_names"], shares, strict=False)
    return dict(sorted(((n, s) for n, s in pairs if s), key=lambda pair: -pair[1]))


def compare(
    predictor: Predictor, dataset: Any, indices: Iterable[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Name and picture (prediction, then label) of some samples of a data set."""
    for index in indices:
        image, target = dataset[index]
        prediction = predictor(image, tuple(target.shape))
        maps = (prediction.cpu().numpy(), target.numpy())
        pictures = [colorize(train_ids, dataset.palette) for train_ids in maps]
        yield dataset.samples[index].name, side_by_side(*pictures)
