"""Videos as frames in order: of a file, a folder of frames, a camera or an address."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from operator import attrgetter
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from utils.images import check_pixels, read_image, read_size, shown
from utils.workers import iterate_in_thread, map_in_threads

if TYPE_CHECKING:  # loaded only where a video is opened
    from av.container import InputContainer
    from av.video.stream import VideoStream
ASSUMED_FPS = 25.0  # of what does not say
CITYSCAPES_FPS = 17.0  # of its sequences and demo videos, https://www.cityscapes-dataset.com
HIGHEST_FPS = 1000  # more is the rate of a clock
UNEVEN = 0.25  # of the mean interval: with a frame that is off by more, the rate is variable
ROUNDED = 0.001  # seconds, to which some containers round times
GAPS = (-1, 60)  # seconds from a frame to the next; others are of a clock that was set
ASPECTS = (0.2, 5)  # of pixels; others are of damaged headers
MATRICES = (0, 1, 2, 4, 5, 6, 7, 9)  # color spaces of ISO/IEC 23091-2 that FFmpeg converts
UNSPECIFIED = 2  # of them
PATIENCE = (10.0, 30.0)  # seconds until an address has to answer, and to go on
TIMELAPSE_FPS = 10.0


class Frame(NamedTuple):
    """A frame of a stream."""

    pixels: np.ndarray  # (H, W, 3) uint8 RGB
    seconds: float  # from the first


@dataclass
class Video:
    """Frames in order, to be read."""

    name: str  # for files that are made of it
    fps: float  # frames per second
    items: Iterable[Any]  # one per frame, in order
    read: Callable[[Any], np.ndarray]  # (H, W, 3) uint8 RGB of an item; may be called in threads
    count: int | None = None  # of frames, as far as it is known
    live: bool = False  # frames have their time (`Frame.seconds`) and no rate
    times: list[float] = field(default_factory=list)  # seconds of a file's frames read so far
    damaged: int = 0  # frames and parts of a file that could not be decoded, or not well
    left_out: list[Path] = field(default_factory=list)  # files beside the frames that are none

    def jump(self) -> float:
        """The longest gap in the times of frames that no video has, in seconds, else 0."""
        gaps = [later - earlier for earlier, later in pairwise(self.times)]
        return max((gap for gap in gaps if not GAPS[0] <= gap <= GAPS[1]), key=abs, default=0)

    def uneven(self) -> str:
        """A line, if the frames that were read did not come at a constant rate."""
        if jump := self.jump():
            return f"its clock jumps by {jump:,.0f} s: written without the gap"
        gaps = [later - earlier for earlier, later in pairwise(self.times)]
        allowed = max(ROUNDED, UNEVEN * abs(mean(gaps))) if gaps else 0
        if all(abs(gap - mean(gaps)) <= allowed for gap in gaps):
            return ""
        return (f"variable frame rate, {1000 * min(gaps):.0f} to {1000 * max(gaps):.0f} ms between "
                "frames: written at a constant one")

    def cut_short(self) -> str:
        """A line, if a file's header tells of many more seconds than could be read, or is damaged.

        Not frames: some containers do not count them, and a number is made up from a rate.
        """
        last, seconds = max(self.times, default=0), (self.count or 0) / self.fps
        long = max(1 / self.fps, last * len(self.times) / max(1, len(self.times) - 1))
        if not self.times or self.jump() or long >= 0.95 * seconds:
            return (f"damaged: {self.damaged} frames or parts could not be decoded well"
                    if self.damaged else "")
        return (f"its header tells of {seconds:.1f} s, {last:.1f} s could be decoded: damaged or "
                "cut off")

    def due(self, item: Any) -> float | None:
        """Seconds when an item is to be shown; None is right after the one before."""
        return item.seconds if isinstance(item, Frame) else None


def open_file(path: Path) -> Video:
    """The frames of a video file, upright and with square pixels.

    Raises FileNotFoundError, or ValueError: not a video, or one without frames.
    """
    if not path.exists():
        raise FileNotFoundError(f"{shown(path)}: no such file or folder")
    if not path.is_file():  # opening a pipe would wait for its writer
        raise ValueError(f"{shown(path)}: not a file, but a pipe or a device")
    # Of a plain name FFmpeg would take what is before a colon as a protocol.
    return _open(path.stem, f"file:{path.resolve()}", shown(path), live=False)


def open_camera(number: int) -> Video:
    """What a camera sees, for ever; its driver drops frames that nobody asks for in time.

    Raises ValueError: it is not there, or gives no picture.
    """
    try:
        device, kind, options = find_camera(number)
        return _open(f"camera{number}", device, device, live=True, format=kind, options=options)
    except (LookupError, ValueError) as error:
        raise ValueError(f"--video {number}: no camera of this number, or it gives no picture "
                         f"({error}); for a folder of this name, ./{number}") from None


def find_camera(number: int) -> tuple[str, str, dict[str, str]]:
    """A camera of this system as FFmpeg knows it: name, input format, options."""
    if sys.platform == "darwin":  # whose cameras do not have the rate that FFmpeg assumes
        return str(number), "avfoundation", {"framerate": "30"}
    if sys.platform == "win32":
        from av.device import enumerate_input_devices

        found = [each for each in enumerate_input_devices("dshow") if "video" in each.media_types]
        return f"video={found[number].name}", "dshow", {}
    return f"/dev/video{number}", "v4l2", {}


def open_address(address: str) -> Video:
    """What a server sends, as rtsp://HOST/PATH. Raises ValueError if that is no picture."""
    path = address.partition("://")[2].partition("/")[2]  # before it there may be a password
    name = Path(path.partition("?")[0]).stem or "stream"
    return _open(name, address, shown(address), timeout=PATIENCE,
                 options={"rtsp_flags": "prefer_tcp"})


