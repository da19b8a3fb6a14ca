"""Class tables: names, colors, and the numbers that stand for classes."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.metrics import IGNORE

UNKNOWN = 254  # in id_to_train_id: an id that the data set does not have


@dataclass(frozen=True)
class ClassTable:
    """Names and numbers of a data set's classes; lists are in train-id order."""

    class_names: list[str]
    palette: list[tuple[int, int, int]]
    train_id_to_id: list[int]
    id_to_train_id: np.ndarray  # (256,) uint8: a train id, IGNORE or UNKNOWN


def lookup_table(id_to_train_id: dict[int, int]) -> np.ndarray:
    """(256,) uint8 from id -> train id; 255 is always ignored, other ids are UNKNOWN."""
    table = np.full(256, UNKNOWN, np.uint8)
    table[IGNORE] = IGNORE
    table[list(id_to_train_id)] = list(id_to_train_id.values())
    return table


def map_ids(ids: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) uint8 ids -> train ids, by a (256,) table.

    Raises:
        ValueError: an id that the table does not have; `path` is the label it is in.
    """
    target = cv2.LUT(ids, table)
    if (wrong := target == UNKNOWN).any():
        unknown = np.unique(ids[wrong]).tolist()
        known = np.flatnonzero(table < UNKNOWN)
        raise ValueError(
            f"{path}: ids {unknown[:5]} are not of this data set, whose classes have ids "
            f"{known.min()} to {known.max()}; other data set, or colors?"
        )
    return target
