"""Labels for the frames around each labelled one, carried there by motion, and their images.

Zhu et al., "Improving Semantic Segmentation via Video Propagation and Label Relaxation", CVPR 2019,
https://arxiv.org/abs/1812.01593. Motion is found between real frames, each step of it moves the
image and the label of before alike, so that the two fit even where the motion is wrong.
"""

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from datasets.base import SegmentationDataset
from datasets.sampling.epoch_lists import shifted
from utils.images import (
    needed_bits,
    read_image,
    read_label,
    read_orientation,
    read_size,
    write_png,
)
from utils.labels import IGNORE
from utils.video.flow import Motion, disagreement, warp, warp_labels
from utils.workers import map_in_threads

IMAGE, LABEL, TRAIN_IDS = "_leftImg8bit.png", "_gtFine_labelIds.png", "_gtFine_labelTrainIds.png"
NAMED = 3  # of the missing frames
TRIED = 8  # labelled frames that the need of disk is estimated from


@dataclass(frozen=True)
class Method:
    """How the frames around a labelled one are made.

    Args:
        direct: each in one step from the labelled frame, instead of from the one before it.
        consistency: pixels; labels whose way there and back misses by more become 255.
        upstream: as the paper's code: images are warped to the nearest pixel from the second step
            on, and what comes from outside of a frame repeats its border pixels, labels too.
    """

    direct: bool = False
    consistency: float | None = None
    upstream: bool = False


@dataclass(frozen=True)
class Pair:
    """Where an image and its label go."""

    image: Path
    label: Path

    def read(self, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray] | None:
        """Image and label, if both are there, whole and of `size`."""
        try:
            image, ids = read_image(self.image), read_label(self.label)
        except (OSError, ValueError):
            return None
        return (image, ids) if image.shape[:2] == ids.shape == size else None


@dataclass(frozen=True)
class Chain:
    """A labelled frame and what follows it, or what comes before it, the nearest first."""

    index: int  # of the labelled frame in its data set
    frames: list[Path]
    pairs: list[Pair]
    opposite: list[Path]  # frames of the other direction


