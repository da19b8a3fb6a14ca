"""Videos as phones, recorders, sites and cameras make them: each looks as players show it."""

import http.server
import os
import re
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import test_video
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from test_video import read_all, refused

from utils.video import reader

snapshot, frames, clip, demo = (  # fixtures
    test_video.snapshot, test_video.frames, test_video.clip, test_video.demo)

TICKS = 10_000  # a second, of given times
CORNERS = np.array([[[230, 40, 40], [40, 200, 40]], [[40, 40, 230], [200, 200, 40]]], np.uint8)
PICTURE = CORNERS.repeat(32, 0).repeat(48, 1)  # (64, 96, 3)


def encode(
    path: Path, frames: list[np.ndarray], codec: str = "libx264", times: list[float] | None = None,
    rotation: int = 0, aspect: Fraction | int = 1, colors: tuple[int, int] | None = None,
) -> Path:
    """A video of RGB frames, at 25 a second unless `times` says when they are shown."""
    written = colors or (Colorspace.ITU601, ColorRange.MPEG)
    reformatter, ticks = VideoReformatter(), Fraction(TICKS if times else 25)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, 25, width=frames[0].shape[1],
                                      height=frames[0].shape[0], time_base=1 / ticks)
        stream.codec_context.sample_aspect_ratio = aspect
        if rotation:
            stream.set_display_rotation(rotation)
        if colors:
            stream.codec_context.colorspace, stream.codec_context.color_range = colors
        for i, frame in enumerate(frames):
            picture = reformatter.reformat(
                av.VideoFrame.from_ndarray(frame), format="yuv420p",
                dst_colorspace=written[0], dst_color_range=written[1])
            picture.time_base = 1 / ticks
            picture.pts = round(ticks * times[i]) if times else i
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path


def corners(picture: np.ndarray) -> np.ndarray:
    """(2, 2, 3): the middles of its quarters."""
    height, width = picture.shape[:2]
    return picture[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)


