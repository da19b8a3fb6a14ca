"""Where a data set's files lie: its layout, the right root, and files that nobody reads."""

from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path

from datasets import DATASETS
from datasets.base import SegmentationDataset
from datasets.camvid import STILLS, CamVid
from datasets.cityscapes import SUFFIXES, Cityscapes
from datasets.doctor.faults import Fault
from datasets.folder import SUFFIXES as IMAGES
from datasets.kitti import Kitti
from datasets.mapillary import Mapillary, MapillaryV2
from datasets.samples import Files

NEIGHBORS: dict[type[SegmentationDataset], tuple[str, ...]] = {  # lie beside what is read
    Cityscapes: (*SUFFIXES, "_color.png", "_instanceIds.png"),
    Kitti: ("_11.png",),  # the next frame
}
LAYOUTS: dict[type[SegmentationDataset], Callable[[Path], str]] = {  # where there are several
    Cityscapes: lambda root: "flat" if (root / "leftImg8bit").is_dir() else "nested",
    CamVid: lambda root: "original" if (root / STILLS).is_dir() else "tutorial",
    Mapillary: lambda root: "v1.2" if (root / "config_v1.2.json").is_file() else "v1.1",
    MapillaryV2: lambda _: "v2.0",
}
MOST_FOLDERS = 200  # to look into for the right root
HIDDEN = {"Thumbs.db", "desktop.ini", "__MACOSX", "Icon\r"}
OWN = {".streetseg", ".git"}  # hidden, and meant to be


def suggestion(name: str, root: Path) -> str:
    """What to give to find data: a folder nearby, or another data set; or ""."""
    near = [root.parent, *islice(_folders(root, 2), MOST_FOLDERS)]
    for folder in near:
        if _holds(name, folder):
            return f"give --data-root {folder}"
    for other in DATASETS:
        if other != name and _holds(other, root):
            return f"give --dataset {other}"
    return ""


def _folders(root: Path, depth: int) -> Iterable[Path]:
    try:
        inner = sorted(path for path in root.glob("[!.]*") if path.is_dir())
    except OSError:
        return
    yield from inner
    if depth > 1:
        for folder in inner:
            yield from _folders(folder, depth - 1)


def _holds(name: str, root: Path) -> bool:
    try:
        dataset = DATASETS[name](root, "")
        listings = map(dataset.files, dataset.parts())
        return any(files.images and files.labels for files in listings)
    except (OSError, ValueError):
        return False


def stray_files(
    dataset: SegmentationDataset, chosen: Iterable[Files], every: Iterable[Files]
) -> list[Fault]:
    """Files that nobody reads, in the folders of the `chosen` parts: hidden ones, and others beside
    images and labels of `every` part, since they may share folders.
    """
    read: set[Path] = set()
    for files in every:
        read |= {*files.images.values(), *files.labels.values()}
        read |= {path for path, _ in files.clashes}
    folders: set[Path] = set()
    for files in chosen:
        folders |= {path.parent for path in (*files.images.values(), *files.labels.values())}
        for pattern in (files.image_pattern, files.label_pattern or ""):
            folders |= _places(dataset.root, pattern)
    neighbors = NEIGHBORS.get(type(dataset), ())
    above = {folder for inner in folders for folder in inner.parents
             if folder.is_relative_to(dataset.root)}
    faults = []
    for folder in sorted(folders | above):
        for path in sorted(folder.iterdir()):
            if path.name not in OWN and (path.name.startswith(".") or path.name in HIDDEN):
                faults.append(Fault("hidden-file", path))
            elif folder not in folders or path in read or path.name.endswith(neighbors):
                continue
            elif path.is_dir():
                inner = sum(each.suffix.lower() in IMAGES for each in path.rglob("*"))
                if inner and path.resolve() not in folders | above:
                    faults.append(Fault("unused-folder", path, f"{inner} images in it"))
            else:
                usual = path.suffix.lower()
                detail = f"{path.suffix}, not {usual}" if path.suffix != usual else ""
                faults.append(Fault("unused-file", path, detail))
    return faults


def _places(root: Path, pattern: str) -> set[Path]:
    """The folders that a pattern such as "gtFine/train/CITY/*.png" is about, if they are there."""
    place, cities = root, False
    for part in pattern.split("/")[:-1]:
        if cities := part == "CITY":
            break
        place = place / part
    if place == root or not place.is_dir():
        return set()
    return {place, *(path for path in place.glob("[!.]*") if cities and path.is_dir())}
