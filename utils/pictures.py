"""Pictures of label maps for people: colors, overlays, side by side, a legend."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from utils.images import Palette, write_png
from utils.labels import histogram, to_ids

if TYPE_CHECKING:
    from torch import Tensor

# of a class: told apart by the color-blind too
RIGHT, MISSED, FALSE = (176, 184, 196), (230, 97, 1), (94, 60, 153)
KINDS = ("color_mask", "id_mask", "overlay")
SHOWS = ("overlay", "mask", "side-by-side")
FONTS = (  # of systems; Pillow's own has ASCII alone
    "DejaVuSans.ttf", "NotoSans-Regular.ttf", "arial.ttf", "Arial Unicode.ttf",
    "NotoSansCJK-Regular.ttc", "wqy-zenhei.ttc", "msyh.ttc", "PingFang.ttc",
)
SPELLED = {"ß": "ss", "Æ": "AE", "æ": "ae", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l"}
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def colorize(train_ids: np.ndarray, palette: Palette) -> np.ndarray:
    """(H, W, 3) uint8 RGB: each pixel in the color of its class.

    Args:
        train_ids: (H, W) integers; any outside 0..C-1, such as 255, is black.
        palette: (C, 3) RGB in 0..255, C at most 255.
    """
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = palette
    return cv2.LUT(cv2.cvtColor(_to_uint8(train_ids, len(palette)), cv2.COLOR_GRAY2RGB), table)


def overlay(
    image: np.ndarray, train_ids: np.ndarray, palette: Palette, opacity: float = 0.5
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the image, tinted by class; a pixel without a class stays as it is.

    Args:
        image: (H, W, 3) uint8 RGB.
        train_ids: (H, W) integers; outside 0..C-1 there is no class.
        palette: (C, 3) RGB in 0..255, C at most 255.
        opacity: of the colors, from 0 (only the image) to 1 (only the colors).

    Raises ValueError: the sizes differ, or the opacity is outside 0..1.
    """
    if image.shape[:2] != train_ids.shape:
        raise ValueError(f"an image of {image.shape[:2]} and train ids of {train_ids.shape}")
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity {opacity}, expected 0..1")
    mixed = cv2.addWeighted(image, 1 - opacity, colorize(train_ids, palette), opacity, 0)
    # By id and not by color, as black may also be the color of a class.
    unclassed = (_to_uint8(train_ids, len(palette)) >= len(palette)).view(np.uint8)
    return cv2.copyTo(image, unclassed, mixed)


