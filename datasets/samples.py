"""The samples of a split: labels paired to images by name, by cross-validation or parts."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from utils import distributed, files
from utils.images import seen_size
from utils.workers import map_in_threads

if TYPE_CHECKING:  # it imports this file
    from datasets.base import SegmentationDataset

Size = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    image: Path
    label: Path | None
    instance: Path | None
    name: str  # unique in its split; predictions are named after it
    group: str  # city or sequence

    def __post_init__(self) -> None:
        files.known.update(map(str, filter(None, (self.image, self.label, self.instance))))

    @property
    def truth(self) -> Path:
        """The label; ValueError where there is none."""
        if self.label is None:
            raise ValueError(f"{self.image}: has no label; choose a labelled split")
        return self.label


@dataclass(frozen=True)
class Files:
    """What is on disk of a split, name -> path, before it is paired; and what was looked for."""

    images: dict[str, Path]
    image_pattern: str  # relative to the root
    labels: dict[str, Path] = field(default_factory=dict)
    label_pattern: str | None = None  # None: this split has no labels
    hint: str = ""  # where else it may be, when there are no images
    clashes: Sequence[tuple[Path, Path]] = ()  # files left out, and the one of the same name
    missing: Sequence[tuple[Path, str]] = ()  # list files, and names in them that are not there

    @property
    def bare(self) -> list[Path]:
        """Images without a label."""
        return [path for name, path in self.images.items() if name not in self.labels]

    @property
    def orphans(self) -> list[Path]:
        """Labels without an image."""
        return [path for name, path in self.labels.items() if name not in self.images]

    def pairs(self, root: Path) -> Iterable[tuple[str, Path, Path | None]]:
        """Name, image and label (None in a split without labels) of every image.

        Raises:
            ValueError: some images have no label, or some labels no image; two have one name.
            FileNotFoundError: no images or no labels, or a list names an image that is not there.
        """
        for path, other in self.clashes:
            raise ValueError(f"{path}: its name is also that of {other}; delete or rename one")
        for path, name in self.missing:
            raise FileNotFoundError(f"{path}: lists {name}, which is not there")
        if not self.images:
            raise FileNotFoundError(f"{root}: no {self.image_pattern}{self.hint}")
        if self.label_pattern and not self.labels:
            raise FileNotFoundError(f"{root}: no {self.label_pattern}, only the images")
        if self.label_pattern and self.bare:
            raise ValueError(f"{self.bare[0]}: no label; {len(self.bare)} of {len(self.images)} "
                             "images have none")
        if self.orphans:
            raise ValueError(f"{self.orphans[0]}: no image; {len(self.orphans)} labels have none")
        for name, path in self.images.items():
            yield name, path, self.labels.get(name)


def files_below(folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Files of these suffixes in a folder and those in it; not in hidden ones."""
    chains: dict[str, list[Path]] = {}  # of each folder: where it is, behind those that it is in
    for place, inner, names in os.walk(folder, followlinks=True):
        above, real = chains.get(os.path.dirname(place), []), Path(os.path.realpath(place))
        back = any(each.is_relative_to(real) for each in above)  # a link that leads to a parent
        chains[place] = [*above, real]
        inner[:] = [] if back else [name for name in inner if not name.startswith(".")]
        yield from (Path(place, name) for name in names
                    if not back and Path(name).suffix.lower() in suffixes)


