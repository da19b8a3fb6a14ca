"""Rates and times of videos: what a header says, and what can be read."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import test_video
from test_video import read_all
from test_video_file import NOISE
from test_video_kinds import encode

from utils.video import reader
from utils.video.writer import VideoFile

snapshot, frames, clip, demo = (  # fixtures
    test_video.snapshot, test_video.frames, test_video.clip, test_video.demo)


def test_file_that_ends_before_it_said(demo: Callable, clip: Path, tmp_path: Path) -> None:
    """What could be read is written; the exit code tells of the rest, unless it was not wanted."""
    with VideoFile(clip.with_suffix(""), 12.5) as file:
        for frame in NOISE:
            file.write(frame)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 9 // 10])
    for words in ([], ["--limit", 100]):
        done = demo("--video", clip, *words)
        assert done.returncode == 1
        assert re.search(r"^its header tells of 1\.0 s, 0\.\d s could be decoded: damaged or cut "
                         "off$", done.stdout, re.MULTILINE), done.stdout + done.stderr
        assert not done.stderr
        assert 2 < len(read_all(tmp_path / "out/clip_overlay.mp4")[1]) < 12
    done = demo("--video", clip, "--limit", 2)
    assert (done.returncode, "cut off" in done.stdout) == (0, False)


def test_variable_rate_is_said(demo: Callable, clip: Path, frames: list, tmp_path: Path) -> None:
    """Of a file with a pause in its middle."""
    assert "variable frame rate" not in demo("--video", clip).stdout
    times = [0.08 * i + 0.3 * (i > 5) for i in range(12)]
    done = demo("--video", encode(tmp_path / "halting.mp4", frames, times=times))
    assert done.returncode == 0, done.stderr
    assert "variable frame rate, 80 to 380 ms between frames: written at" in done.stdout


@pytest.mark.parametrize(("jump", "said"), [
    (5000, "5,000"), (100_000_000, "100,000,000"), (-50, "-50")])
def test_clock_that_was_set(
    jump: float, said: str, demo: Callable, frames: list, tmp_path: Path
) -> None:
    """The video goes on where it was, neither for hours in one frame nor without the later ones."""
    times = [max(0, -jump) + 0.04 * i + jump * (i > 5) for i in range(12)]
    path = tmp_path / "jumping.nut"
    if jump > 0:
        encode(path, frames, times=times)
    else:  # as of a recorder that puts pieces together
        path = path.with_suffix(".ts")
        pieces = [encode(tmp_path / f"{i}.ts", frames[i : i + 6], times=times[i : i + 6])
                  for i in (0, 6)]
        path.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    done = demo("--video", path, "--no-compile", "--opacity", 0, "--fps", 25)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert f"its clock jumps by {said} s: written without the gap" in done.stdout
    done = demo("--video", path, "--no-compile", "--opacity", 0)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    _, found = read_all(tmp_path / "out/jumping_overlay.mp4")
    assert len(found) < 60
    assert np.abs(found[-1].astype(int) - frames[-1]).mean() < 12


@pytest.mark.parametrize(("said", "taken"), [(60, 60), (1000, 1000), (5000, 25)])
def test_rate_that_no_video_has(said: int, taken: int, tmp_path: Path) -> None:
    """It is that of a clock; nor can a number of frames be made of it."""
    with VideoFile(tmp_path / "x", said) as file:
        for i in range(12):
            file.write(np.full((48, 64, 3), 20 * i, np.uint8))
    with av.open(file.path) as container:
        assert container.streams.video[0].guessed_rate == said
    found = reader.open_file(file.path)
    assert found.fps == taken
    assert len(list(found.items)) == 12
    assert (found.uneven(), found.cut_short()) == ("", "")


@pytest.mark.parametrize(("said", "taken"), [(30, 30), (1000, 1000), (90000, 25)])
def test_rate_that_no_camera_has(
    said: int, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FFmpeg's own source of pictures in its place: a device and no file."""
    device = f"color=red:size=64x48:rate={said},trim=end_frame=5", "lavfi", {}
    monkeypatch.setattr(reader, "find_camera", lambda _: device)
    found = reader.open_camera(3)
    assert (found.name, found.fps, found.count, found.live) == ("camera3", taken, None, True)
    seen = list(found.items)
    assert len(seen) == 5
    assert np.abs(seen[4].pixels.astype(int) - (255, 0, 0)).max() < 6


@pytest.mark.parametrize("said", [0, -1, None])
def test_no_rate_at_all(said: int | None, monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    picture = reader.Frame(np.zeros((48, 64, 3), np.uint8), 0.0)
    context = SimpleNamespace(width=64, height=48)
    stream = SimpleNamespace(guessed_rate=said, codec_context=context, duration=12, time_base=1)
    container = SimpleNamespace(duration=12e6, streams=SimpleNamespace(best=lambda _: stream))
    monkeypatch.setattr(av, "open", lambda *_, **__: container)
    monkeypatch.setattr(reader, "_frames", lambda *_: iter([picture]))
    found = reader.open_file(clip)
    assert (found.fps, found.count, list(found.items)) == (25, None, [picture])


def test_camera_keeps_time(
    demo: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame stays until the next comes, or is left out if that is at the same tenth."""
    times = [100 + seconds for seconds in (0, 0.1, 0.12, 0.2, 0.7, 0.8)]
    gray = [np.full((48, 64, 3), 40 * i, np.uint8) for i in range(1, 7)]
    path = encode(tmp_path / "seen.nut", gray, times=times)
    monkeypatch.setattr(reader, "find_camera", lambda _: (str(path), "nut", {}))
    done = demo("--video", 0, "--opacity", 0, "--fps", 10)
    assert done.returncode == 0, done.stderr
    fps, found = read_all(tmp_path / "out/camera0_overlay.mp4")
    shown = np.round(found.mean(axis=(1, 2, 3)) / 40).astype(int).tolist()
    assert (fps, shown) == (10, [1, 2, 4, 4, 4, 4, 4, 5, 6])
