"""The report: one HTML page with all figures, the best and the worst images, and no scripts.

The page needs no network and no other file; pictures at full size lie beside it.
"""

import argparse
import datetime
import math
import platform
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from utils import distributed, files
from utils.pictures import FALSE, MISSED, RIGHT
from utils.report.pictures import Picture, choose, draw_all
from utils.scoring.comparison import Comparison
from utils.scoring.counts import Scores
from utils.scoring.per_image import Scored
from utils.scoring.summary import Figures, average, image_ious, ratio

PAGE = "index.html"
CONFUSIONS = 10  # that are listed
IMAGES = 3  # the worst, the best, and the worst of each class
DATA = ("holdout", "cv_split", "limit")
NETWORK = ("eval_size", "eval_crop", "class_map", "scales", "flip_average", "window", "overlap",
           "average")


@dataclass(frozen=True)
class Report:
    """What the report is about."""

    title: str  # of the page, what is scored
    source: str  # what made the predictions
    scores: Scores  # counts of all images
    result: Mapping[str, Any]  # the figures, as `utils.scoring.summary.summarize` has them
    names: Sequence[str]  # of the images
    facts: Mapping[str, Any]  # name -> value, said as they are; None is left out
    options: Mapping[str, Any]  # likewise, folded
    comparison: Comparison | None = None  # with an earlier evaluation


class Strip(NamedTuple):
    """An image in the page: its pictures and what is said of it."""

    name: str
    figures: str
    pictures: list[Picture]


def check_folder(folder: str) -> None:
    """Refuses, before the work, a report that could not be written.

    Raises ValueError: the folder holds a report or cannot be made, or jinja2 is missing.
    """
    try:
        import jinja2  # noqa: F401
    except ImportError:
        raise ValueError("--report needs jinja2: pip install jinja2") from None
    path = Path(folder)
    if (path / PAGE).exists():
        raise ValueError(f"{path / PAGE}: is there already; choose another folder")
    files.check_folder(path)


def write(folder: str, report: Report, show: Callable[[int], Scored]) -> Path:
    """Writes DIR/index.html last, so that a page that is there is complete; returns its path.

    `show` gives pixels, prediction and label of an image's number.
    """
    import jinja2

    choice = choose(report.scores, IMAGES)
    pictures = draw_all(Path(folder), choice, show, report.scores, report.names)
    ious = image_ious(report.scores)

    def strips(indices: Sequence[int], label: int | None = None) -> list[Strip]:
        return [_strip(report, index, ious[index], pictures[index], label) for index in indices]

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
    )
    environment.filters["percent"] = percent
    environment.tests["nan"] = math.isnan
    table = confusion(report.scores)
    wrong = [cell for row in table for cell in row if cell.pixels and not cell.right]
    result, comparison = report.result, report.comparison
    text = environment.get_template("report.html").render(
        report=report, result=result,
        strips={"worst": strips(choice.worst), "best": strips(choice.best),
                "by_class": {i: strips(indices, i) for i, indices in choice.by_class.items()}},
        classes=class_rows(report.scores, result),
        categories=[name for name, iou in result["categoryScores"].items() if not math.isnan(iou)],
        changes={row.name: row.change for row in comparison.averages} if comparison else {},
        bands=bands(result),
        confusion=table, confusions=sorted(wrong, key=lambda cell: -cell.pixels)[:CONFUSIONS],
        pixels=int(report.scores.matrix[report.scores.scored].sum()),
        colors={"right": css_color(RIGHT), "missed": css_color(MISSED), "false": css_color(FALSE)},
        nan=math.nan, sqrt=math.sqrt,
        date=f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M %Z}",
        command=shlex.join([Path(sys.executable).name, *sys.argv]),
        versions=f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"NumPy {np.__version__}, OpenCV {cv2.__version__}, {platform.platform()}",
    )
    path = Path(folder) / PAGE
    # A file name may hold bytes that are no text.
    files.write_file(path, text.encode(errors="backslashreplace"))
    return path


