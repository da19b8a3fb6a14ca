"""Label maps drawn from the `*_polygons.json` of Cityscapes, pixel for pixel as its scripts do.

A file has `imgHeight`, `imgWidth` and `objects`, each with a `label` and a `polygon` of [x, y],
which are drawn one over the other in their order. `PIL.ImageDraw` decides what a polygon covers:
the pixels on its outline too. Coordinates lose their fraction; what lies outside is cut off.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from datasets.cityscapes_labels import LABELS, Label
from utils.files import read_file
from utils.images import MAX_PIXELS, shown

GROUP = "group"  # ends the name of several things that nobody could tell apart
Source = str | Path | Mapping[str, Any]  # a file, or what json.loads made of one


def draw_polygons(source: Source) -> np.ndarray:
    """(H, W) uint8 ids of a file, or of its parsed contents; 0, unlabeled, where nothing was drawn.

    Deleted objects and those of a negative id (license plate) are not drawn; "cargroup" is "car".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: damaged, or not such a file; an unknown label, or one without an outline.
    """
    size, objects = _read(source)
    image = Image.new("L", size[::-1])
    canvas = ImageDraw.Draw(image)
    for label, points in _visible(source, objects):
        canvas.polygon(points, fill=label.id)
    return np.array(image)


def polygons_size(source: Source) -> tuple[int, int]:
    """(H, W) of the picture that the polygons belong to. Raises as `draw_polygons`."""
    return _read(source)[0]


def _name(source: Source) -> str:
    return "polygons" if isinstance(source, Mapping) else shown(source)


def _read(source: Source) -> tuple[tuple[int, int], list]:
    """Height and width, and the objects, not checked."""
    content, name = source, _name(source)
    if not isinstance(content, Mapping):
        try:
            content = json.loads(read_file(content))
        except FileNotFoundError:
            raise FileNotFoundError(f"{name}: no such file") from None
        except OSError as error:
            raise ValueError(f"{name}: {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{name}: truncated or damaged JSON; restore the file") from error
    keys = ("imgHeight", "imgWidth", "objects")
    missing = [key for key in keys if not isinstance(content, Mapping) or key not in content]
    if missing:
        raise ValueError(f"{name}: no {', '.join(missing)}; a *_polygons.json is expected")
    height, width, objects = (content[key] for key in keys)
    whole = all(type(side) is int and side > 0 for side in (height, width))
    if not whole or height * width > MAX_PIXELS:
        raise ValueError(f"{name}: size {width!r}x{height!r}, expected whole numbers, at most "
                         f"{MAX_PIXELS:,} pixels")  # fmt: skip
    if not isinstance(objects, list):
        raise ValueError(f"{name}: objects is not a list")
    return (height, width), objects


def _visible(source: Source, objects: list) -> Iterator[tuple[Label, list]]:
    """What is drawn: its class, x and y of every corner in turn."""
    labels = {label.name: label for label in LABELS}
    for number, item in enumerate(objects):
        where = f"{_name(source)}: object {number}"
        if not isinstance(item, Mapping) or not {"label", "polygon"} <= item.keys():
            raise ValueError(f"{where}: without label and polygon")
        if item.get("deleted"):
            continue
        name = str(item["label"])
        label = labels.get(name) or labels.get(name.removesuffix(GROUP))
        if label is None:
            raise ValueError(f"{where}: {name!r} is no label of Cityscapes")
        if label.id >= 0:
            yield label, _corners(item["polygon"], where)


def _corners(polygon: Any, where: str) -> list:
    try:
        points = np.array(polygon)
    except ValueError:  # points of different lengths
        points = np.empty(0)
    if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or points.dtype.kind not in "if":
        raise ValueError(f"{where}: its polygon is not a list of two or more [x, y]")
    if not (points.max() < 2**31 and points.min() > -(2**31)):  # nor NaN
        raise ValueError(f"{where}: its polygon has coordinates beyond 2^31")
    return points.ravel().tolist()
