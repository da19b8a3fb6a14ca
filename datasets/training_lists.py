"""What a training draws from: its own images, propagated frames, coarse labels of rare classes."""

import re
from dataclasses import dataclass

from datasets.base import SegmentationDataset
from datasets.class_uniform import ClassUniformLists, find_centroids
from datasets.pairing import Sample
from datasets.sampler import AllImages, EpochLists


@dataclass(frozen=True)
class ListOptions:
    """How epochs are made; the defaults are every image once.

    Args:
        class_uniform: share of an epoch that is class-uniform crops, 0..1.
        tile: side in pixels of the tiles that give one crop center per class.
        until: epoch from which propagated frames and coarse labels are left out.
        coarse_boost: classes that get crop centers from the coarse labels of train_extra too.
        propagated_root: folder of propagated frames, in the data set's own layout.
        skips: k adds the frames k before and k after each labelled one.
        seed: of the training.
    """

    class_uniform: float = 0.0
    tile: int = 1024
    until: int | None = None
    coarse_boost: tuple[str, ...] = ()
    propagated_root: str | None = None
    skips: tuple[int, ...] = ()
    seed: int = 0


def make_lists(train: SegmentationDataset, options: ListOptions, threads: int = 1) -> EpochLists:
    """The lists of the epochs; `train` gets the samples that they refer to beyond its own.

    Raises:
        FileNotFoundError, ValueError: no such frames, labels or classes.
    """
    if options.coarse_boost and not options.class_uniform:
        raise ValueError("--coarse-boost: its crop centers are those of --class-uniform; give both")
    fine = len(train)
    if options.propagated_root:
        train.samples = train.samples + propagated(train, options.propagated_root, options.skips)
    images = fine, len(train)
    if not options.class_uniform:
        return AllImages(images, options.until)
    boosted = [_class_number(train, name) for name in options.coarse_boost]
    if boosted:
        train.samples = train.samples + train.find("train_extra")
    centroids = find_centroids(train, options.tile, threads)
    wanted = centroids[:, 0] < images[1]
    for train_id in boosted:
        wanted |= centroids[:, 1] == train_id
    return ClassUniformLists(images, len(train.class_names), centroids[wanted],
                             options.class_uniform, options.until, options.seed)


def shifted(name: str, frames: int) -> str:
    """The name of a neighboring frame: the number at the end of a name, counted on."""
    return re.sub(r"\d+$", lambda m: f"{int(m[0]) + frames:0{len(m[0])}d}", name)


def propagated(train: SegmentationDataset, root: str, skips: tuple[int, ...]) -> list[Sample]:
    """The frames `skips` before and after each sample of `train` that are under `root`.

    Raises:
        FileNotFoundError: there are none.
    """
    names = {shifted(s.name, sign * k) for s in train.samples for k in skips for sign in (-1, 1)}
    there = type(train)(root, "train" if train.CV_DEFAULT is None else "trainval")
    samples = [sample for sample in there.samples if sample.name in names]
    if not samples:
        raise FileNotFoundError(
            f"{there.root}: none of its {len(there)} frames is {' or '.join(map(str, skips))} "
            f"before or after a frame of {train.root}"
        )
    return samples


def _class_number(train: SegmentationDataset, name: str) -> int:
    if name not in train.class_names:
        raise ValueError(f"--coarse-boost {name!r}: no class; {', '.join(train.class_names)}")
    return train.class_names.index(name)
