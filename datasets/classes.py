"""Class tables: names, colors, label ids to train ids, and maps from one table to another."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from utils.files import read_text
from utils.images import read_colors, read_image, read_label
from utils.labels import IGNORE, NONE, color_ids, histogram
from utils.stopping import no_class

UNKNOWN = 254  # in id_to_train_id: an id that the data set does not have
BLACK = (0, 0, 0)
Color = tuple[int, ...]


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


def named_classes(names: list[str]) -> ClassTable:
    """The table of classes known by name alone: ids are places, colors those of Pascal VOC."""
    colors = [voc_color(number) for number in range(1, len(names) + 1)]
    ids = list(range(len(names)))
    return ClassTable(names, colors, ids, lookup_table(dict(zip(ids, ids, strict=True))))


def voc_color(number: int) -> tuple[int, int, int]:
    """The color of a number in masks of Pascal VOC, and of tools that follow it."""
    bits = [[number >> (3 * place + channel) & 1 for place in range(3)] for channel in range(3)]
    red, green, blue = (sum(bit << 7 - place for place, bit in enumerate(each)) for each in bits)
    return red, green, blue


def used_colors(path: Path, ids: np.ndarray) -> dict[int, Color]:
    """Index -> color, of the indices that a palette PNG uses, if its palette can have a meaning.

    None of gray values by their index and of Pascal VOC's colors, which tools write for any data.
    """
    if not (colors := read_colors(path)):
        return {}
    used = {int(i): colors.get(int(i), BLACK) for i in np.flatnonzero(histogram(ids))}
    telling = used if any(used) else colors  # black at 0 is in every such palette
    plain = len(colors) > 1 and all(c in ((i, i, i), voc_color(i)) for i, c in telling.items())
    return {} if plain else used


def read_indexed(path: Path, colors: Mapping[int, Color]) -> np.ndarray:
    """(H, W) uint8 ids of a gray or palette PNG, given the colors of the ids.

    Some tools give every file a palette of its own. Where the color of an index is that of another
    id, ids are taken by color; black, if it is of no id, is an id that is not in use. Palettes are
    filled up with black: at an index that is no id it says nothing.

    Raises ValueError: some colors are of other ids than their indices, and others of none.
    """
    ids = read_label(path, palette=True)
    used = used_colors(path, ids)
    by_color = {tuple(color): i for i, color in [*colors.items()][::-1]}
    if not any(color in by_color and tuple(colors.get(i, BLACK)) != color
               for i, color in used.items()):
        return ids
    by_color.setdefault(BLACK, max({*range(256)} - {*colors}))
    strange = [(i, color) for i, color in used.items() if color not in by_color]
    if strange:
        raise ValueError(f"{path}: its palette has colors of classes, but not at their ids, and "
                         f"{strange[0][1]} at {strange[0][0]}, which is no class's; give the "
                         "classes the colors of the labels, or export gray PNGs of ids")
    table = np.zeros(256, np.uint8)
    table[list(used)] = [by_color[color] for color in used.values()]
    return table[ids]


def read_colored(path: Path, colors: Mapping[int, Color]) -> np.ndarray:
    """(H, W) uint8 ids of an RGB PNG, given their colors; black of no id is an id not in use.

    Where all is gray, and a gray is no class's color, the three channels are ids.

    Raises ValueError: colors of no class, or a gray that is an id and the color of another.
    """
    pixels = read_image(path)
    places = color_ids(pixels, [*colors.values(), BLACK])
    by_place = np.array([*colors, max({*range(256)} - {*colors})], np.uint8)
    values, strange = pixels[..., 0], places == NONE
    if (pixels == values[..., None]).all():
        if strange.any():
            return values.copy()
        ids = by_place[places]
        if len(unclear := np.intersect1d(values[ids != values], [*colors])):
            raise ValueError(f"{path}: its gray {unclear[0]} may be an id, or the color of another "
                             "class; save labels with one channel, which are ids")
        return ids
    if strange.any():
        first = tuple(pixels[strange][0].tolist())
        raise ValueError(f"{path}: its colors are of no class in {strange.sum():,} of "
                         f"{strange.size:,} pixels, the first is {first}; expected gray PNGs of "
                         "ids, or the colors that the classes have")
    return by_place[places]


def map_ids(ids: np.ndarray, table: np.ndarray, path: Path) -> np.ndarray:
    """(H, W) uint8 ids -> train ids; ValueError with the label's `path` if the table lacks one."""
    target = cv2.LUT(ids, table)
    if (wrong := target == UNKNOWN).any():
        unknown = np.unique(ids[wrong]).tolist()
        known = np.flatnonzero(table < UNKNOWN)
        raise ValueError(f"{path}: ids {unknown[:5]} are not of this data set, whose classes have "
                         f"ids {known.min()} to {known.max()}; other data set, or colors?")
    return target


