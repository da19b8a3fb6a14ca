"""Your own data without code: `images/SPLIT/`, `labels/SPLIT/`, `classes.txt`.

`classes.txt` has one line per class, in train-id order: `id name r g b`. Labels are single-channel
PNGs of those ids, named as their images, also in folders within a split; ids that are not listed
are ignored. In a palette PNG the index is the id, unless its colors are those of other classes:
then the color decides, as in an RGB PNG.
"""

import re
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import ClassTable, read_colored, read_indexed
from datasets.samples import Files, by_name, files_below
from utils.files import read_text, shown
from utils.labels import IGNORE, is_color

SUFFIXES = {  # of images
    ".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif"}
OTHERS = {".avif", ".gif", ".jfif", ".jp2", ".pgm", ".ppm", ".tga"}  # of images that are not read


def is_image(path: Path) -> bool:
    """Whether a file is one by its name."""
    return path.suffix.lower() in SUFFIXES


def list_images(folder: Path, every_file: bool = False) -> list[Path]:
    """The images in a folder in order, 9 before 10.

    Args:
        folder: not those below it.
        every_file: what is no image by its name too, but for hidden files and folders.

    Raises FileNotFoundError: no such folder, or no images in it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{shown(folder)}: no such folder")
    files = [path for path in folder.iterdir() if not path.name.startswith(".")
             and (is_image(path) or every_file and not path.is_dir())]
    if not files:
        raise FileNotFoundError(f"{shown(folder)}: no images in it")
    return sorted(files, key=lambda path: [
        int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", path.name))])


def read_classes(path: Path) -> ClassTable:
    """The table in a `classes.txt`; FileNotFoundError or ValueError if it is none."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; one line per class: id name r g b")
    ids, names, palette = [], [], []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        try:
            first, *words, r, g, b = line.split()
            values = [int(first), int(r), int(g), int(b)]
        except ValueError:
            words, values = [], []
        name = " ".join(words)
        whole = words and all(0 <= value <= 255 for value in values)
        if not whole or values[0] in ids or name in names:
            raise ValueError(f"{path}: line {number}: {line!r}; expected: id name r g b, each 0 to "
                             "255, ids and names once")
        ids.append(values[0])
        names.append(name)
        palette.append((values[1], values[2], values[3]))
    if not 1 <= len(ids) <= 254:
        raise ValueError(f"{path}: {len(ids)} classes; 1 to 254 are possible")
    if len(ids) > 1 and {255} == {color[2] for color in palette} and all(
            name.rpartition(" ")[2].isdecimal() for name in names):
        raise ValueError(f"{path}: four numbers behind each name; expected: id name r g b, without "
                         "alpha (or names that do not end in a number)")
    table = np.full(256, IGNORE, np.uint8)
    table[ids] = np.arange(len(ids))
    return ClassTable(names, palette, ids, table)


class Folder(SegmentationDataset):
    """Splits are the folders under `images/`."""

    def table(self) -> ClassTable:
        if not any((self.root / name).exists() for name in ("classes.txt", "images")):
            raise FileNotFoundError(f"{self.root}: no classes.txt and no images/ in it; expected "
                                    "images/train/NAME.jpg, labels/train/NAME.png, likewise val, "
                                    "and classes.txt with a line per class: id name r g b")
        table = read_classes(self.root / "classes.txt")
        self.label_colors = dict(zip(table.train_id_to_id, table.palette, strict=True))
        return table

    def parts(self) -> list[str]:
        return sorted({path.name for kind in ("images", "labels")
                       for path in (self.root / kind).glob("[!.]*") if path.is_dir()})

    def read_label(self, label: Path) -> np.ndarray:
        """(H, W) uint8; of palette PNGs, which many tools write, indices or ids by color."""
        return (read_colored if is_color(label) else read_indexed)(label, self.label_colors)

    def files(self, split: str) -> Files:
        folder = self.root / "images" / split
        splits = [path.name for path in sorted((self.root / "images").glob("*")) if path.is_dir()]
        hint = f"; splits there: {', '.join(splits) or 'none'}"
        if not splits and any((self.root / "images").glob("*")):
            hint = ("; the images lie in images/ itself: a folder for each split is missing, as "
                    "images/train and labels/train")
        if split == "val" and "train" in splits:
            hint += "; --holdout-fraction 0.1 takes a part of train"
        if (self.root / split / "images").is_dir():
            hint = f"; {split}/images/ is there: rename it images/{split}/, and its labels likewise"
        clashes: list[tuple[Path, Path]] = []  # a.jpg and a.png; a.png and a.PNG
        labelled = self.root / "labels" / split
        labels = by_name(files_below(labelled, {".png"}), clashes=clashes, below=labelled)
        labels = labels or by_name(files_below(labelled, SUFFIXES), below=labelled)  # are refused
        pattern = None if split == "test" and not labels else f"labels/{split}/NAME.png"
        kinds = SUFFIXES if pattern else SUFFIXES | OTHERS  # which nothing else would miss
        images = by_name(files_below(folder, kinds), clashes=clashes, below=folder)
        return Files(images, f"images/{split}/NAME.jpg", labels, pattern, hint, clashes)
