"""Prediction files: color mask, id mask, overlay."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from utils.images import write_png
from utils.inference import Predictor
from utils.visualize import colorize, legend, overlay, side_by_side


def to_ids(train_ids: np.ndarray, train_id_to_id: list[int], void: int = 0) -> np.ndarray:
    """(H, W) uint8 train ids -> the data set's ids; anything beyond the classes is `void`."""
    table = np.full(256, void, np.uint8)
    table[: len(train_id_to_id)] = train_id_to_id
    return table[train_ids]


def write_prediction(
    folder: Path,
    name: str,
    image: np.ndarray,
    prediction: Tensor,
    dataset: dict[str, Any],
    opacity: float = 0.5,
    with_legend: bool = False,
) -> list[Path]:
    """Writes NAME_color_mask.png, NAME_id_mask.png and NAME_overlay.png.

    Args:
        folder: is made.
        name: beginning of the file names.
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) uint8 train ids.
        dataset: the snapshot's: class_names, palette, train_id_to_id.
        opacity: of the colors in the overlay, 0 to 1.
        with_legend: the overlay gets the classes that occur beside it.

    Returns:
        The three paths.
    """
    train_ids = prediction.cpu().numpy()
    palette = dataset["palette"]
    mixed = overlay(image, train_ids, palette, opacity)
    if with_legend:
        present = [i for i in np.unique(train_ids) if i < len(palette)]
        names = [dataset["class_names"][i] for i in present]
        strip = legend(names, [palette[i] for i in present], max(16, mixed.shape[0]))
        mixed = side_by_side(mixed, strip[: mixed.shape[0]])
    pictures = {
        "color_mask": colorize(train_ids, palette),
        "id_mask": to_ids(train_ids, dataset["train_id_to_id"]),
        "overlay": mixed,
    }
    paths = [folder / f"{name}_{kind}.png" for kind in pictures]
    for path, picture in zip(paths, pictures.values(), strict=True):
        write_png(path, picture)
    return paths


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
