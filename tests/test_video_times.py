"""Rates and times of videos: what a header says, and what can be read."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import test_video
from test_video import Camera, read_all

from utils import video
from utils.video_file import Codec, VideoFile

snapshot, frames, clip, demo = (  # fixtures
    test_video.snapshot, test_video.frames, test_video.clip, test_video.demo)


def test_file_that_ends_before_it_said(demo: Callable, clip: Path, tmp_path: Path) -> None:
    """What could be read is written; the exit code tells of the rest, unless it was not wanted."""
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 9 // 10])
    for words in ([], ["--limit", 100]):
        done = demo("--video", clip, *words)
        assert done.returncode == 1
        assert re.search(r"^its header tells of 1\.0 s, 0\.\d s could be decoded: damaged or cut "
                         "off$", done.stdout, re.MULTILINE), done.stdout + done.stderr
        assert not done.stderr
        assert 2 < len(read_all(tmp_path / "out/clip_overlay.webm")[1]) < 12
    done = demo("--video", clip, "--limit", 2)
    assert (done.returncode, "cut off" in done.stdout) == (0, False)


def test_variable_rate_is_said(
    demo: Callable, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a file with a pause in its middle."""
    original = cv2.VideoCapture

    def open_halting(*words: object) -> SimpleNamespace:
        capture = original(*words)

        def get(key: int) -> float:
            value = capture.get(key)
            return value + 300 * (key == cv2.CAP_PROP_POS_MSEC and value > 450)

        return SimpleNamespace(get=get, read=capture.read, isOpened=capture.isOpened,
                               release=capture.release)

    assert "variable frame rate" not in demo("--video", clip).stdout
    monkeypatch.setattr(cv2, "VideoCapture", open_halting)
    done = demo("--video", clip)
    assert done.returncode == 0, done.stderr
    assert "\nvariable frame rate, 80 to 380 ms between frames: written at" in done.stdout


@pytest.mark.parametrize(("said", "taken"), [(60, 60), (1000, 1000), (5000, 25)])
def test_rate_that_no_video_has(said: int, taken: int, vp8: Codec, tmp_path: Path) -> None:
    """It is that of a clock; nor can a number of frames be made of it."""
    with VideoFile(tmp_path / "x", vp8, said) as file:
        for i in range(12):
            file.write(np.full((48, 64, 3), 20 * i, np.uint8))
    assert cv2.VideoCapture(str(tmp_path / "x.webm")).get(cv2.CAP_PROP_FPS) == said
    found = video.open_file(tmp_path / "x.webm")
    assert found.fps == taken
    assert len(list(found.items)) == 12
    assert (found.uneven(), found.cut_short()) == ("", "")


@pytest.mark.parametrize(("said", "taken"), [
    (30, 30), (1000, 1000), (90000, 25), (0, 25), (-1, 25), (math.nan, 25)])
def test_rate_that_no_camera_has(
    said: float, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "get", lambda self, key: float(said))
    assert video.open_camera(0).fps == taken