@dataclass
class State:
    """The frame that the next step starts from."""

    path: Path
    image: np.ndarray  # what is moved
    ids: np.ndarray
    real: np.ndarray | None = None  # what motion is found from; None is not read yet

    def read_real(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        self.real = read_image(self.path) if self.real is None else self.real
        return self.real


def find_chains(dataset: SegmentationDataset, split: str, count: int, out: Path) -> list[Chain]:
    """Two chains per sample of a data set like Cityscapes, forward and backward.

    Args:
        dataset: the labelled frames.
        split: they are of; has its frames in leftImg8bit_sequence.
        count: frames of a chain.
        out: folder that gets the same layout.

    Raises:
        FileNotFoundError: no sequence folder, or frames are missing; names some.
        ValueError: chains of two labelled frames meet.
    """
    sequence = dataset.files(f"{split}_sequence")
    if not sequence.images:
        raise FileNotFoundError(f"{dataset.root}: no {sequence.image_pattern}; the frames between "
                                "the labelled ones are in leftImg8bit_sequence_trainvaltest.zip")
    wanted = [(index, sample, [shifted(sample.name, sign * k) for k in range(1, count + 1)])
              for index, sample in enumerate(dataset.samples) for sign in (1, -1)]
    missing = [name for _, _, names in wanted for name in names if name not in sequence.images]
    if missing:
        more = ", ..." if len(missing) > NAMED else ""
        raise FileNotFoundError(
            f"{dataset.root}: {len(missing)} frames of {sequence.image_pattern} are missing: "
            f"{', '.join(missing[:NAMED])}{more}; restore them, or give a smaller --propagate")
    owners = {sample.name: sample.name for sample in dataset.samples}
    for _, sample, names in wanted:
        for name in names:
            if (other := owners.setdefault(name, sample.name)) != sample.name:
                raise ValueError(f"{dataset.root}: the labelled frames {other} and {sample.name} "
                                 f"both give {name}; give a smaller --propagate")
    chains = []
    for number, (index, sample, names) in enumerate(wanted):
        place = Path(*sample.image.parts[-3:-1])  # split and city
        suffix = TRAIN_IDS if sample.truth.name.endswith(TRAIN_IDS) else LABEL
        pairs = [Pair(out / "leftImg8bit" / place / (name + IMAGE),
                      out / "gtFine" / place / (name + suffix)) for name in names]
        frames, opposite = ([sequence.images[each] for each in chain]
                            for chain in (names, wanted[number ^ 1][2]))  # forward, backward, ...
        chains.append(Chain(index, frames, pairs, opposite))
    return chains


def check_frames(dataset: SegmentationDataset, chains: Iterable[Chain], smallest: int) -> None:
    """ValueError for frames below `smallest` pixels a side, or not as large as the labelled one,
    of 16 bits, or that EXIF turns: what is written says neither.
    """
    sizes = dataset.sizes()
    height, width = min(sizes, key=min)
    if min(height, width) < smallest:
        raise ValueError(f"{dataset.root}: frames of {width}x{height}; this --motion needs at "
                         f"least {smallest}x{smallest}, choose another one or larger frames")

    def check(job: tuple[Path, int]) -> None:
        path, index = job
        height, width = read_size(path)
        if (height, width) != sizes[index]:
            raise ValueError(f"{path}: {width}x{height}, its labelled frame "
                             f"{dataset.samples[index].name} {sizes[index][1]}x{sizes[index][0]}")
        if read_orientation(path) != 1 or needed_bits(path):
            raise ValueError(f"{path}: of 16 bits, or EXIF turns it; convert it to 8 bits, upright")

    jobs = ((path, chain.index) for chain in chains
            for path in (dataset.samples[chain.index].image, *chain.frames))
    list(map_in_threads(check, jobs, 8))


def bytes_needed(dataset: SegmentationDataset, chains: Sequence[Chain]) -> int:
    """About as many bytes as the pairs that are not there yet will take.

    A few labelled frames spread over the set are written as propagated ones would be.
    """
    tried, total = chains[:: -(-len(chains) // TRIED)], 0
    with tempfile.TemporaryDirectory() as folder:  # not in the result: kill -9 would leave it
        trial = Path(folder) / "x.png"
        for chain in tried:
            for read in (dataset.read_ids, dataset.read_image):
                write_png(trial, read(chain.index))
                total += trial.stat().st_size
    open_pairs = sum(not (pair.image.exists() and pair.label.exists())
                     for chain in chains for pair in chain.pairs)
    return open_pairs * total // len(tried)


class Propagation:
    """Writes the pairs of chains of a data set; `motion` is called by several threads."""

    def __init__(self, dataset: SegmentationDataset, motion: Motion, method: Method) -> None:
        self.dataset, self.motion, self.method = dataset, motion, method

    def write(self, chain: Chain) -> int:
        """Writes what is not there and whole; how many pairs that was.

        Files are written whole or not at all, and what is found goes on as if it had just been
        made: the result is the same, wherever an earlier attempt ended.
        """
        image = self.dataset.read_image(chain.index)
        center = self.dataset.samples[chain.index].image
        start = state = State(center, image, self.dataset.read_ids(chain.index), image)
        written = 0
        for step, (frame, pair) in enumerate(zip(chain.frames, chain.pairs, strict=True)):
            if found := pair.read(image.shape[:2]):
                state = State(frame, *found)
                continue
            before = self.find_before(chain, step)
            state = self.step(start if self.method.direct else state, frame, before, step == 0)
            write_png(pair.label, state.ids)
            write_png(pair.image, state.image)
            written += 1
        return written

    def find_before(self, chain: Chain, step: int) -> Path:
        """The frame before the source of a step; published code takes the labelled one."""
        if step == 0 or self.method.direct:
            return chain.opposite[step]
        if step == 1 or self.method.upstream:
            return self.dataset.samples[chain.index].image
        return chain.frames[step - 2]

    def step(self, state: State, frame: Path, before: Path, first: bool) -> State:
        """Image and label of a frame, from those of another one."""
        source, target = state.read_real(), read_image(frame)
        flow = self.motion(target, source, partial(read_image, before))
        ids = (warp(state.ids, flow, nearest=True) if self.method.upstream
               else warp_labels(state.ids, flow))
        if self.method.consistency is not None:
            error = disagreement(flow, self.motion(source, target, None))
            ids[error > self.method.consistency] = IGNORE
        nearest = self.method.upstream and not first
        return State(frame, warp(state.image, flow, nearest), ids, target)
