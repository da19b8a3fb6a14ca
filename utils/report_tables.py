"""The tables of the report, as plain data."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from utils.results import ratio
from utils.scoring import Scores


class ClassRow(NamedTuple):
    """A scored class; figures are in 0..1, nan where there is none."""

    number: int  # of the label
    name: str
    color: str  # as CSS has it
    iou: float
    instance_iou: float
    boundary_iou: float
    recall: float
    share: float  # of the labels' scored pixels

    @property
    def absent(self) -> str:
        """What is said of a class that never occurs; "" if it does."""
        if self.share:
            return ""
        return "in no label nor prediction" if math.isnan(self.iou) else "in no label"


class Cell(NamedTuple):
    """Pixels of one class that were taken for another, or for no scored class."""

    truth: str
    prediction: str
    pixels: int
    share: float  # of the pixels of the true class; nan if it has none
    right: bool


class Band(NamedTuple):
    """Pixels up to some distance from true boundaries, or all others."""

    name: str
    error: float  # part of its pixels that are wrong
    pixels: float  # part of all scored pixels
    wrong: float  # part of all wrong pixels
    iou: float  # mean over classes, nan in the interior


def css_color(color: tuple[int, int, int]) -> str:
    """An RGB color in CSS."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def class_rows(scores: Scores, result: Mapping[str, Any]) -> list[ClassRow]:
    """One row for each scored class."""
    pixels = scores.matrix.sum(1)
    total = pixels[scores.scored].sum()
    rows = []
    for i, label in enumerate(scores.labels):
        if label.ignored:
            continue
        iou, instance_iou, boundary_iou, recall = (
            result.get(key, {}).get(label.name, math.nan)
            for key in ("classScores", "classInstScores", "boundaryScores", "classAccuracies")
        )
        rows.append(ClassRow(i, label.name, css_color(label.color), iou, instance_iou,
                             boundary_iou, recall, ratio(pixels[i], total)))
    return rows


def confusion(scores: Scores) -> list[list[Cell]]:
    """A row for each scored class, a column for each and one for all that is not scored."""
    rows = scores.matrix[scores.scored]
    names = [label.name for label in scores.labels if not label.ignored]
    counts = np.column_stack([rows[:, scores.scored], rows[:, ~scores.scored].sum(1)])
    return [
        [Cell(truth, prediction, int(row[j]), ratio(row[j], row.sum()), i == j)
         for j, prediction in enumerate([*names, "not scored"])]
        for i, (truth, row) in enumerate(zip(names, counts, strict=True))
    ]


def largest_confusions(table: list[list[Cell]], count: int) -> list[Cell]:
    """The wrong cells with the most pixels, the largest first."""
    wrong = [cell for row in table for cell in row if cell.pixels and not cell.right]
    return sorted(wrong, key=lambda cell: -cell.pixels)[:count]


def bands(result: Mapping[str, Any]) -> list[Band]:
    """Errors by distance from the true boundaries; [] where these were not scored."""
    counts = result.get("boundaryErrors", {})
    # The widest band and the interior are all pixels.
    pixels, wrong = (sum(row[key] for row in list(counts.values())[-2:])
                     for key in ("pixels", "wrong"))
    return [
        Band(name, ratio(row["wrong"], row["pixels"]), ratio(row["pixels"], pixels),
             ratio(row["wrong"], wrong), result["trimapScores"].get(name, math.nan))
        for name, row in counts.items()
    ]
