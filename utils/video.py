"""Videos as frames in order: of a file, a folder of frames, or a camera."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path
from statistics import mean
from time import monotonic
from typing import Any, NamedTuple

import cv2
import numpy as np

from utils.images import read_image, read_size, shown
from utils.workers import iterate_in_thread

ASSUMED_FPS = 25.0  # of what does not say
CITYSCAPES_FPS = 17.0  # of its sequences and demo videos, https://www.cityscapes-dataset.com
HIGHEST_FPS = 1000  # more is the rate of a clock
UNEVEN = 0.25  # of the mean interval: with a frame that is off by more, the rate is variable
ROUNDED = 0.001  # seconds, to which some containers round times


class Frame(NamedTuple):
    """A frame of a stream."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    seconds: float  # from the first


@dataclass
class Video:
    """Frames in order, to be read.

    Args:
        name: for files that are made of it.
        fps: frames per second.
        items: one per frame, in order.
        read: the pixels of an item, (H, W, 3) uint8 RGB; may be called in threads.
        count: of frames, as far as it is known.
        live: frames have their time (`Frame.seconds`) and no rate.
        times: seconds of the frames of a file that were read so far.
    """

    name: str
    fps: float
    items: Iterable[Any]
    read: Callable[[Any], np.ndarray]
    count: int | None = None
    live: bool = False
    times: list[float] = field(default_factory=list)

    def uneven(self) -> str:
        """A line, if the frames that were read did not come at a constant rate."""
        gaps = [later - earlier for earlier, later in pairwise(self.times)]
        allowed = max(ROUNDED, UNEVEN * abs(mean(gaps))) if gaps else 0
        if all(abs(gap - mean(gaps)) <= allowed for gap in gaps):
            return ""
        return (f"variable frame rate, {1000 * min(gaps):.0f} to {1000 * max(gaps):.0f} ms between "
                "frames: written at a constant one")

    def cut_short(self) -> str:
        """A line, if a file's header tells of many more seconds than could be read.

        Not frames: some containers do not count them, and a number is made up from a rate.
        """
        last, seconds = max(self.times, default=0), (self.count or 0) / self.fps
        if not last or last * len(self.times) / (len(self.times) - 1) >= 0.95 * seconds:
            return ""
        return (f"its header tells of {seconds:.1f} s, {last:.1f} s could be decoded: damaged or "
                "cut off")

    def due(self, item: Any) -> float | None:
        """Seconds when an item is to be shown; None is right after the one before."""
        grows = len(self.times) > 1 and self.times[0] < self.times[-1]
        return item.seconds if self.live or grows else None


def open_file(path: Path) -> Video:
    """The frames of a video file, upright.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not a video, or one without frames.
    """
    if not path.exists():
        raise FileNotFoundError(f"{shown(path)}: no such file or folder")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise ValueError(f"{shown(path)}: not a file, but a pipe or a device")
    with quiet():
        capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    if not capture.isOpened():
        raise ValueError(f"{shown(path)}: not a video that OpenCV can read; a video file, a folder "
                         "of frames or the number of a camera is expected")
    fps, count = capture.get(cv2.CAP_PROP_FPS), int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    if not 0 < fps <= HIGHEST_FPS:
        fps, count = ASSUMED_FPS, 0  # the number was made of that rate, too
    frames = _frames(capture)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{shown(path)}: a video without frames, or with damaged ones only")
    times: list[float] = []

    def timed() -> Iterator[Frame]:
        for frame in chain([first], frames):
            times.append(frame.seconds)
            yield frame

    return Video(path.stem, fps, iterate_in_thread(timed()), attrgetter("pixels"),
                 max(count, 0) or None, times=times)


def open_camera(number: int) -> Video:
    """What a camera sees, for ever; frames that come while none is asked for are lost.

    Raises:
        ValueError: it is not there, or gives no picture.
    """
    frames: Iterator[Frame] = iter(())
    with quiet():
        capture = cv2.VideoCapture(min(number, 2**31 - 1))  # of which it has fewer
    if capture.isOpened():
        frames = _frames(capture, monotonic)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"--video {number}: no camera of this number, or it gives no picture; for "
                         f"a folder of this name, ./{number}")
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # else old frames come first
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Video(f"camera{number}", fps if 0 < fps <= HIGHEST_FPS else ASSUMED_FPS,
                 iterate_in_thread(chain([first], frames)), attrgetter("pixels"), live=True)


def open_frames(paths: Sequence[Path], name: str, upright: bool = False) -> Video:
    """Images as the frames of a video; `upright` as in `read_image`.

    Raises:
        FileNotFoundError, ValueError: there are none, or their sizes differ, or one has no header.
    """
    if not paths:
        raise FileNotFoundError(f"{name}: no images in it")
    with ThreadPoolExecutor(8) as pool:
        sizes = list(pool.map(read_size, paths))
    for path, (height, width) in zip(paths, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise ValueError(f"{shown(path)}: {width}x{height} among frames of {sizes[0][1]}x"
                             f"{sizes[0][0]}; the frames of a video have one size; "
                             "make them equal, or choose those that are")
    fps = CITYSCAPES_FPS if paths[0].stem.endswith("_leftImg8bit") else ASSUMED_FPS
    return Video(name, fps, paths, partial(read_image, upright=upright), len(paths))


def _frames(
    capture: cv2.VideoCapture, clock: Callable[[], float] | None = None
) -> Iterator[Frame]:
    """What a capture gives; times are the file's own without a clock."""
    start = None
    try:
        while True:
            there, pixels = capture.read()
            if not there:
                return
            now = clock() if clock else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            start = now if start is None else start
            yield Frame(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB), now - start)
    finally:
        capture.release()


@contextmanager
def quiet() -> Iterator[None]:
    """Around the opening of videos: FFmpeg and OpenCV say there what this project says itself."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # of later; read when first used
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
