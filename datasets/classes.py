"""Class tables: names, colors, and the numbers that stand for classes."""

from dataclasses import dataclass

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
