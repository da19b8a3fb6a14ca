"""Prediction PNGs: of any program found, recognized as ids, train ids or colors, read; and what
each benchmark expects of a package of them.
"""

import os
import re
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import UNKNOWN, read_indexed
from datasets.evaluation.scored_set import ScoredSet
from datasets.reading import check_exif
from utils.files import shown
from utils.images import read_image, read_label
from utils.labels import IGNORE, NONE, color_ids, histogram, is_color
from utils.submission.package import Package

KINDS = ("auto", "ids", "train-ids", "colors")
NEVER_SCORED = (1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18)  # Cityscapes ids below 19
LAYOUTS = {  # of packages: folder of the files, whether a server looks into all; others: NAME.png
    "cityscapes": ("", True),  # CITY_SEQ_FRAME*.png
    "kitti": ("semantic/", False),
}


def find_predictions(folder: str | Path, names: list[str]) -> dict[str, Path]:
    """Name of a sample -> its prediction, searched in all subfolders as the official scorer does.

    A file belongs to a sample when its name is the sample's, or begins with it and goes on with
    anything but a digit; of several such samples, to that of the longest name. Where a sample has
    folders in its name, the file is in them, wherever they are.

    Raises:
        FileNotFoundError: no such folder, or a sample has no prediction.
        ValueError: a sample has several.
    """
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"{folder}: no such folder of predictions")
    known, found = set(names), {name: [] for name in names}  # type: ignore[var-annotated]
    for root, _, files in os.walk(folder):
        place = Path(root).relative_to(folder).parts
        for file in files:
            owners = (_owner("/".join((*place[start:], file)), known)
                      for start in range(len(place) + 1))
            owner = next((name for name in owners if name is not None), None)
            if owner is not None and file.lower().endswith(".png") and file[0] != ".":
                found[owner].append(Path(root) / file)
    result = {}
    for name, near in found.items():
        last = name.rpartition("/")[2]
        own = sorted(path for path in near if path.stem == last) or sorted(near)
        if len(own) > 1:
            raise ValueError(f"{name}: {len(own)} predictions, {own[0]} and {own[1]}; keep one "
                             "kind of file in a folder: colors and ids apart")
        if own:
            result[name] = own[0]
    if missing := [name for name in names if name not in result]:
        raise FileNotFoundError(
            f"{folder}: no prediction for {missing[0]}; {len(missing)} of {len(names)} images have "
            f"none (looked for {missing[0]}*.png)")
    return result


def _owner(file: str, names: set[str]) -> str | None:
    """The longest of the names that a file, perhaps with folders, belongs to."""
    for end in range(len(file), file.rfind("/") + 1, -1):
        if file[:end] in names and not file[end : end + 1].isdigit():
            return file[:end]
    return None


def recognize_kind(paths: list[Path], scored: ScoredSet) -> str:
    """ "ids", "train-ids" or "colors": what predictions hold; ValueError if two are possible."""
    if is_color(paths[0]):
        return "colors"
    values = np.zeros(256, np.int64)
    for path in paths[:: max(1, len(paths) // 20)]:
        values += histogram(read_label(path, palette=True))
    classes = len(scored.dataset.class_names)
    as_train_ids = values[:classes].sum() + values[IGNORE] == values.sum()
    known = np.flatnonzero(scored.dataset.id_to_train_id < classes)
    as_ids = values[known].sum() == values.sum()
    if scored.by_id:  # ids of scored classes and train ids overlap in 7, 8, 11, 12, 13, 17
        as_train_ids &= bool(values[[0, *NEVER_SCORED]].any())
    elif as_ids and as_train_ids:
        seen = np.flatnonzero(values[:classes])
        if (scored.dataset.id_to_train_id[seen] != seen).any():
            raise ValueError(f"{paths[0].parent}: {seen.tolist()} may be ids or train ids; say "
                             "which with --prediction-kind")
    return "ids" if as_ids or not as_train_ids else "train-ids"


def read_prediction(path: Path, kind: str, scored: ScoredSet) -> np.ndarray:
    """(H, W) uint8 labels of a predicted PNG; ValueError if it is none, or not of this kind."""
    if kind == "colors":
        order, colors = label_colors(scored)
        places = color_ids(read_image(path), colors)
        if (strange := (places == NONE).sum()) > 0:
            raise ValueError(f"{path}: {strange:,} pixels have no class's color; give ids, or the "
                             "pure colors (PNG, no overlay)")
        return order[places]
    colors_of_ids = {label.id: label.color for label in scored.labels}
    by_number = dict(enumerate(scored.dataset.palette))
    ids = read_indexed(path, colors_of_ids if kind == "ids" else by_number)
    if kind == "ids":
        return scored.ids_to_labels(ids, path)
    classes = len(scored.dataset.class_names)
    strange = np.unique(ids[(ids >= classes) & (ids != IGNORE)])
    if len(strange):
        raise ValueError(f"{path}: {strange[:5].tolist()} are no train ids of {classes} classes; "
                         "--prediction-kind ids?")
    return scored.from_train_ids[ids]


def label_colors(scored: ScoredSet) -> tuple[np.ndarray, list[tuple[int, int, int]]]:
    """(L,) uint8 numbers of labels and their colors: of scored ones, and of others if they differ.

    ValueError if two scored labels have one color.
    """
    colors: dict[tuple[int, int, int], int] = {}
    for ignored in (False, True):
        for number, label in enumerate(scored.labels):
            if label.ignored is not ignored:
                continue
            if colors.setdefault(label.color, number) != number and not ignored:
                raise ValueError("colors cannot be scored: two classes of the data set have one "
                                 "color")
    return np.array(list(colors.values()), np.uint8), list(colors)


def expected_package(name: str, dataset: SegmentationDataset) -> Package:
    """The package of a split of the data set `name`, in the order of its samples.

    ValueError if EXIF turns images, and nothing says whether that is wanted; or for other names.
    """
    check_exif(dataset)
    if odd := [each for each in dataset.names if re.search(r"[\x00-\x1f\\\ud800-\udfff]", each)]:
        raise ValueError(f"{shown(odd[0])}: packages have names in UTF-8 alone, without "
                         "backslash and control characters; rename the image")
    folder, anywhere = LAYOUTS.get(name, ("", False))
    table = dataset.id_to_train_id
    void = int(np.flatnonzero(table == IGNORE)[0])
    legal = table < UNKNOWN
    if (table == UNKNOWN).any():  # else whatever is not listed is ignored, and is no answer
        legal |= (table == IGNORE) & (np.arange(256) < IGNORE)
    legal[void] = True
    paths = [f"{folder}{name}.png" for name in dataset.names]
    return Package(sizes=dict(zip(paths, dataset.sizes(), strict=True)), legal=legal,
                   train_id_to_id=dataset.train_id_to_id, void=void, anywhere=anywhere,
                   folder=folder, published=dataset.SPLITS.get(dataset.split))
