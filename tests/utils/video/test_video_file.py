"""Frames to a video that others can show, to a file that is whole."""

import errno
import os
import resource
from pathlib import Path

import av
import numpy as np
import pytest
from test_demo_folder import DATASET
from test_video import SIZE, contents, read_all

from utils import stopping
from utils.files import write_file
from utils.video.writer import VideoFile

NOISE = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3), np.uint8)


def write(path: Path, frames: np.ndarray | list[np.ndarray], fps: float = 25) -> Path:
    with VideoFile(path, fps) as file:
        for frame in frames:
            file.write(frame)
    return file.path


def test_nothing_is_left_of_a_video_that_fails(tmp_path: Path) -> None:
    with pytest.raises(AttributeError):
        write(tmp_path / "x", [np.zeros((48, 64, 3), np.uint8), None])
    assert not contents(tmp_path)
    write(tmp_path / "x", [])
    assert not contents(tmp_path), "no frames, no file"


def test_a_stream_that_changes_its_size_is_written_to_its_end(tmp_path: Path) -> None:
    frames = [np.full((height, 64, 3), 99, np.uint8) for height in (48, 96, 96, 48)]
    with pytest.warns(UserWarning, match="x.mp4: frames of 64x96 become as large as the first"):
        path = write(tmp_path / "x", frames)
    with av.open(str(path)) as container:
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in read] == [(48, 64, 3)] * 4
    assert all(abs(frame.astype(int) - 99).max() < 4 for frame in read)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99], ids=["begin", "middle", "end"])
def test_full_disk_says_so(share: float, tmp_path: Path) -> None:
    """By a limit on files, at whatever byte; nothing is left, and the old video stays."""
    path = write(tmp_path / "out/x", NOISE)
    whole = path.read_bytes()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * len(whole)), before[1]))
    try:
        with pytest.raises(OSError, match=r"x\.mp4: not written \(File too large\)") as caught:
            write(tmp_path / "out/x", NOISE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno in stopping.DISK_FAULTS
    assert contents(tmp_path / "out") == ["x.mp4"]
    assert path.read_bytes() == whole


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/x\.mp4: not written \("):
        write(tmp_path / "file/x", NOISE)


def test_full_disk_is_no_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="not written .No space left.*; it needs 1 MB") as caught:
        write_file(tmp_path / "x.png", b"abc")
    assert caught.value.errno in stopping.DISK_FAULTS


def test_no_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(av, "codecs_available", {"h264", "mpeg4"})
    with pytest.raises(RuntimeError, match="without libx264"):
        VideoFile(tmp_path / "x", 25)


def test_h264_in_a_browsers_dialect(tmp_path: Path) -> None:
    """The index comes first, so that it starts to play while it loads; colors stay."""
    palette = np.array(DATASET["palette"], np.uint8)
    still = np.repeat(np.repeat(palette[None], 32, 0), 32, 1)  # a stripe per class
    path = write(tmp_path / "x", [still] * 5)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert b"colrnclx\0\1\0\1\0\1" in data, "BT.709"
    with av.open(path) as container:
        (stream,) = container.streams
        first = next(container.decode(stream))
        assert (stream.codec_context.name, first.format.name) == ("h264", "yuv420p")
        assert (first.colorspace, first.color_range) == (1, 1), "BT.709 and limited in the stream"
    middle = read_all(path)[1][2, 16, 16::32].astype(int)
    assert np.abs(middle - palette).max() < 12


@pytest.mark.parametrize(("fps", "written"), [
    (25, (25, 1)), (30000 / 1001, (30000, 1001)), (12.5, (25, 2)), (0.1, (1, 10)), (17, (17, 1))])
def test_rates_and_lengths_are_exact(fps: float, written: tuple, tmp_path: Path) -> None:
    with av.open(write(tmp_path / "x", NOISE, fps)) as container:
        (stream,) = container.streams
        assert (stream.frames, stream.guessed_rate.as_integer_ratio()) == (12, written)
        assert float(stream.duration * stream.time_base) == pytest.approx(12 / fps)


def test_views_of_arrays(tmp_path: Path) -> None:
    """Their strides may be negative."""
    ramp = np.arange(0, 256, 2, np.uint8).repeat(3).reshape(1, 128, 3).repeat(48, 0)
    _, found = read_all(write(tmp_path / "x", [ramp[:, ::-1], ramp[:, ::-1]]))
    assert np.abs(found.astype(int) - ramp[:, ::-1]).max() < 12
