"""Frames to a video file: H.264 in MP4 where an encoder is at hand, else VP8 in WebM."""

import errno
import importlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Protocol

import cv2
import numpy as np

from utils.images import shown
from utils.video import quiet

H264 = {  # encoders of ffmpeg, by preference, and options of about equal quality
    "libx264": ("-preset", "veryfast", "-crf", "18"),
    "h264_videotoolbox": ("-q:v", "65"),
    "libopenh264": ("-b:v", "12M"),
}
# Class colors stay what they are only if players are told how they were made YUV. By a filter: of
# the options for that, newer versions of ffmpeg heed the matrix alone.
COLORS = ("-vf", "scale=out_color_matrix=bt709:out_range=tv,setparams=range=tv:"
          "color_primaries=bt709:color_trc=bt709:colorspace=bt709")
ADVICE = ("no H.264 encoder at hand (an ffmpeg with libx264, or pip install imageio-ffmpeg): "
          "written as {}")


class Encoder(Protocol):
    """Writes frames to one file."""

    def write(self, frame: np.ndarray) -> None:
        """Takes (H, W, 3) uint8 RGB, H and W even."""

    def close(self) -> None:
        """Completes the file; OSError if that fails."""


class Codec(NamedTuple):
    """A way to encode that works here."""

    name: str
    suffix: str
    open: Callable[[Path, tuple[int, int], float], Encoder]  # file, (H, W), frames per second
    remark: str = ""  # a line for the user


class Ffmpeg:
    """A program that encodes what comes through a pipe.

    Args:
        program: that was found.
        encoder: of `H264`.
        path: of the file.
        size: (H, W).
        fps: frames per second.
    """

    def __init__(
        self, program: str, encoder: str, path: Path, size: tuple[int, int], fps: float
    ) -> None:
        self.path, self.errors = path, tempfile.TemporaryFile()  # noqa: SIM115  see close
        command = [program, "-loglevel", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24",
                   "-s", f"{size[1]}x{size[0]}", "-r", f"{fps:.6f}", "-i", "pipe:0",
                   "-c:v", encoder, *H264[encoder], "-pix_fmt", "yuv420p", *COLORS,
                   "-movflags", "+faststart+write_colr", f"file:{path.resolve()}"]
        # In a session of its own: Ctrl-C must not reach it before the file is complete.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=self.errors,
                                        stdout=subprocess.DEVNULL, start_new_session=True)

    def write(self, frame: np.ndarray) -> None:
        try:
            self.process.stdin.write(np.ascontiguousarray(frame).data)  # type: ignore[union-attr]
        except BrokenPipeError:  # it has left, and says why
            self.close()
            raise OSError(f"{shown(self.path)}: ffmpeg left early") from None

    def close(self) -> None:
        with suppress(BrokenPipeError):
            self.process.stdin.close()  # type: ignore[union-attr]
        code = self.process.wait()
        if self.errors.closed:
            return
        with self.errors:
            self.errors.seek(0)
            said = self.errors.read().decode(errors="replace").strip()
        if code:
            number = errno.ENOSPC if os.strerror(errno.ENOSPC) in said else errno.EIO
            reason = said.splitlines()[-1] if said else f"exit code {code}"
            raise OSError(number, f"{shown(self.path.parent)}: ffmpeg: {reason}")


class OpenCv:
    """An encoder in OpenCV; arguments as of `Codec.open`, after its four letters."""

    def __init__(self, letters: str, path: Path, size: tuple[int, int], fps: float) -> None:
        with quiet():
            self.writer = cv2.VideoWriter(
                str(path), cv2.VideoWriter.fourcc(*letters), fps, size[::-1])
        if not self.writer.isOpened():
            raise OSError(f"{shown(path)}: OpenCV cannot write {letters} of {size[1]}x{size[0]}")

    def write(self, frame: np.ndarray) -> None:
        self.writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self.writer.release()


def find_codec() -> Codec:
    """The best way to encode here.

    Raises:
        RuntimeError: there is none.
    """
    for program in _programs():
        for encoder in H264:
            if encoder in _encoders(program):
                return Codec(f"H.264 by ffmpeg's {encoder}", ".mp4",
                             partial(Ffmpeg, program, encoder))
    for name, suffix, letters, remark in (
        ("H.264", ".mp4", "avc1", ""),
        ("VP8", ".webm", "VP80", ADVICE.format("VP8 in WebM, which browsers play too")),
        ("MPEG-4", ".mp4", "mp4v", ADVICE.format("MPEG-4, which browsers do not play")),
    ):
        if _works(letters, suffix):
            return Codec(name, suffix, partial(OpenCv, letters), remark)
    raise RuntimeError("no video encoder at hand: pip install imageio-ffmpeg")


def _programs() -> Iterator[str]:
    if program := shutil.which("ffmpeg"):
        yield program
    with suppress(ImportError, RuntimeError):  # not installed, or without its program
        yield importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe()


def _encoders(program: str) -> list[str]:
    try:
        listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True,
                                stdin=subprocess.DEVNULL, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return listed.stdout.split()


def _works(letters: str, suffix: str) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"probe{suffix}"
        try:
            encoder = OpenCv(letters, path, (64, 64), 25)
        except OSError:
            return False
        for _ in range(3):
            encoder.write(np.zeros((64, 64, 3), np.uint8))
        encoder.close()
        return path.is_file() and path.stat().st_size > 0


class VideoFile:
    """A video that is there when it is complete, in a `with` block that ends well.

    Args:
        path: of the file, without a suffix.
        codec: from `find_codec`.
        fps: frames per second.
    """

    def __init__(self, path: Path, codec: Codec, fps: float) -> None:
        self.path = path.with_name(path.name + codec.suffix)
        self.part = path.with_name(f".{secrets.token_hex(8)}.part{codec.suffix}")
        self.codec, self.fps, self.frames = codec, fps, 0
        self.size = (0, 0)
        self.encoder: Encoder | None = None
        self.last = np.empty(0)

    @property
    def padded(self) -> bool:
        """Whether a row or a column was added."""
        return any(side % 2 for side in self.size)

    def write(self, frame: np.ndarray, seconds: float | None = None) -> None:
        """Adds a frame; odd sides get one more line of pixels, since H.264 has even ones.

        Args:
            frame: (H, W, 3) uint8 RGB.
            seconds: when it is to be seen, 0 for the first; the one before is repeated until then,
                and a frame that comes too early is left out. None is next.

        Raises:
            ValueError: another size than that of the first frame.
            OSError: it cannot be written.
        """
        height, width = frame.shape[:2]
        if self.encoder is None:
            self.size = (height, width)
            self.part.parent.mkdir(parents=True, exist_ok=True)
            even = (height + height % 2, width + width % 2)
            self.encoder = self.codec.open(self.part, even, self.fps)
        if (height, width) != self.size:
            raise ValueError(f"frame {self.frames}: {width}x{height} among frames of "
                             f"{self.size[1]}x{self.size[0]}; the frames of a video have one size")
        if self.padded:
            frame = cv2.copyMakeBorder(frame, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        place = self.frames if seconds is None else round(seconds * self.fps)
        for each in [self.last] * (place - self.frames) + [frame] * (place >= self.frames):
            self.encoder.write(each)
            self.frames += 1
        self.last = frame

    def __enter__(self) -> "VideoFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if self.encoder:
                with suppress(*([OSError] if kind else [])):
                    self.encoder.close()
            if self.frames and not kind:
                os.replace(self.part, self.path)
        finally:
            self.part.unlink(missing_ok=True)