def open_frames(
    paths: Sequence[Path], name: str, upright: bool = False, bits: int | None = None
) -> Video:
    """Images as the frames of a video; `upright` and `bits` as in `read_image`.

    Raises FileNotFoundError or ValueError: none, of several sizes, or one without a header.
    """
    if not paths:
        raise FileNotFoundError(f"{name}: no images in it")
    sizes = list(map_in_threads(partial(read_size, upright=upright), paths, 8))
    for path, (height, width) in zip(paths, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise ValueError(f"{shown(path)}: {width}x{height} among frames of {sizes[0][1]}x"
                             f"{sizes[0][0]}; the frames of a video have one size; "
                             "make them equal, or choose those that are")
    fps = CITYSCAPES_FPS if paths[0].stem.endswith("_leftImg8bit") else ASSUMED_FPS
    return Video(name, fps, paths, partial(read_image, upright=upright, bits=bits), len(paths))


def _open(name: str, source: str, where: str, live: bool | None = None, **how: Any) -> Video:
    """A video whose first frame is there; if not said, it is `live` if its length is not known.

    Raises ValueError: where, and what is wrong.
    """
    import av

    try:
        container = av.open(source, metadata_errors="replace", **how)
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{where}: not a video that can be read ({error.strerror})") from None
    stream = container.streams.best("video")
    if stream is None or stream.codec_context is None:
        raise ValueError(f"{where}: not a video, or of a codec that PyAV has no decoder for")
    context = stream.codec_context
    limit = check_pixels(where, context.width, context.height)
    context.options = {"max_pixels": str(limit)}  # the size may change
    stream.thread_type = "AUTO"
    fps, length = float(stream.guessed_rate or 0), (container.duration or 0) / 1e6
    video = Video(name, fps, (), attrgetter("pixels"), live=not length if live is None else live)
    if not 0 < fps <= HIGHEST_FPS:
        video.fps, length = ASSUMED_FPS, 0
    elif stream.duration and stream.time_base:  # the sound may be longer
        length = float(stream.duration * stream.time_base)
    video.count = None if live else round(length * video.fps) or None
    frames = _frames(video, container, stream)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{where}: a video without frames, or with damaged ones only "
                         f"({stream.codec_context.name})")
    video.items = iterate_in_thread(chain([first], frames))
    return video


def _frames(video: Video, container: "InputContainer", stream: "VideoStream") -> Iterator[Frame]:
    """What can be decoded; where its clock jumps, the times of frames go on evenly."""
    import av
    from av.video.reformatter import VideoReformatter

    reformatter, step = VideoReformatter(), 1 / video.fps
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if ASPECTS[0] <= aspect <= ASPECTS[1] else 1.0
    first, start, before = None, 0.0, 0.0
    with container:
        packets = container.demux(stream)
        while True:
            try:
                pictures = next(packets).decode()
            except StopIteration:
                return
            except (av.FFmpegError, OSError):  # of the packet, or of the source: then it ends
                video.damaged += bool(video.times)  # what is cut out of a longer one begins so
                continue
            for picture in pictures:
                now = before + step if picture.time is None else picture.time
                if first is None:
                    first = start = now
                elif not GAPS[0] <= now - before <= GAPS[1]:
                    start += now - before - step
                before = now
                if not video.live:
                    video.times.append(now - first)
                    video.damaged += picture.is_corrupt
                if picture.colorspace not in MATRICES:
                    picture.colorspace = UNSPECIFIED
                rgb = reformatter.reformat(picture, round(picture.width * aspect), format="rgb24")
                pixels = rgb.to_ndarray()
                if matrix := picture.side_data.get("DISPLAYMATRIX"):  # may mirror: no rotation says
                    a, b, _, c, d, *_ = np.asarray(matrix).view(np.int32).tolist()
                    pixels = pixels[::-1] if a * d < b * c else pixels
                pixels = np.rot90(pixels, round(picture.rotation / 90))
                yield Frame(np.ascontiguousarray(pixels), now - start)
