"""Data sets: files on disk to uint8 images and train ids. `DATASETS` is the list."""

import os
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from datasets.classes import ClassTable, named_classes

if TYPE_CHECKING:
    from datasets.base import SegmentationDataset

T = TypeVar("T")


class _Named(Mapping[str, T]):
    """Name -> what a module has, imported when it is asked for: names alone need no PyTorch."""

    def __init__(self, **places: str) -> None:
        self.places = places

    def __getitem__(self, name: str) -> T:
        module, _, attribute = self.places[name].partition(":")
        return getattr(import_module(f"datasets.{module}"), attribute)

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


DATASETS: Mapping[str, "type[SegmentationDataset]"] = _Named(
    cityscapes="cityscapes:Cityscapes",
    camvid="camvid:CamVid",
    kitti="kitti:Kitti",
    mapillary="mapillary:Mapillary",
    mapillary_v2="mapillary:MapillaryV2",
    folder="folder:Folder",
)
TABLES: Mapping[str, ClassTable] = _Named(  # known without data; the others learn theirs
    cityscapes="cityscapes_labels:TABLE",
    camvid="camvid:TABLE",
    kitti="cityscapes_labels:TABLE",
    mapillary="mapillary:TABLE",
)


def find_root(name: str, root: str | None) -> Path:
    """`root`, else the environment's NAME_DATASET, else data/NAME."""
    return Path(root or os.environ.get(f"{name.upper()}_DATASET") or f"data/{name}")


def build_dataset(
    name: str,
    root: str | Path,
    split: str,
    transform: Callable | None = None,
    holdout: str | float | None = None,
    cv_split: int | None = None,
    limit: int | None = None,
) -> "SegmentationDataset":
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


def build_as_trained(
    known: dict[str, Any], name: str, root: Path, split: str, transform: Callable | None,
    chosen: tuple[str | float | None, int | None, int | None],
) -> "SegmentationDataset":
    """A data set with the classes, and the parts of train and val, of a network's training.

    Args:
        known: `describe` of that training; its class map counts where the data set has its classes,
            its cross-validation where it is that data set, its share of train where there is no
            other val.
        chosen: `holdout`, `cv_split` and `limit` as of `build_dataset`, which raises the same.
    """
    from datasets.samples import split_parts

    if name not in DATASETS:
        raise ValueError(f"{name!r}: no data set that is known; give --dataset NAME")
    held, cv_split, limit = chosen
    if held is cv_split is None and root.is_dir():
        source = DATASETS[name](root, "")
        parts = {*split_parts(split, source.parts())}
        if name == known.get("name") and parts <= {"train", "val"}:
            cv_split = known.get("cv_split")
        if (known.get("holdout_fraction") and {"train", "val"} & parts
                and not source.files("val").images):
            held = known["holdout_fraction"]
    dataset = build_dataset(name, root, split, transform, held, cv_split, limit)
    class_map = known.get("class_map") or {}
    if class_map and class_map.keys() <= {*dataset.class_names}:
        dataset.merge(class_map)
    return dataset


def describe(dataset: "SegmentationDataset", name: str) -> dict[str, Any]:
    """What a checkpoint keeps of its data set: enough to color and to submit predictions, and how
    images were read and chosen and labels mapped, where that is not the usual way.
    """
    return {
        "name": name,
        "class_names": list(dataset.class_names),
        "palette": [list(color) for color in dataset.palette],
        "train_id_to_id": list(dataset.train_id_to_id),
        **{key: value for key in ("exif", "bits", "class_map", "holdout_fraction", "cv_split")
           if (value := getattr(dataset, key))},
    }


def dataset_of(snapshot: dict[str, Any], known: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a snapshot says of its data set, as `describe`; logits beyond the classes are void.

    Published checkpoints say its name alone, those of the model hub names of classes or nothing;
    the rest is filled in.

    Args:
        snapshot: as of `read_snapshot`.
        known: description of the data set it is used for, or its name alone.

    Raises ValueError: nobody knows the classes, or there are fewer logits than that.
    """
    description, channels = snapshot["dataset"], snapshot["model"]["num_classes"]
    if description.get("guessed") and known:
        given = TABLES.get(known["name"])
        if len(known.get("class_names") or (given.class_names if given else ())) == channels:
            description = known
    if description.get("name") is None:
        if not known or known["name"] is None:
            raise ValueError(f"the {channels} classes of this network have no names; give "
                             "--dataset NAME, whose they are")
        description = known
    elif "palette" in description:
        return description
    names = description.get("class_names")
    alike = (name for name, table in TABLES.items() if table.class_names == names)
    table: ClassTable | None = TABLES.get(next(alike, description["name"]))
    if names and (table is None or table.class_names != names):
        table = named_classes(names)
    if table is None:
        raise ValueError(f"--dataset {description['name']}: its classes are in its files alone; "
                         f"one of {', '.join(TABLES)} is expected")
    if (void := channels - len(table.class_names)) < 0:
        raise ValueError(f"--dataset {description['name']}: it has {len(table.class_names)} "
                         f"classes, this network {channels}")
    return {
        "name": next((name for name in TABLES if TABLES[name] is table), description["name"]),
        "class_names": table.class_names + ["void"] * void,
        "palette": [list(color) for color in table.palette] + [[0, 0, 0]] * void,
        "train_id_to_id": table.train_id_to_id + [0] * void,
    }