def match_classes(
    theirs: list[str], ours: list[str], snapshot: str, path: str | None = None
) -> np.ndarray | None:
    """(256,) uint8 from channel of the logits to train id; None where they are the same.

    Args:
        theirs: classes of the network, in the order of its logits.
        ours: classes of the data set, in train-id order.
        snapshot: file of the network, for messages.
        path: a text file with a line `network's class = data set's class` for each class that has
            a counterpart; several may stand for one. What is not listed counts as a miss.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the names differ and there is no file, or a line names no class.
    """
    if path is None:
        if theirs == ours + ["void"] * (len(theirs) - len(ours)):
            return None
        raise ValueError(
            f"{snapshot}: its {len(theirs)} classes ({', '.join(theirs[:3])}, ...) are not the "
            f"data set's {len(ours)} ({', '.join(ours[:3])}, ...); give --class-map FILE")
    table = np.full(256, len(ours), np.uint8)
    for source, target in read_class_map(path, theirs, ours).items():
        table[theirs.index(source)] = ours.index(target)
    return table


def read_class_map(
    path: str, theirs: Collection[str] = (), ours: Collection[str] = ()
) -> dict[str, str]:
    """Class -> class, in the order of a text file's lines `class = class`.

    Args:
        path: of the file, in which lines that begin with # are notes.
        theirs: classes that may be on the left, any where there are none.
        ours: likewise on the right.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line of another form, of another class, or of one for the second time; none.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such class map")
    found: dict[str, str] = {}
    for number, line in enumerate(read_text(Path(path)).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        source, _, target = (part.strip() for part in line.partition("="))
        odd = not ours and re.search("=|#", target)  # a note would be a part of the new name
        fault = "" if source and target and not odd else "expected CLASS = CLASS"
        for name, known in ((source, theirs), (target, ours)):
            if known and name not in known and not fault:
                fault = no_class(name, known)
        if source in found:
            fault = f"{source} is there twice"
        if fault:
            raise ValueError(f"{path}: line {number}: {line.strip()!r}: {fault}")
        found[source] = target
    if not found:
        raise ValueError(f"{path}: maps no class")
    return found


def merge_classes(table: ClassTable, class_map: Mapping[str, str]) -> tuple[ClassTable, np.ndarray]:
    """The table of the classes that others are mapped to, and (256,) uint8 train id -> theirs.

    Color and id are those of the first class that is mapped to one; what is not mapped is ignored.
    ValueError for a class that `table` does not have.
    """
    names = list(dict.fromkeys(class_map.values()))
    first: dict[str, int] = {}
    onto = np.full(256, IGNORE, np.uint8)
    onto[UNKNOWN] = UNKNOWN
    for source, target in class_map.items():
        if source not in table.class_names:
            raise ValueError(f"--class-map {no_class(source, table.class_names)}")
        train_id = table.class_names.index(source)
        first.setdefault(target, train_id)
        onto[train_id] = names.index(target)
    colors = [table.palette[i] for i in first.values()]
    ids = [table.train_id_to_id[i] for i in first.values()]
    return ClassTable(names, colors, ids, onto[table.id_to_train_id]), onto
