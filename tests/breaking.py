"""Breaks drawn data sets as users do; every function returns the file that is at fault."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from conftest import DRAW, draw_original_camvid
from PIL import Image

from datasets import DATASETS, cityscapes_labels
from datasets.doctor.report import Report
from utils.images import read_instances, read_label, write_png

DRAWN = {**DRAW, "original": draw_original_camvid}
USUAL = {"count", "unlisted-ids"}  # notes that the miniatures deserve


def name_of(drawn: str) -> str:
    return "camvid" if drawn == "original" else drawn


def found(report: Report) -> dict[str, set[str]]:
    """Kind -> files, of what the miniatures do not have anyway."""
    kinds: dict[str, set[str]] = {}
    for finding in report.to_json()["findings"]:
        if finding["kind"] not in USUAL:
            files = {each["file"] for each in finding["files"]}
            kinds.setdefault(finding["kind"], set()).update(files)
    return kinds


def files(root: Path, drawn: str, kind: str, split: str = "train") -> list[Path]:
    listing = DATASETS[name_of(drawn)](root, "").files(split)
    return list(getattr(listing, kind).values())


def relabel(path: Path, change: Callable[[np.ndarray], np.ndarray]) -> Path:
    write_png(path, change(read_label(path, palette=True)))
    return path


def save(path: Path, mode: str = "", kind: str = "PNG") -> Path:
    image = Image.open(path)
    image.load()
    (image.convert(mode) if mode else image).save(path, kind)
    return path


def overwrite(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def damage(path: Path, cut: bool) -> Path:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return overwrite(path, data[: len(data) // 2] if cut else data)


def dangle(path: Path) -> Path:
    path.unlink()
    path.symlink_to("nowhere.png")
    return path


def without(path: Path, named: Path) -> Path:
    path.unlink()
    return named


def as_palette(path: Path) -> Path:
    image = Image.open(path)
    image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    image.save(path)
    return path


def same_name(path: Path) -> Path:
    Image.open(path).save(path.with_suffix(".JPG"), "JPEG")
    return path


def swap(root: Path) -> list[Path]:
    for old, new in (("train", "x"), ("trainannot", "train"), ("x", "trainannot")):
        (root / old).rename(root / new)
    return sorted((root / "trainannot").iterdir())


def to_train_ids(path: Path, void: int = 255) -> Path:
    table = cityscapes_labels.TABLE.id_to_train_id
    return relabel(path, lambda ids: np.where(table[ids] == 255, void, table[ids]).astype(np.uint8))


def rename(path: Path, old: str, new: str) -> Path:
    return path.rename(path.with_name(path.name.replace(old, new)))


def instances(labels: list[Path]) -> list[Path]:
    paths = [Path(str(label).replace("labelIds", "instanceIds")) for label in labels]
    for label, path in zip(labels, paths, strict=True):
        ids = read_label(label).astype(np.uint16)
        write_png(path, np.where(ids >= 26, ids * 1000 + 7, ids))
    return paths


def kitti_instances(label: Path, factor: int = 256) -> Path:
    """Numbers the instances of a label in its map, whose path it returns."""
    ids, path = read_label(label).astype(np.uint16), label.parents[1] / "instance" / label.name
    write_png(path, np.where(ids >= 24, ids * factor + 3, ids * 256))
    return path


def disagree(path: Path) -> Path:
    write_png(path, np.where(read_instances(path) == 7, 8, 26_000).astype(np.uint16))
    return path


def list_files(root: Path, images: list[Path]) -> Path:
    names = [*(path.stem for path in images), "no"]
    (root / "train.txt").write_text("".join(f"/train/{name}.png x\n" for name in names))
    return root / "train.txt"


def resave(path: Path, source: Path) -> Path:
    """The same pixels in other bytes."""
    Image.open(source).save(path, compress_level=1)
    return path


def cut_instances(path: Path) -> Path:
    write_png(path, read_instances(path)[1:].astype(np.uint16))
    return path