def difference(
    prediction: np.ndarray, truth: np.ndarray, palette: Palette, ignored: Sequence[bool]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the predicted color where it is wrong, white where right, else black.

    Of (H, W) uint8 labels; `ignored` says by label whether it is not scored and therefore black.
    """
    picture = colorize(prediction, palette)
    picture[prediction == truth] = 255
    picture[_ignored(truth, ignored)] = 0
    return picture


def class_difference(
    prediction: np.ndarray, truth: np.ndarray, label: int, ignored: Sequence[bool]
) -> np.ndarray:
    """(H, W, 3) uint8 RGB: one class in `RIGHT`, `MISSED`, `FALSE`; white elsewhere, else black.

    Of (H, W) uint8 labels; `ignored` says by label whether it is not scored and therefore black.
    """
    kinds = (truth == label) + 2 * (prediction == label).astype(np.uint8)
    colors = np.array([(255, 255, 255), MISSED, FALSE, RIGHT], np.uint8)
    picture = colorize(kinds, colors)
    picture[_ignored(truth, ignored)] = 0
    return picture


def side_by_side(*pictures: np.ndarray, gap: int = 4) -> np.ndarray:
    """(H, sum of W and gaps, 3) uint8 RGB: (H, W, 3) pictures from left to right, white gaps.

    Raises ValueError: the heights differ, or there is no picture.
    """
    heights = {picture.shape[0] for picture in pictures}
    if len(heights) != 1:
        raise ValueError(f"pictures of heights {sorted(heights)}, expected one height")
    line = np.full((heights.pop(), gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (line, picture)]
    return np.concatenate(parts[1:], axis=1)


def legend(
    names: Sequence[str], palette: Palette, height: int, room: Sequence[str] | None = None
) -> np.ndarray:
    """(height, W, 3) uint8 RGB: a swatch and a name for each class, in one column or more.

    Args:
        names: C class names.
        palette: (C, 3) RGB in 0..255.
        height: of the strip in pixels, to stand `side_by_side` with pictures; at least 16.
        room: texts that would fit too: strips with the same ones have the same layout.

    Raises ValueError: names and colors differ in number, or the strip is too low for a line.
    """
    if len(names) != len(palette) or not names or height < 16:
        raise ValueError(f"{len(names)} names, {len(palette)} colors, {height} pixels; expected as "
                         "many colors as names, at least 1, and at least 16 pixels")
    row = min(max(height // len(names), 16), 32)
    per_column = height // row
    texts = [lettering(name, 0.7 * row) for name in names]
    fits = [lettering(name, 0.7 * row) for name in room] if room else texts
    widths = [row + int(font.getlength(name)) + row // 2 for name, font in fits]
    columns = [range(i, min(i + per_column, len(names))) for i in range(0, len(names), per_column)]
    strip = Image.new("RGB", (sum(max(widths[i] for i in c) for c in columns), height), "white")
    draw, left = ImageDraw.Draw(strip), 0
    for column in columns:
        for line, i in enumerate(column):
            top, color = line * row, tuple(int(value) for value in palette[i])
            draw.rectangle((left + 2, top + 2, left + row - 4, top + row - 4), fill=color)
            name, font = texts[i]
            draw.text((left + row, top + row // 2), name, fill=0, font=font, anchor="lm")
        left += max(widths[i] for i in column)
    return np.array(strip)


def lettering(name: str, size: float) -> tuple[str, Font]:
    """A name and a font that has its letters; where there is none, the name in ASCII."""
    plain = ImageFont.load_default(size=size)
    if name.isascii():
        return name, plain
    if font := _find_font("".join(sorted({*name} - {" "})), size):
        return name, font
    spelled = "".join(SPELLED.get(letter, letter) for letter in name)
    parts = unicodedata.normalize("NFKD", spelled)
    kept = "".join(part for part in parts if not unicodedata.combining(part))
    return kept.encode("ascii", "backslashreplace").decode(), plain


@lru_cache(maxsize=512)  # a video has a legend in each frame
def _find_font(letters: str, size: float) -> Font | None:
    """A font of matplotlib or the system that has all the letters, without importing it."""
    package = find_spec("matplotlib")
    places = package.submodule_search_locations if package else None
    own = [f"{place}/mpl-data/fonts/ttf/{FONTS[0]}" for place in places or ()]
    for path in (*own, *FONTS):
        try:
            font = ImageFont.truetype(path, size)
            missing = bytes(font.getmask("\U0010ffff"))  # no letter: what stands for one
            if all(bytes(font.getmask(letter)) != missing for letter in letters):
                return font
        except OSError:
            continue
    return None


def _ignored(truth: np.ndarray, ignored: Sequence[bool]) -> np.ndarray:
    """(H, W) bool; what is no label is not scored either."""
    table = np.ones(256, bool)
    table[: len(ignored)] = ignored
    return table[truth]


def _to_uint8(train_ids: np.ndarray, classes: int) -> np.ndarray:
    """The ids with 255 for all that are outside 0..classes-1; one pass less if they are uint8."""
    if train_ids.dtype == np.uint8:
        return train_ids
    return np.where((train_ids >= 0) & (train_ids < classes), train_ids, 255).astype(np.uint8)


@dataclass(frozen=True)
class Painter:
    """Pictures of predictions, (H, W) uint8 train ids, and their images, (H, W, 3) uint8 RGB."""

    dataset: dict[str, Any]  # the snapshot's: class_names, palette, train_id_to_id
    opacity: float = 0.5  # of the colors in an overlay, 0 to 1
    legend: bool = False  # an overlay gets the classes that occur beside it, a frame all classes
    percentages: bool = False  # likewise, with their shares of the pixels

    def draw(self, kind: str, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """A picture of one of `KINDS`: (H, W, 3) uint8 RGB, or (H, W) uint8 ids."""
        if kind == "id_mask":
            return to_ids(train_ids, self.dataset["train_id_to_id"])
        if kind == "color_mask":
            return colorize(train_ids, self.dataset["palette"])
        mixed = overlay(image, train_ids, self.dataset["palette"], self.opacity)
        return self._explained(mixed, train_ids, np.unique(train_ids).tolist())

    def frame(self, show: str, image: np.ndarray, train_ids: np.ndarray) -> np.ndarray:
        """One of `SHOWS`: (H, W, 3) uint8 RGB, of one width for images of one size."""
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
        self, folder: Path, name: str, image: np.ndarray, prediction: "Tensor",
        kinds: Sequence[str] | None = None,
    ) -> list[Path]:
        """Writes FOLDER/NAME_KIND.png of some `KINDS`, by default all; returns their paths."""
        train_ids, paths = prediction.cpu().numpy(), picture_paths(folder, name, kinds)
        for kind, path in paths.items():
            write_png(path, self.draw(kind, image, train_ids))
        return list(paths.values())


def picture_paths(folder: Path, name: str, kinds: Sequence[str] | None = None) -> dict[str, Path]:
    """Where `Painter.write` writes each kind of picture."""
    return {kind: folder / f"{name}_{kind}.png" for kind in kinds or KINDS}


def replaced(paths: Iterable[Path]) -> str:
    """What is to be said of the files that are there and will be written over; "" of none."""
    there = sum(map(os.path.exists, paths))  # Path.exists stumbles over names that are too long
    return f"{there} file{'s' * (there > 1)} of the same name replaced" if there else ""


def class_shares(prediction: "Tensor", dataset: dict[str, Any]) -> dict[str, float]:
    """Part of the pixels of every class that occurs, the largest first."""
    counts = prediction.flatten().bincount(minlength=len(dataset["class_names"])).double()
    shares = (counts / counts.sum()).tolist()
    pairs = zip(dataset["class_names"], shares, strict=False)
    return dict(sorted(((n, s) for n, s in pairs if s), key=lambda pair: -pair[1]))
