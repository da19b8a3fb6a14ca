"""How many percent of the pixels of predicted masks each class has: per image and in total.

examples:
  python pixel_percentage.py --masks results/pred
  python pixel_percentage.py --masks out/street_color_mask.png --dataset camvid
  python pixel_percentage.py --masks out --classes data/mine/classes.txt --csv shares.csv

Masks are PNGs of ids, as demo.py, demo_folder.py and test.py write them, or of colors. A folder is
searched with its subfolders; where it holds several kinds of pictures, one kind is taken: id masks
if there are any, else label ids, else color masks. Pixels of no class count as "other".
"""

import argparse
import csv
import io
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from datasets import TABLES
from datasets.classes import ClassTable, read_indexed
from datasets.folder import read_classes
from utils.files import shown, write_file
from utils.images import read_image
from utils.labels import NONE, color_ids, histogram, is_color
from utils.options.data import check_output
from utils.options.parser import Parser
from utils.stopping import run

KINDS = ("_id_mask.png", "_labelIds.png", "_color_mask.png")  # the first that is there is taken
TRAIN_ID_KINDS = ("_labelTrainIds.png", *KINDS)


class Mask(NamedTuple):
    name: str
    pixels: np.ndarray  # (C + 1,) int64, the last is of no class
    other: set[str]  # what the pixels of no class hold, or an example


def parse_args() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("--masks", required=True, metavar="PATH", help="a PNG, or a folder of them")
    classes = parser.add_mutually_exclusive_group()
    classes.add_argument("--dataset", choices=tuple(TABLES), default="cityscapes",
                         help="whose ids and colors these are")
    classes.add_argument("--classes", metavar="FILE",
                         help="the same as a text, one line per class: id name r g b")
    parser.add_argument("--train-ids", action=argparse.BooleanOptionalAction, default=False,
                        help="the masks hold train ids (0, 1, ... in the order of the classes)")
    parser.add_argument("--csv", metavar="FILE",
                        help="write the percentages there, a row per image and one in total")
    return parser.parse_args()


def find_masks(path: Path, kinds: tuple[str, ...]) -> list[Path]:
    """The file, or the PNGs of one kind in a folder. Raises FileNotFoundError if there are none."""
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.rglob("*.png") if not p.name.startswith("."))
    if not found:
        raise FileNotFoundError(f"{shown(path)}: no PNGs in it")
    for kind in kinds:
        if chosen := [p for p in found if p.name.endswith(kind)]:
            if len(chosen) < len(found):
                print(f"{len(chosen)} *{kind} taken, {len(found) - len(chosen)} other PNGs not")
            return chosen
    return found


def count_pixels(path: Path, table: ClassTable, train_ids: bool, root: Path) -> Mask:
    """Pixels of every class in a mask, which is named as seen from `root`. Raises ValueError."""
    classes = len(table.class_names)
    if is_color(path):
        rgb = read_image(path)
        values = color_ids(rgb, table.palette)
        to_class = np.arange(256)
    else:
        ids = range(classes) if train_ids else table.train_id_to_id
        values = read_indexed(path, dict(zip(ids, table.palette, strict=True)))
        to_class = np.arange(256) if train_ids else table.id_to_train_id
    # Counted by value first: no pass over the pixels to map them.
    counts = histogram(values)
    column = np.minimum(to_class, classes)
    pixels = np.zeros(classes + 1, np.int64)
    np.add.at(pixels, column, counts)
    other = {f"id {value}" for value in np.flatnonzero((column == classes) & (counts > 0))}
    if other and is_color(path):
        other = {"color {} {} {}".format(*rgb.reshape(-1, 3)[(values == NONE).argmax()])}
    return Mask(shown(path.relative_to(root)), pixels, other)


def percentages(pixels: np.ndarray) -> list[float]:
    return (100 * pixels / pixels.sum()).tolist()


def write_csv(path: Path, masks: list[Mask], class_names: list[str]) -> None:
    """Writes name, number of pixels, and the percentage of every class and of the others."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", "pixels", *class_names, "other"])
    for mask in masks:
        shares = [f"{share:.4f}" for share in percentages(mask.pixels)]
        writer.writerow([mask.name, mask.pixels.sum(), *shares])
    write_file(path, text.getvalue().encode())


def print_table(masks: list[Mask], class_names: list[str], width: int | None) -> None:
    """A row per mask, the largest classes of the last (the total) first.

    Of `width` characters, None for no limit; classes beyond are summed up as "rest".
    """
    names = [*class_names, "other"]
    order = [i for i in np.argsort(-masks[-1].pixels, kind="stable") if masks[-1].pixels[i]]
    cells = [max(6, len(names[i])) for i in order]
    head = max(len(mask.name) for mask in masks)
    ends = list(accumulate((2 + cell for cell in cells), initial=head))[1:]
    if width and ends[-1] > width:
        order = order[: sum(end + 8 <= width for end in ends)]  # 8 for the rest
        names, cells = [*names, "rest"], [*cells[: len(order)], 6]
        order.append(len(names) - 1)
    print(" " * head, *(f"{names[i]:>{cell}}" for i, cell in zip(order, cells, strict=True)),
          sep="  ")
    for mask in masks:
        shares = percentages(mask.pixels)
        shares.append(100 - sum(shares[i] for i in order[:-1]))
        row = (f"{shares[i]:{cell}.2f}" for i, cell in zip(order, cells, strict=True))
        print(f"{mask.name:{head}}", *row, sep="  ")


def print_other(masks: list[Mask]) -> None:
    """What the pixels of no class hold, if the last mask (the total) has any."""
    share = percentages(masks[-1].pixels)[-1]
    if share:
        held = sorted(set().union(*(mask.other for mask in masks)))
        print(f"other: {share:.2f} % of the pixels are of no class: {', '.join(held[:8])}"
              + ", ..." * (len(held) > 8)
              + "; another --dataset, or --train-ids?" * (share > 50))


def main() -> None:
    args = parse_args()
    check_output(args.csv)
    table = read_classes(Path(args.classes)) if args.classes else TABLES[args.dataset]
    folder = Path(args.masks)
    paths = find_masks(folder, TRAIN_ID_KINDS if args.train_ids else KINDS)
    root = folder if folder.is_dir() else folder.parent
    count = partial(count_pixels, table=table, train_ids=args.train_ids, root=root)
    with ThreadPoolExecutor() as pool:
        masks = list(tqdm(pool.map(count, paths), total=len(paths), disable=None, unit="mask"))
    masks.append(Mask("total", np.sum([mask.pixels for mask in masks], axis=0), set()))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    if args.csv:  # first: the output may go into a pipe that ends
        write_csv(Path(args.csv), masks, table.class_names)
    print(f"% of the pixels, classes of {args.classes or args.dataset}")
    print_table(masks, table.class_names, width)
    print_other(masks)
    if args.csv:
        print(f"{len(masks)} rows: {args.csv}")


if __name__ == "__main__":
    run(main)