def by_name(
    paths: Iterable[Path], suffix: str = "", clashes: list[tuple[Path, Path]] | None = None,
    below: Path | None = None,
) -> dict[str, Path]:
    """Name -> path, sorted; the name is the file's, without its own suffix and `suffix`.

    `suffix` may hold the file's own (`_L.png`) or stand before it (`_L`). With `below`, the folders
    between it and the file are part of the name: `left/0`. Hidden files (`._x.png` of unpacked Mac
    archives) are passed over. Of files with one name the first is taken, and the others are added
    to `clashes`, each with the first.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in paths if not path.name.startswith(".")):
        name = (path.name if "." in suffix else path.stem).removesuffix(suffix)
        if below:
            name = path.relative_to(below).with_name(name).as_posix()
        if found.setdefault(name, path) is not path and clashes is not None:
            clashes.append((path, found[name]))
    return found


def check_sizes(
    source: "SegmentationDataset", samples: Sequence[Sample] | None = None
) -> list[Size]:
    """(H, W) of every image, or of some `samples`, from the headers; ValueError if a label's is
    another.
    """
    def size(sample: Sample) -> Size:
        image = source.picture_size(sample.image, sample.label)
        if sample.label and (label := source.label_size(sample.label)) != image:
            raise ValueError(f"{sample.label}: {label[1]}x{label[0]}, its image "
                             f"{image[1]}x{image[0]}")
        return image

    return list(map_in_threads(size, source.samples if samples is None else samples, 8))


def split_parts(split: str, known: Collection[str] = ()) -> list[str]:
    """The parts of a split, each once: "trainval" is train and val, unless it is a part itself."""
    if split in known:
        return [split]
    return list(dict.fromkeys(split.replace("trainval", "train+val").split("+")))


def choose(
    source: "SegmentationDataset", split: str, holdout: str | float | None, cv_split: int | None
) -> list[Sample]:
    """The samples of a split, each once; arguments and errors as of `SegmentationDataset`."""
    parts = split_parts(split, source.parts())
    if holdout and cv_split is not None:
        raise ValueError("--holdout and --cv-split: give one of them")
    if cv_split is not None and cv_split >= source.CV_SPLITS:
        numbers = ", ".join(map(str, range(source.CV_SPLITS)))
        raise ValueError(f"--cv-split {cv_split}: this data set has {numbers or 'none'}")
    number = source.CV_DEFAULT if cv_split is None and not holdout else cv_split
    whole = {"train", "val"} & set(parts)
    again = [part for part in parts if part.endswith("_coarse")]
    if (holdout or cv_split is not None) and (again or not whole):
        raise ValueError(f"--split {split}: --holdout and --cv-split redistribute train and val"
                         + (f", not {again[0]}, which has the same images" if again else ""))
    if not whole or (number is None and not holdout):
        return _once(sample for part in parts for sample in source.find(part))
    if holdout:
        samples = source.find("train")
        if isinstance(holdout, str):
            chosen = held_group(samples, holdout)
        else:
            chosen = held_fraction(samples, holdout, bool(source.files("val").images))
            if "val" in parts:
                distributed.say(f"val: {len(chosen)} of the {len(samples)} images of train, chosen "
                                f"by their names (--holdout-fraction {holdout:g})")
    else:
        samples = _once(source.find("train") + source.find("val"))
        chosen = source.cross_validate(samples, int(number or 0))
        if cv_split is not None and split == "val":
            distributed.say(f"val: {len(chosen)} of {len(samples)} images (--cv-split {cv_split})")
    both = {"train": [s for s in samples if s.name not in chosen],
            "val": [s for s in samples if s.name in chosen]}
    return _once(s for part in parts for s in (both[part] if part in both else source.find(part)))


def held_group(samples: list[Sample], group: str) -> set[str]:
    """Names of the samples of a group. Raises ValueError if there is none, or no other."""
    groups = {sample.group for sample in samples}
    if group not in groups or len(groups) == 1:
        raise ValueError(f"--holdout {group!r}: one of several groups of train "
                         f"({', '.join(sorted(groups))}) is expected")
    return {sample.name for sample in samples if sample.group == group}


def held_fraction(samples: list[Sample], fraction: float, has_val: bool) -> set[str]:
    """Names of about this part of the samples, each in it by its own name, whatever others are.

    ValueError if it is none or all, or there is a val already.
    """
    if has_val:
        raise ValueError(f"--holdout-fraction {fraction:g}: there is a val already; leave it "
                         "out, or move the images of val away")

    def place(name: str) -> float:
        return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:6]) / (1 << 48)

    chosen = {sample.name for sample in samples if place(sample.name) < fraction}
    if len(chosen) in (0, len(samples)):
        raise ValueError(f"--holdout-fraction {fraction:g}: would make {len(chosen)} of the "
                         f"{len(samples)} images of train val; give another")
    return chosen


def distinct_names(samples: list[Sample], root: Path) -> list[str]:
    """Names of all samples; those that parts of the split share are behind the part: train/0."""
    often = Counter(sample.name for sample in samples)
    paths = ((sample.label or sample.image).relative_to(root).with_suffix("").as_posix()
             for sample in samples)
    return [sample.name if often[sample.name] == 1 else re.sub("^(labels|images)/", "", path)
            for sample, path in zip(samples, paths, strict=True)]


def note_small(sizes: Sequence[Size], crop: Size, pre_size: int | None) -> None:
    """Says how many images of a training, as they are seen, are smaller than its crops."""
    seen = [seen_size(size, [pre_size] if pre_size else None) for size in sizes]
    if small := sum(height < crop[0] or width < crop[1] for height, width in seen):
        distributed.say(f"note: {small} of {len(seen)} training images are smaller than --crop-size"
                        f" {crop[0]} {crop[1]}; the rest is padding, from which nothing is learned")


def shared_images(first: Iterable[Sample], second: Iterable[Sample]) -> int:
    """How many images are in both lists."""
    one, other = ({os.path.realpath(each.image) for each in part} for part in (first, second))
    return len(one & other)


def _once(samples: Iterable[Sample]) -> list[Sample]:
    """Some sets keep train and val in one folder, and parts may be named twice."""
    return list(dict.fromkeys(samples))
