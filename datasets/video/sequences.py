"""Sequences: the images of a city in order; three frames in a row and the flow between them."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datasets import DATASETS
from datasets.base import SampleKey
from datasets.cityscapes import SEQUENCES
from datasets.folder import SUFFIXES
from utils.images import read_image, read_size
from utils.video.flow import Motion
from utils.workers import Stream

NUMBERED = re.compile(r"(.*?)(\d+)(_leftImg8bit)?")
SMALLEST = 33  # pixels a side of whole frames, of which the network makes at least 64


def find_sequence(name: str, root: Path, city: str | None, split: str | None) -> list[Path]:
    """Images of the data set `name` in the folder `root`, sorted by name.

    Args:
        city: or sequence; None is all of the split.
        split: None is the one that has the city, else val.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: no such city; the message lists those that are there.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root.resolve()}: no such folder; give --data-root DIR, or set "
                                f"{name.upper()}_DATASET")
    dataset = DATASETS[name](root, "")
    parts = [split] if split else dataset.parts() if city else ["val"]
    known: set[str] = set()
    for part in parts:
        groups: dict[str, list[Path]] = defaultdict(list)
        for image, path in dataset.files(part).images.items():
            groups[dataset.group(image, path)].append(path)
        if city is None and groups:
            return [path for paths in groups.values() for path in paths]
        if city in groups:
            return groups[city]
        known |= groups.keys()
    if not known:
        raise FileNotFoundError(f"{root.resolve()}: no images of {name} ({', '.join(parts)}) in "
                                "it; give --data-root DIR")
    raise ValueError(f"{city}: no such city or sequence in {root}; there are "
                     f"{', '.join(sorted(known))}")


def find_sequences(root: Path, split: str) -> list[list[Path]]:
    """Runs of three or more frames without a gap, each in order.

    Frames are the images of leftImg8bit_sequence/SPLIT, else of SPLIT, in folders at any depth,
    whose names are alike but for a number at the end. The smallest step between the numbers of a
    video is that of all its neighbors.

    Raises:
        FileNotFoundError: no such folder, or no three frames in a row.
        ValueError: two frames of a video have one number.
    """
    folders = [root / place / split for place in (*SEQUENCES, "")]
    folder = next((folder for folder in folders if folder.is_dir()), None)
    if folder is None:
        raise FileNotFoundError(f"{root}: no {SEQUENCES[0]}/{split} and no {split} in it; frames "
                                f"are expected there, as {split}/VIDEO/NAME_000001.png")
    videos: dict[tuple[Path, str], dict[int, Path]] = defaultdict(dict)
    for path in sorted(folder.rglob("*")):
        name = NUMBERED.fullmatch(path.stem)
        if name and path.suffix.lower() in SUFFIXES:
            other = videos[path.parent, name[1]].setdefault(int(name[2]), path)
            if other is not path:
                raise ValueError(f"{path}: its number is also that of {other}; delete one")
    runs = [run for frames in videos.values() for run in _runs(frames) if len(run) > 2]
    if not runs:
        raise FileNotFoundError(f"{folder}: no three frames in a row; their names are expected to "
                                "end in a number, as NAME_000001.png")
    return runs


def _runs(frames: dict[int, Path]) -> list[list[Path]]:
    numbers = sorted(frames)
    step = min((after - before for before, after in pairwise(numbers)), default=0)
    runs = [[frames[numbers[0]]]]
    for before, after in pairwise(numbers):
        if after - before != step:
            runs.append([])
        runs[-1].append(frames[after])
    return runs


class FrameTriplets(Dataset):
    """(3, H, W, 3) uint8 RGB frames and (2, 2, H, W) float32 flows, in pixels (x, y).

    Flow i is at the pixels of frame i + 1 and says how far away they are in frame i.

    Args:
        root, split: where the videos are, as of `find_sequences`.
        motion: of pairs; see there.
        crop_size: (H, W) in pixels of random crops, of which half run backward in time; None for
            whole frames as they are.
        limit: that many triplets, evenly spread over all.
        seed: of the crops.

    Raises:
        FileNotFoundError: no three frames in a row.
        ValueError: frames are smaller than crops, or than `SMALLEST`.
    """

    def __init__(
        self, root: str | Path, split: str, motion: Motion,
        crop_size: Sequence[int] | None = None, limit: int | None = None, seed: int = 0,
    ) -> None:
        self.root, self.motion, self.crop_size, self.seed = Path(root), motion, crop_size, seed
        runs = find_sequences(self.root, split)
        least = crop_size or (SMALLEST, SMALLEST)
        for path, *_ in runs:
            height, width = read_size(path)
            if height < least[0] or width < least[1]:
                raise ValueError(f"{path}: {height}x{width} pixels; at least {least[0]}x{least[1]} "
                                 "are needed, for crops as --crop-size says")
        triplets = [run[i : i + 3] for run in runs for i in range(len(run) - 2)]
        count = min(limit or len(triplets), len(triplets))
        self.triplets = [triplets[i * len(triplets) // count] for i in range(count)]

    def __len__(self) -> int:
        return len(self.triplets)

    def digest(self) -> str:
        """Changes when the triplets do, not when the files are copied elsewhere."""
        names = [path.relative_to(self.root).as_posix() for path, *_ in self.triplets]
        return hashlib.sha256(repr(names).encode()).hexdigest()[:16]

    def __getitem__(self, key: int | SampleKey) -> tuple[Tensor, Tensor]:
        """One triplet, an index is that position of epoch 0; ValueError if its sizes differ."""
        epoch, position, index, _ = key if isinstance(key, tuple) else SampleKey(0, key, key)
        paths = self.triplets[index]
        frames = [read_image(path) for path in paths]
        if len({frame.shape for frame in frames}) > 1:
            sizes = ", ".join("{}x{}".format(*frame.shape) for frame in frames)
            raise ValueError(f"{paths[0]} and the two frames after it: {sizes} pixels; one size is "
                             "needed")
        if self.crop_size:  # one random window of all frames, perhaps in reversed order
            rng = np.random.default_rng((Stream.TRIPLETS, self.seed, epoch, position))
            height, width = self.crop_size
            top, left = (int(rng.integers(frames[0].shape[axis] - self.crop_size[axis] + 1))
                         for axis in (0, 1))
            order = frames[::-1] if rng.random() < 0.5 else frames
            frames = [np.ascontiguousarray(frame[top : top + height, left : left + width])
                      for frame in order]
        flows = [self.motion(target, source, None) for source, target in pairwise(frames)]
        return (torch.from_numpy(np.stack(frames)),
                torch.from_numpy(np.stack(flows).transpose(0, 3, 1, 2).copy()))
