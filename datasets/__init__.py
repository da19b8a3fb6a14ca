"""Data sets: files on disk to uint8 images and train ids. `DATASETS` is the list."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets import camvid, cityscapes_labels, mapillary
from datasets.base import SegmentationDataset
from datasets.camvid import CamVid
from datasets.cityscapes import Cityscapes
from datasets.classes import ClassTable
from datasets.folder import Folder
from datasets.kitti import Kitti
from datasets.mapillary import Mapillary, MapillaryV2

DATASETS: dict[str, type[SegmentationDataset]] = {
    "cityscapes": Cityscapes,
    "camvid": CamVid,
    "kitti": Kitti,
    "mapillary": Mapillary,
    "mapillary_v2": MapillaryV2,
    "folder": Folder,
}
TABLES = {  # known without the data; the others learn theirs from it
    "cityscapes": cityscapes_labels.TABLE,
    "camvid": camvid.TABLE,
    "kitti": cityscapes_labels.TABLE,
    "mapillary": mapillary.TABLE,
}


def find_root(name: str, root: str | None) -> Path:
    """`root`, else the environment's NAME_DATASET, else data/NAME."""
    return Path(root or os.environ.get(f"{name.upper()}_DATASET") or f"data/{name}")


def build_dataset(
    name: str,
    root: str | Path,
    split: str,
    transform: Callable | None = None,
    holdout: str | None = None,
    cv_split: int | None = None,
    limit: int | None = None,
) -> SegmentationDataset:
    """A data set by its name in DATASETS, or the first `limit` samples of it.

    Raises:
        FileNotFoundError, ValueError: nothing there, or not as it should be; the message says what.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(
            f"{Path(root).resolve()}: no such folder; give --data-root DIR, or set "
            f"{name.upper()}_DATASET"
        )
    if not split:
        raise ValueError("--split '': give the name of one, for example val")
    dataset = DATASETS[name](root, split, transform, holdout, cv_split)
    dataset.samples = dataset.samples[:limit]
    return dataset


def describe(dataset: SegmentationDataset, name: str) -> dict[str, Any]:
    """What a checkpoint keeps of its data set: enough to color and to submit predictions."""
    return {
        "name": name,
        "class_names": list(dataset.class_names),
        "palette": [list(color) for color in dataset.palette],
        "train_id_to_id": list(dataset.train_id_to_id),
    }


def dataset_of(snapshot: dict[str, Any]) -> dict[str, Any]:
    """What a snapshot says of its data set, as `describe`; logits beyond the classes are void.

    Published checkpoints say its name alone, the rest is filled in.
    """
    description, channels = snapshot["dataset"], snapshot["model"]["num_classes"]
    table: ClassTable | None = TABLES.get(description["name"])
    if "class_names" in description or table is None:
        return description
    void = channels - len(table.class_names)
    return {
        "name": description["name"],
        "class_names": table.class_names + ["void"] * void,
        "palette": [list(color) for color in table.palette] + [[0, 0, 0]] * void,
        "train_id_to_id": table.train_id_to_id + [0] * void,
    }
