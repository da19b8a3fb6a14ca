"""Clips of a drawn city: 30 frames around each image, their exact labels and optical flow.

`python -m datasets.synthetic OUT --clips --all-labels --flow` writes, beside the images of before,
  leftImg8bit_sequence/SPLIT/CITY/CITY_SEQ_FRAME_leftImg8bit.png          as in Cityscapes
  gtFine_sequence/SPLIT/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png           of train and val
  flow_sequence/SPLIT/CITY/CITY_SEQ_FRAME_{forward,backward}.png          of train and val
with frames 000000 to 000029, of which 000019 is the labelled image. Forward flow leads to the next
frame, backward flow to the one before; `utils.flow_images` describes the files. `find_clips` lists
what is there:

  for clip in find_clips(root, "val"):
      vectors, state = clip.read_flow(18, "forward")
      same = clip.read_labels(18) == clip.read_labels(19)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.render import Drawing, draw
from datasets.street.flow import flow
from datasets.street.motion import FRAMES, LABELLED, plan
from datasets.street.world import Scene
from utils.flow_images import read_flow, write_flow
from utils.images import read_image, read_label, write_png

SPLITS = ("train", "val", "test")  # those that get clips


@dataclass(frozen=True)
class Extras:
    """What a clip gets beside its frames: labels of every frame, flow between neighbors."""

    labels: bool = False
    flow: bool = False


@dataclass(frozen=True)
class Clip:
    """The files of 30 frames. `name` is CITY_SEQ, `root` the folder of the data set."""

    root: Path
    split: str
    name: str

    def image(self, frame: int) -> Path:
        """The picture of a frame, 0..29; it may not exist."""
        return self._path("leftImg8bit", frame, "leftImg8bit")

    def labels(self, frame: int) -> Path:
        """Its Cityscapes ids."""
        return self._path("gtFine", frame, "gtFine_labelIds")

    def flow(self, frame: int, direction: str) -> Path:
        """Its flow, "forward" or "backward"; the last and the first frame lack one."""
        return self._path("flow", frame, direction)

    def read_image(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB. Raises as `utils.images.read_image`."""
        return read_image(self.image(frame))

    def read_labels(self, frame: int) -> np.ndarray:
        """(H, W) uint8 ids of every pixel. Raises as `utils.images.read_label`."""
        return read_label(self.labels(frame))

    def read_flow(self, frame: int, direction: str) -> tuple[np.ndarray, np.ndarray]:
        """(H, W, 2) float32, pixels right and down to the neighboring frame; (H, W) uint8 state.

        The state is that of `datasets.street.flow`: 0 unknown, 1 hidden in the other frame, 2 seen
        through (the label moves so, the color does not), 3 visible in both.

        Raises as `utils.flow_images.read_flow`.
        """
        return read_flow(self.flow(frame, direction))

    def _path(self, kind: str, frame: int, end: str) -> Path:
        folder = self.root / f"{kind}_sequence" / self.split / self.name.rsplit("_", 1)[0]
        return folder / f"{self.name}_{frame:06d}_{end}.png"


def find_clips(root: Path, split: str) -> list[Clip]:
    """The clips of a split, sorted by name.

    Raises:
        FileNotFoundError: there are none.
    """
    end = f"_{LABELLED:06d}_leftImg8bit.png"
    paths = sorted((root / "leftImg8bit_sequence" / split).glob(f"*/*{end}"))
    if not paths:
        raise FileNotFoundError(f"{root}: no clips of {split}; `python -m datasets.synthetic DIR "
                                "--clips` draws some")
    return [Clip(root, split, path.name.removesuffix(end)) for path in paths]


def write_clip(clip: Clip, scene: Scene, size: tuple[int, int], extras: Extras) -> None:
    """Draws and writes the frames around a scene, and `extras` of those of train and val.

    Args:
        clip: where to.
        scene: the described moment, frame 19.
        size: height and width in pixels.
        extras: what else is written.
    """
    labelled = clip.split != "test"
    before = None
    for frame, drawing in enumerate(draw_frames(scene, size)):
        if labelled and extras.labels:
            write_png(clip.labels(frame), drawing.labels)
        if labelled and extras.flow and before:
            write_flow(clip.flow(frame - 1, "forward"), *flow(before, drawing))
            write_flow(clip.flow(frame, "backward"), *flow(drawing, before))
        write_png(clip.image(frame), drawing.image)
        before = drawing


def draw_frames(scene: Scene, size: tuple[int, int]) -> Iterator[Drawing]:
    """The 30 frames around a scene, in order; the one of index 19 is its picture."""
    motion = plan(scene)
    for frame in range(FRAMES):
        moment = motion.at(frame)
        yield draw(moment, moment.camera, *size)
