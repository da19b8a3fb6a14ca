"""What a folder of images may hold beside PNGs, and images above the limit of pixels."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import test_demo_folder
from PIL import Image, JpegImagePlugin

import demo_folder
from utils import images
from utils.images import read_image, write_png

snapshot, photos = test_demo_folder.snapshot, test_demo_folder.photos  # fixtures
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@pytest.fixture(autouse=True)
def limit() -> Iterator[None]:
    yield
    images.allow_pixels(images.MAX_PIXELS)


@pytest.fixture
def demo(call: Callable, snapshot: Path, tmp_path: Path) -> Callable:
    def run(*words: object) -> SimpleNamespace:
        script = "demo.py" if "--demo-image" in words else "demo_folder.py"
        return call(script, "--snapshot", snapshot, "--save-dir", tmp_path / "out", *words)

    return run


def test_every_file_of_a_folder_is_segmented_or_named(
    demo: Callable, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (photos / "IMG_1.HEIC").write_bytes(HEIC)
    Image.new("L", (40, 40)).save(photos / "a.gif")
    (photos / "notes.txt").write_text("notes")
    (photos / ".hidden").write_text("")
    (photos / "more").mkdir()
    done = demo("--demo-folder", photos)
    assert done.returncode == 1
    assert "4 of 7 files segmented" in done.stdout
    assert "are not looked into: more\n" in done.stdout
    lines = sorted(line for line in done.stderr.splitlines() if "passed over" in line)
    assert [line.partition(": ")[2].partition(": ")[2] for line in lines] == [
        "HEIC, which pillow-heif reads: pip install pillow-heif, or convert it to JPEG",
        *["not an image of a known kind, expected PNG, JPEG, WEBP, BMP or TIFF"] * 2]
    assert [Path(line.split(": ")[1]).name for line in lines] == [
        "IMG_1.HEIC", "a.gif", "notes.txt"]


def test_only_images_share_the_name_of_a_picture(
    demo: Callable, tmp_path: Path
) -> None:
    """Unless what is named otherwise is an image too."""
    folder = tmp_path / "mixed"
    for name, kind in (("a.jpg", "jpeg"), ("b.jpg", "jpeg"), ("b.photo", "png")):
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (64, 48)).save(folder / name, kind)
    (folder / "a.txt").write_text("notes")
    assert "3 of 4 files" in demo("--demo-folder", folder, "--outputs", "overlay").stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "a_overlay.png", "b.photo_overlay.png", "b_overlay.png"]


def test_a_folder_as_video_is_looked_through_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(300):
        (tmp_path / f"{number}.{'png' if number % 2 else 'txt'}").touch()
    compared = []
    monkeypatch.setattr(demo_folder.reader, "open_frames", lambda *_, **__: SimpleNamespace())
    monkeypatch.setattr(type(tmp_path), "__eq__",
                        lambda a, b: compared.append(a) or str(a) == str(b))
    args = SimpleNamespace(timelapse=False, video=str(tmp_path), limit=None, bits=None)
    assert len(demo_folder.open_video(args).left_out) == 150
    assert len(compared) < 300


def test_pictures_that_are_replaced_are_counted(demo: Callable, photos: Path) -> None:
    assert "replaced" not in demo("--demo-folder", photos, "--limit", 2).stdout
    assert "out\n4 files of the same name replaced\n" in demo(
        "--demo-folder", photos, "--outputs", "id_mask", "overlay").stdout
    image = ["--demo-image", photos / "2.png"]
    said = demo(*image, "--outputs", "id_mask").stdout
    assert said.endswith("2_id_mask.png\n1 file of the same name replaced\n")
    (photos / "2.png").rename(photos / "new.png")
    image = ["--demo-image", photos / "new.png"]
    assert "replaced" not in demo(*image).stdout
    assert demo(*image).stdout.endswith("\n3 files of the same name replaced\n")


def test_a_video_that_is_replaced_is_said(demo: Callable, photos: Path) -> None:
    said = [demo("--video", photos, *words).stdout for words in (
        ["--limit", 1], ["--limit", 1], ["--limit", 1, "--show", "side-by-side"])]
    assert [".mp4\n1 file of the same name replaced\n" in text for text in said] == [
        False, True, False]


def test_files_beside_the_frames_of_a_video(demo: Callable, photos: Path) -> None:
    for odd in (1, 3):
        (photos / f"{odd}.png").unlink()
    assert demo("--video", photos).returncode == 0
    (photos / "2.gif").write_bytes(b"GIF89a")
    done = demo("--video", photos)
    assert (done.returncode, done.stderr) == (1, f"passed over: {photos / '2.gif'}: not an image\n")
    assert demo("--video", photos, "--limit", 1).returncode == 0


def test_heic_where_its_package_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG behind its head: what decodes it is the package's."""
    def decode(file: object) -> Image.Image:
        image = JpegImagePlugin.JpegImageFile(tmp_path / "a.jpg")
        image.format = "HEIF"
        return image

    Image.new("RGB", (64, 48), (200, 30, 40)).save(tmp_path / "a.jpg")
    (tmp_path / "a.heic").write_bytes(HEIC)
    package = SimpleNamespace(HeifImageFile=decode)
    monkeypatch.setitem(sys.modules, "pillow_heif", package)
    found = read_image(tmp_path / "a.heic")
    assert found.shape == (48, 64, 3)
    assert np.abs(found.astype(int) - (200, 30, 40)).max() < 4
    assert images.read_size(tmp_path / "a.heic") == (48, 64)


def test_images_above_the_limit(demo: Callable, tmp_path: Path) -> None:
    write_png(tmp_path / "wide.png", np.zeros((64, 100, 3), np.uint8))
    words = ("--demo-image", tmp_path / "wide.png", "--outputs", "id_mask", "--max-pixels")
    done = demo(*words, 6399)
    assert (done.returncode, done.stderr) == (2, (
        f"error: {tmp_path / 'wide.png'}: 100x64, over 6,399 pixels; resize it, or demo.py and "
        "demo_folder.py take it by --max-pixels\n"))
    assert demo(*words, 6400).returncode == 0


def test_videos_above_the_limit(demo: Callable, tmp_path: Path) -> None:
    source = "color=red:size=64x48:rate=25,trim=end_frame=5"
    code = f"""import av
with av.open({source!r}, format='lavfi') as found, av.open({str(tmp_path / 'v.mp4')!r}, 'w') as out:
    stream = out.add_stream('libx264', 25, width=64, height=48)
    for frame in found.decode(video=0):
        out.mux(stream.encode(frame.reformat(format='yuv420p')))
    out.mux(stream.encode())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    done = demo("--video", tmp_path / "v.mp4", "--max-pixels", 3000)
    assert done.returncode == 2
    assert "v.mp4: 64x48, over 3,000 pixels; resize it" in done.stderr
    assert demo("--video", tmp_path / "v.mp4", "--max-pixels", 3072).returncode == 0
