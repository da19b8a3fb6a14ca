"""The pictures of the report: which images, their thumbnails in the page, and files to open."""

import base64
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import cv2
import numpy as np
import torch

from utils.files import write_file
from utils.images import write_png
from utils.pictures import class_difference, colorize, difference
from utils.scoring.counts import ScoredLabel, Scores
from utils.scoring.per_image import Scored
from utils.scoring.summary import average, image_ious
from utils.workers import map_in_threads

FOLDER = "pictures"
LARGEST = 320 * 160  # pixels of a thumbnail
REPEATED = ("image", "prediction", "label")  # for every class that an image is shown for
MOST = 3_000_000  # characters of all thumbnails in the page
PREFIX = "data:image/webp;base64,"
SMALL = ".webp", cv2.IMWRITE_WEBP_QUALITY, 75
FULL = ".jpg", cv2.IMWRITE_JPEG_QUALITY, 90


@dataclass(frozen=True)
class Choice:
    """Numbers of the images that are shown."""

    worst: list[int]
    best: list[int]  # the best first
    by_class: dict[int, list[int]]  # of a label, its worst images

    def pictures(self) -> dict[int, list[int]]:
        """Image -> labels for which it is shown, perhaps none."""
        shown: dict[int, list[int]] = {index: [] for index in [*self.worst, *self.best]}
        for label, indices in self.by_class.items():
            for index in indices:
                shown.setdefault(index, []).append(label)
        return shown

    def uses(self) -> dict[int, int]:
        """Image -> how often it is shown."""
        return dict(Counter(chain(self.worst, self.best, *self.by_class.values())))


class Picture(NamedTuple):
    """A thumbnail in the page, and the file that it links to."""

    title: str
    data: str  # URI
    width: int
    height: int
    file: str  # URL, from the page

    def shrunk(self, share: float) -> "Picture":
        """The same with a thumbnail of this share of its pixels."""
        data = np.frombuffer(base64.b64decode(self.data.removeprefix(PREFIX)), np.uint8)
        area = max(1, int(share * self.width * self.height))
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR_RGB))
        return Picture(self.title, *_thumbnail(pixels, area), self.file)


def choose(scores: Scores, count: int) -> Choice:
    """The `count` images with the lowest and the highest mean IoU, and with the lowest per class.

    No image is among both the worst and the best; images without an error in a class are not among
    its worst. Of equal IoUs, the one with more wrong pixels is the worse.
    """
    Rows = dict[int, tuple[float, int]]  # image -> IoU and what is wrong, negative
    means: Rows = {}
    of_class: dict[int, Rows] = {i: {} for i, x in enumerate(scores.labels) if not x.ignored}
    for index, ious in image_ious(scores).items():
        hits, pixels, false = scores.images[index].classes
        wrong = pixels - hits + false
        if not math.isnan(mean := average(ious.values())):
            means[index] = mean, -int((pixels - hits)[scores.scored].sum())
        for i, rows in of_class.items():
            if wrong[i]:
                rows[index] = ious[scores.labels[i].name], -int(wrong[i])
    order = sorted(means, key=means.__getitem__)
    return Choice(order[:count], order[count:][::-1][:count],
                  {i: sorted(rows, key=rows.__getitem__)[:count] for i, rows in of_class.items()})


Drawn = dict[int, dict[str, Picture]]  # image -> kind -> picture


@dataclass(frozen=True)
class Gallery:
    """Draws thumbnails, and writes the same pictures at full size into DIR/pictures/."""

    folder: Path  # DIR
    labels: Sequence[ScoredLabel]  # by the numbers that label maps hold
    names: Sequence[str]  # of the images

    def draw(self, scored: Scored, shown_for: Iterable[int]) -> dict[str, Picture]:
        """The image if it is given, prediction, label and difference; "class N" for each label N.

        The image is resized to the label; `shown_for` are the labels whose own difference is drawn.
        """
        prediction, truth = scored.prediction, scored.truth
        colors = [label.color for label in self.labels]
        ignored = [label.ignored for label in self.labels]
        pictures = {
            "prediction": colorize(prediction, colors),
            "label": colorize(truth, colors),
            "difference": difference(prediction, truth, colors, ignored),
        }
        if scored.image is not None:
            pictures["image"] = cv2.resize(scored.image, truth.shape[::-1])
        for number in shown_for:
            pictures[f"class {number}"] = class_difference(prediction, truth, number, ignored)
        name = self.names[scored.number]
        return {kind: self._picture(name, kind, pixels) for kind, pixels in pictures.items()}

    def _picture(self, name: str, kind: str, pixels: np.ndarray) -> Picture:
        photo = kind == "image"
        file = f"{name}_{kind.replace(' ', '_')}.{'jpg' if photo else 'png'}"
        path = self.folder / FOLDER / file
        if photo:
            write_file(path, _encode(pixels, *FULL))
        else:
            write_png(path, pixels)
        title = "difference" if kind.startswith("class") else kind
        url = f"{FOLDER}/{quote(os.fsencode(file))}"
        return Picture(title, *_thumbnail(pixels, LARGEST), url)


def draw_all(
    folder: Path, choice: Choice, show: Callable[[int], Scored], scores: Scores,
    names: Sequence[str],
) -> Drawn:
    """Image -> its pictures by kind, for all that were chosen; writes the files.

    `show` gives pixels, prediction and label of an image's number.
    """
    wanted = choice.pictures()
    gallery = Gallery(folder, scores.labels, names)
    drawn = map_in_threads(lambda index: gallery.draw(show(index), wanted[index]), wanted,
                     torch.get_num_threads())
    return fit(dict(zip(wanted, drawn, strict=True)), choice.uses())


def fit(drawn: Drawn, uses: Mapping[int, int]) -> Drawn:
    """The same pictures, with thumbnails so small that those of the page have at most `MOST`.

    `uses` is how often an image is shown.
    """
    length = sum(len(picture.data) * (uses[index] if kind in REPEATED else 1)
                 for index, pictures in drawn.items() for kind, picture in pictures.items())
    if length <= MOST:
        return drawn
    share = 0.8 * MOST / length  # the fewer pixels, the more bytes has each
    return fit({index: {kind: picture.shrunk(share) for kind, picture in pictures.items()}
                for index, pictures in drawn.items()}, uses)


def _thumbnail(pixels: np.ndarray, area: int) -> tuple[str, int, int]:
    """URI, width and height of a picture of at most so many pixels."""
    height, width = pixels.shape[:2]
    factor = math.sqrt(area / (height * width))
    if factor < 1:
        width, height = (max(1, round(side * factor)) for side in (width, height))
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return PREFIX + base64.b64encode(_encode(pixels, *SMALL)).decode(), width, height


def _encode(pixels: np.ndarray, suffix: str, option: int, quality: int) -> bytes:
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(suffix, bgr, [option, quality])[1].tobytes()
