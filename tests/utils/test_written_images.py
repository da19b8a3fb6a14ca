"""Images that are written: whole or not at all."""

import errno
import os
import resource
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from test_images import DEEP, IDS, SMOOTH

from utils import images
from utils.images import read_label, write_png


@pytest.mark.parametrize(
    "array",
    [IDS, SMOOTH, DEEP[..., 0], IDS[:1, :1], IDS[:, ::-1], SMOOTH[::2, ::-1], DEEP[..., 1]],
    ids=lambda array: f"{array.dtype}-{array.shape}",
)
def test_written_png_is_read_by_others(tmp_path, array):
    path = tmp_path / "new" / "folder" / "a.png"
    write_png(path, array)
    with Image.open(path) as image:
        image.load()
        np.testing.assert_array_equal(np.asarray(image), array)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    "array",
    [
        IDS.astype(np.int64),
        IDS.astype(bool),
        SMOOTH.astype(np.float32),
        DEEP,
        DEEP[..., 0].astype(">u2"),
        IDS[0],
        IDS[:0],
        np.dstack([SMOOTH, IDS]),
    ],
)
def test_arrays_that_are_not_written(tmp_path, array):
    with pytest.raises(ValueError, match=r"expected|range"):
        write_png(tmp_path / "a.png", array)
    assert not list(tmp_path.iterdir())


def test_overwriting_keeps_no_old_bytes_and_the_usual_mode(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, DEEP[..., 0])
    write_png(path, IDS)
    np.testing.assert_array_equal(read_label(path), IDS)
    (tmp_path / "other").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_full_disk_keeps_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, IDS)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"a.png: not written \(File .*; it needs 1 MB") as caught:
            write_png(path, DEEP[..., 0])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG
    np.testing.assert_array_equal(read_label(path), IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_interrupted_write_keeps_the_old_file_and_no_part(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_png(path, IDS)

    def interrupt(source, target):
        assert Path(source).parent == tmp_path
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_png(path, DEEP[..., 0])
    np.testing.assert_array_equal(read_label(path), IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_target_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "a.png"):
        with pytest.raises(OSError, match="not written"):
            write_png(path, IDS)
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("real", [False, True])
def test_a_faster_decoder_gives_the_same_pixels(
    tmp_path: Path, real: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is installed; of opaque colors alone."""
    decode = pytest.importorskip("imagecodecs").png_decode if real else images._decode
    kinds: list[bytes] = []

    def fast(data: bytes) -> np.ndarray:
        kinds.append(data)
        return decode(data) if real else decode(data, cv2.IMREAD_COLOR_RGB)

    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    paths = [tmp_path / name for name in ("a.png", "seen_through.png", "gray.png")]
    Image.fromarray(pixels).save(paths[0])
    Image.fromarray(pixels).save(paths[1], transparency=(1, 2, 3))
    Image.fromarray(pixels[..., 0]).save(paths[2])
    monkeypatch.setattr(images, "_png_decoder", lambda: fast)
    equal = [np.array_equal(images.read_image(path), pixels) for path in paths]
    assert equal == [True, True, False]
    assert kinds == [paths[0].read_bytes()]
    paths[0].write_bytes(paths[0].read_bytes()[:-40])
    with pytest.raises(ValueError, match="truncated or damaged PNG"):
        images.read_image(paths[0])
