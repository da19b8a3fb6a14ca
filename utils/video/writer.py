"""Frames to a video file: H.264 in MP4."""

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from utils.images import shown

if TYPE_CHECKING:  # loaded only where a video is written
    from av import VideoFrame
    from av.container import OutputContainer
    from av.video.stream import VideoStream

ENCODER: Final = "libx264"
QUALITY = {"preset": "veryfast", "crf": "18"}
LARGEST_DENOMINATOR = 1001  # of rates: 30000/1001


class VideoFile:
    """A video that is there when it is complete, in a `with` block that ends well.

    `path` is without a suffix. Raises RuntimeError: there is no encoder.
    """

    def __init__(self, path: Path, fps: float) -> None:
        from av import codecs_available
        from av.video.reformatter import VideoReformatter

        if ENCODER not in codecs_available:
            raise RuntimeError(f"this PyAV was built without {ENCODER}, which writes H.264; "
                               "pip install --force-reinstall av")
        self.path = path.with_name(path.name + ".mp4")
        self.part = path.with_name(f".{secrets.token_hex(8)}.part")
        self.fps, self.frames, self.size = fps, 0, (0, 0)
        self.reformatter = VideoReformatter()
        self.container: OutputContainer | None = None
        self.stream: VideoStream
        self.last: VideoFrame  # converted

    @property
    def padded(self) -> bool:
        """Whether a row or a column was added."""
        return any(side % 2 for side in self.size)

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Adds a frame, at the size of the first; odd sides get one more line, as H.264 wants.

        Args:
            frame: (H, W, 3) uint8 RGB.
            seconds: when it is to be seen, 0 for the first; the one before is repeated until then,
                and a frame that comes too early is left out. None is next.

        Raises OSError: it cannot be written.
        """
        from av import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace

        height, width = frame.shape[:2]
        if self.container is None:
            self.size = (height, width)
            with self._blamed():
                self.container = self._open(height + height % 2, width + width % 2)
        if (height, width) != self.size:
            warnings.warn(f"{shown(self.path)}: frames of {width}x{height} become as large as the "
                          f"first, {self.size[1]}x{self.size[0]}", stacklevel=2)
            (height, width), frame = self.size, cv2.resize(frame, self.size[::-1])
        if self.padded:
            frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
        # As what the stream says that it has.
        picture = self.reformatter.reformat(
            VideoFrame.from_ndarray(np.ascontiguousarray(frame)), format="yuv420p",
            dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG)
        last = self.last if self.frames else picture
        place = self.frames if seconds is None else round(seconds * self.fps)
        with self._blamed():
            for each in [last] * (place - self.frames) + [picture] * (place >= self.frames):
                each.pts = self.frames
                self.container.mux(self.stream.encode(each))
                self.frames += 1
        self.last = picture

    def _open(self, height: int, width: int) -> "OutputContainer":
        import av
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc

        self.part.parent.mkdir(parents=True, exist_ok=True)
        self.part.open("xb").close()  # an error where something is, a link too
        # The index comes first, so that browsers start to play while they load.
        container = av.open(f"file:{self.part.resolve()}", "w", format="mp4",
                            container_options={"movflags": "faststart"})
        self.stream = container.add_stream(
            ENCODER, Fraction(self.fps).limit_denominator(LARGEST_DENOMINATOR), QUALITY,
            height=height, width=width)
        self.stream.thread_type = "AUTO"  # else several of them cost quality
        # Class colors stay what they are only if players are told how they were made YUV.
        context = self.stream.codec_context
        context.color_range, context.colorspace = ColorRange.MPEG, Colorspace.ITU709
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        container.start_encoding()
        return container

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Names the video in what the disk or the encoder refuses."""
        from av import FFmpegError

        try:
            yield
        except (FFmpegError, OSError) as error:
            message = f"{shown(self.path)}: not written ({error.strerror})"
            raise OSError(error.errno, message) from None

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if self.container:
                with suppress(*([OSError] if kind else [])), self._blamed():
                    if not kind:
                        self.container.mux(self.stream.encode())
                    self.container.close()
            if self.frames and not kind:
                os.replace(self.part, self.path)
        finally:
            with suppress(OSError):  # gone if all went well
                self.part.unlink()
