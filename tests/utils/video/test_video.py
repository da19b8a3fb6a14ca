"""Videos: frames from files, folders and cameras, through the demo, to a file that is whole."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, blobs, draw_cityscapes, paint
from PIL import Image
from test_demo_folder import DATASET, WAIT, random_snapshot

import demo_folder
from utils.images import read_image, write_png
from utils.pictures import Painter
from utils.video import reader
from utils.video.writer import VideoFile

SIZE = (48, 64)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_snapshot(tmp_path_factory.mktemp("snapshot") / "best.pth")


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    """Twelve drawings, each a little brighter than the one before."""
    rng = np.random.default_rng(0)
    still = paint(rng, blobs(rng, SIZE, list(range(6)))) // 4
    return [still + np.uint8(15 * i) for i in range(12)]


@pytest.fixture
def clip(tmp_path: Path, frames: list[np.ndarray]) -> Path:
    """A video of them."""
    with VideoFile(tmp_path / "clips/clip", 12.5) as file:
        for frame in frames:
            file.write(frame)
    return tmp_path / "clips/clip.mp4"


@pytest.fixture
def demo(call: Callable, snapshot: Path, tmp_path: Path) -> Callable:
    """Runs the script; it writes to `out`."""
    return lambda *words: call("demo_folder.py", "--snapshot", snapshot, "--threads", 1,
                               "--precision", "fp32", "--save-dir", tmp_path / "out", *words)


def read_all(path: Path) -> tuple[float, np.ndarray]:
    """Frames per second, and all (N, H, W, 3) uint8 RGB."""
    found = reader.open_file(path)
    return found.fps, np.stack([found.read(item) for item in found.items])


def contents(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def refused(done: object) -> str:
    """The message, if it is one line and exit code 2."""
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    return done.stderr


def test_file_is_read_as_it_was_written(clip: Path, frames: list[np.ndarray]) -> None:
    fps, found = read_all(clip)
    assert fps == 12.5
    assert found.shape == (12, *SIZE, 3)
    assert np.abs(found.astype(int) - np.stack(frames)).mean() < 8  # lossy
    assert (np.diff(found.mean(axis=(1, 2, 3))) > 5).all(), "in order"
    assert contents(clip.parent) == ["clip.mp4"]


def test_video_of_a_video(demo: Callable, clip: Path, frames: list, tmp_path: Path) -> None:
    """Without opacity an overlay is the image itself: each frame is where it was."""
    done = demo("--video", clip, "--opacity", 0)
    assert done.returncode == 0, done.stderr
    found = read_all(tmp_path / "out/clip_overlay.mp4")[1]
    assert np.abs(found.astype(int) - np.stack(frames)).mean() < 12
    assert "12 frames, 1.0 s at 12.5 frames/s, H.264" in done.stdout
    assert len(re.findall(r"[\d.]+ frames/s: ", done.stdout)) == 2
    assert contents(tmp_path / "out") == ["clip_overlay.mp4"]


def test_shows_and_percentages(demo: Callable, clip: Path, tmp_path: Path) -> None:
    assert demo("--video", clip, "--show", "mask", "--limit", 5, "--fps", 5).returncode == 0
    fps, mask = read_all(tmp_path / "out/clip_mask.mp4")
    assert (fps, mask.shape) == (5, (5, *SIZE, 3))
    done = demo("--video", clip, "--show", "side-by-side", "--percentages", "--limit", 3)
    assert done.returncode == 0, done.stderr
    both = read_all(tmp_path / "out/clip_side-by-side.mp4")[1]
    assert both.shape[2] > 2 * SIZE[1]
    offset = SIZE[1] + 4
    assert np.abs(both[:, :, offset : offset + SIZE[1]].astype(int) - mask[:3]).mean() < 20


def test_legend_keeps_its_width() -> None:
    """Whatever classes occur; pictures of a video have one size."""
    painter = Painter(DATASET, percentages=True)
    image = np.zeros((300, 40, 3), np.uint8)
    road, mixed = np.zeros((300, 40), np.uint8), np.tile(np.arange(40, dtype=np.uint8), (300, 1))
    pictures = [painter.frame("overlay", image, ids) for ids in (road, mixed)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[0][:, 44:] != pictures[1][:, 44:]).any(), "other shares, other numbers"


def test_folder_of_frames(demo: Callable, frames: list, tmp_path: Path) -> None:
    """9 comes before 10; a frame that is damaged is left out, with a line."""
    folder = tmp_path / "frames"
    for i, frame in enumerate(frames):
        write_png(folder / f"frame{i}.png", frame)
    damaged = folder / "frame3.png"
    damaged.write_bytes(damaged.read_bytes()[:-40])
    done = demo("--video", folder, "--opacity", 0)
    assert done.returncode == 1
    assert f"passed over: {damaged}" in done.stderr
    fps, found = read_all(tmp_path / "out/frames_overlay.mp4")
    assert fps == 25
    assert len(found) == 11
    assert (np.diff(found.mean(axis=(1, 2, 3))) > 5).all()
    write_png(folder / "frame11.png", np.zeros((48, 66, 3), np.uint8))
    message = refused(demo("--video", folder))
    assert f"{folder / 'frame11.png'}: 66x48 among frames of 64x48" in message


def test_frames_are_turned_as_their_exif_says(demo: Callable, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "phone").mkdir()
    for i in range(2):
        Image.new("RGB", (64, 48), (90, 90, 90)).save(tmp_path / f"phone/{i}.jpg", exif=exif)
    demo("--video", tmp_path / "phone")
    assert read_all(tmp_path / "out/phone_overlay.mp4")[1].shape == (2, 64, 48, 3)


def test_odd_sides_get_one_more_line(demo: Callable, tmp_path: Path) -> None:
    for i in range(2):
        write_png(tmp_path / f"odd/{i}.png", np.full((47, 65, 3), 90, np.uint8))
    done = demo("--video", tmp_path / "odd", "--opacity", 0)
    assert "odd sides" in done.stdout
    found = read_all(tmp_path / "out/odd_overlay.mp4")[1]
    assert found.shape == (2, 48, 66, 3)
    assert np.abs(found.astype(int) - 90).max() < 12, "the added line repeats its neighbor"


def test_file_frames_keep_their_time(demo: Callable, clip: Path, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    """Containers that do not count frames give a rate that was made up; the times are right."""
    original = reader.open_file

    def open_guessed(path: Path) -> reader.Video:
        found = original(path)
        found.fps, found.count = 25.0, 24  # of 12 frames at 12.5
        return found

    monkeypatch.setattr(demo_folder.reader, "open_file", open_guessed)
    done = demo("--video", clip)
    assert done.returncode == 0, done.stderr
    assert "23 frames, 0.9 s at 25 frames/s" in done.stdout
    assert "12 frames, 2.4 s at 5 frames/s" in demo("--video", clip, "--fps", 5).stdout


def test_city_as_time_lapse(demo: Callable, tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path / "city", train=4, val=2, size=SIZE)
    base = ["--timelapse", "--data-root", root]
    done = demo(*base, "--city", "aachen", "--limit", 3, "--fps", 8)
    assert "3 frames, 0.4 s at 8 frames/s" in done.stdout, done.stderr
    assert read_all(tmp_path / "out/aachen_overlay.mp4")[1].shape == (3, *SIZE, 3)
    assert "2 frames, 0.2 s at 10 frames/s" in demo(*base).stdout
    assert contents(tmp_path / "out") == ["aachen_overlay.mp4", "cityscapes_val_overlay.mp4"]
    message = refused(demo(*base, "--city", "paris"))
    assert "paris: no such city" in message
    assert "aachen, bonn, ulm" in message
    assert "no images of cityscapes (demoVideo)" in refused(demo(*base, "--split", "demoVideo"))


def test_cityscapes_demo_video_by_name(demo: Callable, tmp_path: Path) -> None:
    root = tmp_path / "city"
    for i in range(3):
        write_png(root / "leftImg8bit/demoVideo/stuttgart_00" /
                  f"stuttgart_00_000000_{i:06d}_leftImg8bit.png", np.zeros((*SIZE, 3), np.uint8))
    for name in ("stuttgart_00", "leftImg8bit/demoVideo/stuttgart_00"):
        done = demo("--video", name, "--data-root", root)
        assert "3 frames, 0.2 s at 17 frames/s" in done.stdout, done.stderr
    for name, place, found in (
        ("stuttgart_09", root, f"no such city or sequence in {root}; there are stuttgart_00"),
        ("stuttgart_00", root / "wrong", f"{root / 'wrong'}: no such folder; give --data-root DIR"),
        ("stuttgart_00", root / "leftImg8bit", f"{root / 'leftImg8bit'}: no images of cityscapes "
         "(demoVideo) in it; give --data-root DIR"),
    ):
        message = refused(demo("--video", name, "--data-root", place))
        assert f"{name}: no such file or folder, and as a sequence of Cityscapes: " in message
        assert found in message


@pytest.mark.parametrize(("words", "message"), [
    ([], "give one of them"),
    (["--video", "x.mp4", "--timelapse"], "give one of them"),
    (["--video", "x.mp4"], "x.mp4: no such file or folder"),
    (["--video", "{text}"], "not a video"), (["--video", "{empty}"], "not a video"),
    (["--video", "{pipe}"], "not a file, but a pipe"), (["--video", "{head}"], "video"),
    (["--video", "98"], "no camera of this number"), (["--video", "{folder}"], "no images in it"),
    (["--video", "{clip}", "--fps", "0"], "above 0"),
    (["--video", "{clip}", "--outputs", "overlay"], "chosen by --show"),
    (["--video", "{clip}", "--city", "ulm"], "without --timelapse"),
    (["--video", "{clip}", "--save-dir", "{text}/out"], "text"),
    (["--demo-folder", "{folder}", "--fps", "3"], "becomes one by --video"),
    (["--demo-folder", "{folder}", "--data-root", "x"], "is the folder itself"),
    (["--timelapse", "--data-root", "nowhere"], "no such folder"),
])
def test_refusals(words: list, message: str, demo: Callable, clip: Path, tmp_path: Path,
                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("text", "empty", "pipe", "head", "folder")}
    places["text"].write_text("no video " * 100)
    places["empty"].touch()
    places["head"].write_bytes(clip.read_bytes()[:300])
    os.mkfifo(places["pipe"])
    places["folder"].mkdir()
    assert message in refused(demo(*(word.format(clip=clip, **places) for word in words)))
    assert not contents(tmp_path / "out")


def test_interrupted_video_is_complete(snapshot: Path, frames: list, tmp_path: Path) -> None:
    write_png(tmp_path / "in/0.png", frames[0])
    for i in range(1, 500):
        os.link(tmp_path / "in/0.png", tmp_path / f"in/{i}.png")
    process = subprocess.Popen(
        [sys.executable, ROOT / "demo_folder.py", "--video", tmp_path / "in", "--snapshot",
         snapshot, "--save-dir", tmp_path / "out", "--threads", "1",
         "--precision", "fp32"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until = time.monotonic() + 2 * WAIT
    while not contents(tmp_path / "out") and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the whole group
    said, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 130, errors
    assert "stopped; what is written is complete" in errors
    (path,) = (tmp_path / "out").iterdir()
    count = int(re.search(r"^(\d+) frames", said, re.MULTILINE)[1])
    assert 0 < count < 500
    assert len(read_all(path)[1]) == count


def test_remarks() -> None:
    def of(*times: float, count: int = 0) -> reader.Video:
        return reader.Video("x", 25, (), read_image, count, times=list(times))

    assert of(0, 0.04, 0.08, 0.12).uneven() == of(0).uneven() == of().uneven() == ""
    assert of(0, 0.033, 0.067, 0.1, 0.133).uneven() == "", "rounded to milliseconds"
    assert of(0, 0.04, 0.086, 0.12).uneven() == "", "a little early or late"
    assert "20 to 80 ms" in of(0, 0.02, 0.1, 0.12).uneven()
    def first(number: int) -> list[float]:
        return [i / 25 for i in range(number)]

    assert of(*first(99), count=100).cut_short() == of(*first(12), count=12).cut_short() == ""
    assert of(*range(5), count=125).cut_short() == "", "a count that was made up"
    assert "4.0 s, 0.0 s could be decoded" in of(0, count=100).cut_short()
    assert of(0, count=1).cut_short() == of(count=100).cut_short() == ""
    assert "4.0 s, 2.4 s could be decoded" in of(*first(60), count=100).cut_short()