@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
def test_turned_by_its_metadata(degrees: int, tmp_path: Path) -> None:
    found = read_all(encode(tmp_path / "x.mp4", [PICTURE] * 3, rotation=degrees))[1][1]
    assert found.shape == ((64, 96, 3) if degrees in (0, 180) else (96, 64, 3))
    assert np.abs(corners(found) - np.rot90(CORNERS, degrees // 90)).max() < 12


@pytest.mark.parametrize("matrix", [(-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)])
def test_mirrored_by_its_metadata(matrix: tuple[int, ...], tmp_path: Path) -> None:
    """The matrix of a track, ISO/IEC 14496-12: a point (x, y) is seen at (ax + cy, bx + dy)."""
    path = encode(tmp_path / "x.mp4", [PICTURE] * 3)
    a, b, c, d = matrix
    data, unit = path.read_bytes(), 1 << 16
    place = data.index(b"tkhd") + 44
    own = struct.pack(">9i", a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:place] + own + data[place + 36 :])
    expected = CORNERS.swapaxes(0, 1) if b else CORNERS
    expected = expected[:: -1 if b + d < 0 else 1, :: -1 if a + c < 0 else 1]
    found = read_all(path)[1][1]
    assert np.abs(corners(found) - expected).max() < 12


@pytest.mark.parametrize(("aspect", "width"), [
    (Fraction(4, 3), 128), (Fraction(8, 9), 85), (1, 96), (Fraction(1, 200), 96)])
def test_pixels_are_made_square(aspect: Fraction, width: int, tmp_path: Path) -> None:
    """As those of DVDs and some cameras are not; what no pixel has is of a damaged header."""
    found = read_all(encode(tmp_path / "x.mkv", [PICTURE] * 3, aspect=aspect))[1][1]
    assert found.shape == (64, width, 3)
    assert np.abs(corners(found) - CORNERS).max() < 12


def test_turned_and_not_square(demo: Callable, tmp_path: Path) -> None:
    path = encode(tmp_path / "x.mp4", [PICTURE] * 3, rotation=90, aspect=2)
    assert demo("--video", path, "--opacity", 0).returncode == 0
    found = read_all(tmp_path / "out/x_overlay.mp4")[1][1]
    assert found.shape == (192, 64, 3)
    assert np.abs(corners(found) - np.rot90(CORNERS)).max() < 16


@pytest.mark.parametrize("matrix", [Colorspace.ITU601, Colorspace.ITU709, Colorspace.BT2020])
@pytest.mark.parametrize("levels", [ColorRange.MPEG, ColorRange.JPEG])
def test_colors_are_those_that_were_recorded(
    matrix: Colorspace, levels: ColorRange, tmp_path: Path
) -> None:
    found = read_all(encode(tmp_path / "x.mp4", [PICTURE] * 3, colors=(matrix, levels)))[1][1]
    assert np.abs(corners(found) - CORNERS).max() < 8


def test_color_spaces_that_nobody_converts(tmp_path: Path) -> None:
    found = read_all(encode(tmp_path / "x.mp4", [PICTURE] * 3, colors=(3, ColorRange.MPEG)))[1][1]
    assert np.abs(corners(found) - CORNERS).max() < 8, "as of a video that says nothing"


@pytest.mark.parametrize(("codec", "suffix"), [
    ("libsvtav1", "mp4"), ("libvpx", "webm"), ("libvpx-vp9", "webm"), ("libx265", "mkv"),
    ("mpeg4", "avi"), ("libx264", "ts"), ("libx264", "flv")])
def test_other_codecs_and_containers(codec: str, suffix: str, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot write {codec}")
    path = encode(tmp_path / f"x.{suffix}", [PICTURE] * 5, codec)
    if hasattr(os, "sched_setscheduler"):  # run by root, SVT-AV1 makes its caller a real-time one
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    fps, found = read_all(path)
    assert (fps, found.shape) == (25, (5, 64, 96, 3))
    assert np.abs(corners(found[2]) - CORNERS).max() < 24


@pytest.mark.parametrize("name", [
    "v\udcff.mp4", "rtsp:x.mp4", "a%03d?b#c|d.mp4", "-i.mp4", "ö ü.mp4"])
def test_names_of_any_kind(
    name: str, demo: Callable, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(clip.read_bytes())
    folder = f"to:{name[0]}\udcfe"
    done = demo(f"--video={name}", "--save-dir", folder)
    assert done.returncode == 0, done.stderr
    written = tmp_path / folder / f"{name[:-4]}_overlay.mp4"
    assert read_all(written)[1].shape[0] == 12
    assert len(list(written.parent.iterdir())) == 1


def test_titles_that_are_not_utf8(clip: Path) -> None:
    data = clip.read_bytes()
    assert b"Lavf" in data, "the name of what wrote it"
    clip.write_bytes(data.replace(b"Lavf", b"L\xff\xfef"))
    assert len(read_all(clip)[1]) == 12


def test_damage_in_the_middle(demo: Callable, tmp_path: Path) -> None:
    """What is well is written; a line says that something was not."""
    noise = list(np.random.default_rng(0).integers(0, 256, (30, 64, 96, 3), np.uint8))
    path = encode(tmp_path / "x.mp4", noise)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    done = demo("--video", path)
    assert done.returncode == 1
    assert re.search(r"^damaged: \d+ frames or parts could not", done.stdout, re.MULTILINE)
    assert not done.stderr
    assert len(read_all(tmp_path / "out/x_overlay.mp4")[1]) > 10


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Gives the files of the test."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path)
    handler.log_message = lambda *_: None  # type: ignore[attr-defined]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_address_of_a_video(server: str, demo: Callable, clip: Path, tmp_path: Path) -> None:
    found = reader.open_address(f"{server}/clips/clip.mp4?at=/x")
    assert (found.name, found.live, found.count, len(list(found.items))) == ("clip", False, 12, 12)
    assert reader.open_address(f"{server}//clips/clip.mp4").name == "clip"
    assert demo("--video", f"{server}/clips/clip.mp4").returncode == 0
    assert len(read_all(tmp_path / "out/clip_overlay.mp4")[1]) == 12


@pytest.mark.parametrize("address", [
    "rtsp://127.0.0.1:9/stream", "http://user:word@127.0.0.1:9//a//b.mp4", "nothing://a/b"])
def test_address_where_nothing_is(address: str, demo: Callable) -> None:
    message = refused(demo("--video", address))
    assert f"error: {address}: not a video that can be read (" in message


def test_camera_of_each_system(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = [SimpleNamespace(name=name, media_types=[kind]) for name, kind in (
        ("front", "video"), ("microphone", "audio"), ("rear", "video"))]
    monkeypatch.setattr("av.device.enumerate_input_devices", lambda _: listed)
    for system, expected in (("linux", ("/dev/video1", "v4l2")), ("darwin", ("1", "avfoundation")),
                             ("win32", ("video=rear", "dshow"))):
        monkeypatch.setattr("sys.platform", system)
        assert reader.find_camera(1)[:2] == expected
    with pytest.raises(ValueError, match="--video 2: no camera of this number"):
        reader.open_camera(2)