def _strip(
    report: Report, index: int, ious: Figures, pictures: Mapping[str, Picture], label: int | None
) -> Strip:
    """One image with its figures, those of one class if a label is given."""
    hits, pixels, false = report.scores.images[index].classes
    kinds = ["image", "prediction", "label", "difference"]
    if label is None:
        scored = report.scores.scored
        accuracy = ratio(hits[scored].sum(), pixels[scored].sum())
        figures = (f"mean IoU {percent(average(ious.values()))}\N{NO-BREAK SPACE}%, "
                   f"pixel accuracy {percent(accuracy)}\N{NO-BREAK SPACE}%")
    else:
        kinds[-1] = f"class {label}"
        figures = (f"IoU {percent(ious[report.scores.labels[label].name])}\N{NO-BREAK SPACE}%, "
                   f"missed {pixels[label] - hits[label]:,} of {pixels[label]:,} pixels, "
                   f"false {false[label]:,}")
    shown = [pictures[kind] for kind in kinds if kind in pictures]
    return Strip(report.names[index], figures, shown)


def percent(figure: float, digits: int = 1, sign: str = "") -> str:
    """A figure of 0..1 in percent, a dash for nan."""
    if math.isnan(figure):
        return "–"
    rounded = round(100 * figure, digits) or 0.0  # not -0.0
    return f"{rounded:{sign if rounded else ''}.{digits}f}".replace("-", "−")


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


def css_color(color: tuple[int, int, int]) -> str:
    """An RGB color in CSS."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def class_rows(scores: Scores, result: Mapping[str, Any]) -> list[ClassRow]:
    """One row for each scored class."""
    pixels = scores.matrix.sum(1)

    def figure(key: str, name: str) -> float:
        return result.get(key, {}).get(name, math.nan)

    return [ClassRow(i, x.name, css_color(x.color), figure("classScores", x.name),
                     figure("classInstScores", x.name), figure("boundaryScores", x.name),
                     figure("classAccuracies", x.name),
                     ratio(pixels[i], pixels[scores.scored].sum()))
            for i, x in enumerate(scores.labels) if not x.ignored]


def confusion(scores: Scores) -> list[list[Cell]]:
    """A row for each scored class, a column for each and one for all that is not scored."""
    rows = scores.matrix[scores.scored]
    names = [label.name for label in scores.labels if not label.ignored]
    counts = np.column_stack([rows[:, scores.scored], rows[:, ~scores.scored].sum(1)])
    return [
        [Cell(truth, prediction, int(row[j]), ratio(row[j], row.sum()), i == j)
         for j, prediction in enumerate([*names, "not scored"])]
        for i, (truth, row) in enumerate(zip(names, counts, strict=True))]


def bands(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Errors by distance from the true boundaries; [] where these were not scored.

    These are `error`, part of the band's pixels, its parts of all `pixels` and of all `wrong` ones,
    and the mean `iou` over classes, nan in the interior.
    """
    counts = result.get("boundaryErrors", {})
    # The widest band and the interior are all pixels.
    pixels, wrong = (sum(row[key] for row in list(counts.values())[-2:])
                     for key in ("pixels", "wrong"))
    return [
        {"name": name, "error": ratio(row["wrong"], row["pixels"]),
         "pixels": ratio(row["pixels"], pixels), "wrong": ratio(row["wrong"], wrong),
         "iou": result["trimapScores"].get(name, math.nan)}
        for name, row in counts.items()
    ]


def settings(args: argparse.Namespace, about: dict[str, Any]) -> dict[str, Any]:
    """The options of evaluate.py that decide its scores; `about` the network, empty without one."""
    chosen = {name: getattr(args, name) for name in DATA + (NETWORK if about else ())}
    if args.boundary:
        chosen["boundary_ratio"] = args.boundary_ratio
    return chosen | {key: about[key] for key in ("precision", "compiled") if about}


def origin(args: argparse.Namespace, data: str, about: dict[str, Any]) -> dict[str, Any]:
    """What the report says: rows of a name and a text, or None where there is nothing to say."""
    builder = about.get("options", {}).items()
    chosen = {key: value for key, value in settings(args, about).items()
              if value is not None and value is not False and value != [1.0]}
    return {
        "snapshot": args.snapshot,
        "network": about.get("arch"),
        "options of the network": ", ".join(f"{key} {value}" for key, value in builder) or None,
        "parameters": f"{about['parameters']:,}" if about else None,
        "trained for": f"{about['step']:,} steps" if "step" in about else None,
        "best in training": f"{100 * about['best']:.2f} % val mIoU" if "best" in about else None,
        "predictions": args.predictions,
        "data set": data,
        "evaluated with": ", ".join(
            f"{key.replace('_', ' ')} "
            f"{' '.join(map(str, value)) if isinstance(value, list) else value}"
            for key, value in chosen.items()) or None,
        "processes": distributed.world(),
    }
