"""Every kind that is read, and every fault that is refused."""

import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageFile, ImageOps

from utils import images
from utils.images import (
    MAX_PIXELS,
    read_image,
    read_instances,
    read_label,
    read_size,
    shown,
    stored_as,
    write_png,
)

RANDOM = np.random.default_rng(0)
SMOOTH = cv2.resize(RANDOM.integers(0, 256, (6, 8, 3), np.uint8), (72, 40))  # kind to JPEG
PICTURE = Image.fromarray(SMOOTH)
DEEP = RANDOM.integers(0, 65536, (40, 72, 3), np.uint16)
IDS = RANDOM.integers(0, 34, (40, 72), np.uint8)
READERS = [read_image, read_label, read_instances, read_size]


def png_chunk(body: bytes) -> bytes:
    return struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = b"IHDR" + header, b"IDAT" + zlib.compress(rows), b"IEND"
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, chunks))


def error_of(read, path) -> str:
    """The one line that says why a file was refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{shown(path)}: ")
    assert text.isprintable()
    assert "error" not in text.lower()
    return text


# File name and what PIL saves there; it is read as PIL's own conversion has it.
KINDS = {
    "rgb.png": PICTURE,
    "gray.png": PICTURE.convert("L"),
    "gray_alpha.png": PICTURE.convert("LA"),
    "rgba.png": PICTURE.convert("RGBA"),
    "palette.png": PICTURE.convert("P"),
    "one_bit.png": PICTURE.convert("1"),
    "rgb.jpg": PICTURE,
    "gray.jpg": PICTURE.convert("L"),
    "cmyk.jpg": PICTURE.convert("CMYK"),
    "rgb.webp": PICTURE,
    "rgba.webp": PICTURE.convert("RGBA"),
    "rgb.bmp": PICTURE,
    "palette.bmp": PICTURE.convert("P"),
    "rgb.tif": PICTURE,
    "cmyk.tiff": PICTURE.convert("CMYK"),
}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("upright", [False, True])
def test_kinds(tmp_path, name, upright):
    path = tmp_path / name
    KINDS[name].save(path)
    pixels = read_image(path, upright=upright)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels, np.asarray(image.convert("RGB")))
    assert read_size(path) == (40, 72)


def test_transparency_is_dropped_and_does_not_change_colors(tmp_path):
    path = tmp_path / "a.png"
    indexed = PICTURE.convert("P")
    for transparency in (3, bytes(range(256))):
        indexed.save(path, transparency=transparency)
        np.testing.assert_array_equal(read_image(path), np.asarray(indexed.convert("RGB")))
    rgba = np.dstack([SMOOTH, np.zeros((40, 72), np.uint8)])
    Image.fromarray(rgba).save(path)
    np.testing.assert_array_equal(read_image(path), SMOOTH)
    PICTURE.save(path, transparency=tuple(int(value) for value in SMOOTH[0, 0]))
    np.testing.assert_array_equal(read_image(path), SMOOTH)


@pytest.mark.parametrize("name", ["gray.png", "rgb.png", "rgba.png", "gray.tif"])
def test_16_bits_are_scaled_and_not_saturated(tmp_path, name):
    path = tmp_path / name
    deep = DEEP[..., 0].copy() if "gray" in name else DEEP.copy()
    deep.flat[:4] = 0, 128, 129, 65535
    if name == "gray.tif":
        Image.fromarray(deep).save(path)
    else:
        bgr = deep if deep.ndim == 2 else deep[..., ::-1]
        bgr = np.dstack([bgr, deep[..., :1]]) if "rgba" in name else bgr
        path.write_bytes(cv2.imencode(".png", bgr)[1])
    expected = np.rint(deep / 257).astype(np.uint8)
    expected = expected if expected.ndim == 3 else np.repeat(expected[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(path), expected)
    assert 100 < read_image(path).mean() < 155


STORED = {  # Pillow mode and format: what the file is
    ("RGB", "PNG"): "8-bit RGB PNG", ("L", "PNG"): "8-bit gray PNG", ("1", "PNG"): "1-bit gray PNG",
    ("I;16", "PNG"): "16-bit gray PNG", ("RGBA", "PNG"): "8-bit RGBA PNG",
    ("LA", "PNG"): "8-bit gray with alpha PNG", ("RGB", "JPEG"): "JPEG", ("RGB", "WEBP"): "WEBP",
    ("RGB", "BMP"): "BMP", ("RGB", "TIFF"): "TIFF", ("RGB", "GIF"): "",
}


@pytest.mark.parametrize("stored", STORED, ids=" ".join)
def test_stored_as(stored, tmp_path):
    mode, kind = stored
    path = tmp_path / "x"
    Image.new(mode, (40, 30)).save(path, kind)
    assert stored_as(path.read_bytes()[:26]) == STORED[stored]
    assert stored_as(b"") == ""
    assert stored_as(b"\x89PNG\r\n\x1a\n") == "PNG"  # cut off before its kind


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bits_are_refused_by_name(tmp_path, mode):
    path = tmp_path / "deep.tif"
    PICTURE.convert("L").convert(mode).save(path)
    assert f"mode {mode}" in error_of(read_image, path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_only_what_is_for_people(tmp_path, name, orientation):
    path = tmp_path / name
    exif = Image.Exif()
    exif[0x0112] = orientation
    PICTURE.save(path, exif=exif)
    with Image.open(path) as image:
        turned = ImageOps.exif_transpose(image).convert("RGB")
        stored = np.asarray(image.convert("RGB"))
    pixels = read_image(path, upright=True)
    np.testing.assert_array_equal(pixels, np.asarray(turned))
    assert pixels.flags.c_contiguous  # torch takes no negative strides
    np.testing.assert_array_equal(read_image(path), stored)  # of a TIFF, PIL gives it turned
    assert read_size(path) == stored.shape[:2]
    assert name == "a.tif" or stored.shape[:2] == (40, 72)


def test_broken_exif_does_not_refuse_the_picture(tmp_path):
    path = tmp_path / "a.jpg"
    PICTURE.save(path, exif=b"Exif\0\0II*\0\xff\xff\xff\x7f garbage")
    assert read_image(path, upright=True).shape == (40, 72, 3)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_animation_gives_its_first_frame_and_a_warning(tmp_path, name):
    path = tmp_path / name
    options = {"a.webp": {"lossless": True}, "a.png": {"default_image": True}}.get(name, {})
    others = [ImageOps.invert(PICTURE), ImageOps.flip(PICTURE)]
    PICTURE.save(path, save_all=True, append_images=others, **options)
    with pytest.warns(UserWarning, match="first frame"):
        np.testing.assert_array_equal(read_image(path), SMOOTH)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "an empty file"),
        (b"hello\n", "not an image"),
        (b"<!DOCTYPE html><html>404</html>", "not an image"),
        (b"GIF89a\x01\0\x01\0\0\0\0;", "not an image"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "truncated or damaged PNG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "truncated or damaged PNG"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF", "truncated or damaged JPEG"),
        (b"BM1234", "damaged or unsupported BMP"),
        (b"II*\0\xff\xff\xff\xff", "damaged or unsupported TIFF"),
        (b"RIFF\x24\0\0\0WEBPVP8 ", "damaged or unsupported WEBP"),
    ],
)
def test_content_that_is_no_image(tmp_path, read, content, reason):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert reason in error_of(read, path)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.webp"])
def test_truncated_image_is_refused_wherever_it_is_cut(tmp_path, name):
    path = tmp_path / name
    PICTURE.save(path, **({"progressive": True} if name == "a.jpg" else {}))
    content = path.read_bytes()
    for length in (*range(1, len(content) - 1, len(content) // 40), len(content) - 2):
        path.write_bytes(content[:length])
        error_of(read_image, path)
        if name in ("a.png", "a.jpg"):  # a download that reserved its place first
            path.write_bytes(content[:length] + bytes(len(content) - length))
            error_of(read_image, path)
    path.write_bytes(content)
    assert read_image(path).shape == (40, 72, 3)


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_truncated_jpeg_is_refused_though_its_thumbnail_ends(tmp_path, mode, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)  # as some libraries do
    path = tmp_path / "a.jpg"
    PICTURE.resize((16, 16)).save(path)
    PICTURE.convert(mode).save(path, exif=b"Exif\0\0" + path.read_bytes())
    content = path.read_bytes()
    assert content.count(b"\xff\xd9") == 2
    path.write_bytes(content[:-200] + bytes(200))
    assert "truncated" in error_of(read_image, path)


def test_bytes_behind_the_end_are_harmless(tmp_path):
    for name in ("a.png", "a.jpg"):
        path = tmp_path / name
        PICTURE.save(path)
        expected = read_image(path)
        path.write_bytes(path.read_bytes() + b"\0" * 100 + b"appended")
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_flipped_bit_in_a_png_is_refused_wherever_it_is(tmp_path, read, monkeypatch):
    """Before it is decoded: not every decoder looks at checksums."""
    monkeypatch.setattr(images, "_decode", lambda *_: IDS)
    path = tmp_path / "a.png"
    write_png(path, IDS)
    content = path.read_bytes()
    for position in range(8, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        error_of(read, path)


@pytest.mark.parametrize("read", [read_image, read_label])
def test_png_with_right_checksums_and_too_few_rows_is_refused(tmp_path, read):
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 8, 8, 0, bytes(9) * 8))
    assert read(path).shape[:2] == (8, 8)
    path.write_bytes(png(8, 8, 8, 0, bytes(9) * 5))
    assert "truncated or damaged PNG" in error_of(read, path)


@pytest.mark.parametrize("read", READERS)
def test_too_many_pixels_are_refused_from_the_header(tmp_path, read):
    path = tmp_path / "a.png"
    path.write_bytes(png(60000, 60000, 8, 0, b""))
    text = error_of(read, path)
    assert "60000x60000" in text
    assert f"{MAX_PIXELS:,}" in text


def test_limit_of_pixels_is_inclusive(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(8000, MAX_PIXELS // 8000, 8, 0, b""))
    assert read_size(path) == (MAX_PIXELS // 8000, 8000)
    path.write_bytes(png(8000, MAX_PIXELS // 8000 + 1, 8, 0, b""))
    error_of(read_size, path)


def test_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, IDS)
    os.truncate(path, 1 << 40)  # sparse
    assert "bytes" in error_of(read_image, path)


@pytest.mark.parametrize("read", READERS)
def test_paths_that_are_no_files(tmp_path, read):
    assert "no such file" in error_of(read, tmp_path / "missing.png")
    assert "a folder" in error_of(read, tmp_path)
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    assert "symbolic links" in error_of(read, loop)
    (tmp_path / "broken.png").symlink_to(tmp_path / "missing.png")
    assert "no such file" in error_of(read, tmp_path / "broken.png")
    error_of(read, tmp_path / ("a" * 5000))


@pytest.mark.parametrize("read", [f.__name__ for f in READERS])
def test_pipe_does_not_block(tmp_path, read):
    os.mkfifo(tmp_path / "pipe.png")
    # In a process of its own: the failure of this test would be to wait for ever.
    code = f"from utils import images; images.{read}({str(tmp_path / 'pipe.png')!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert "pipe.png: not a file" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, IDS)
    path.chmod(0)
    assert "ermission" in error_of(read_label, path)


@pytest.mark.parametrize(
    "name", ["ü 日本.png", "a b#c%d.png", "-n.png", "a\nb\x1b[2J.png", os.fsdecode(b"\xff\xe9.png")]
)
def test_any_file_name_works_and_is_printed_safely(tmp_path, name):
    path = tmp_path / name
    try:
        path.touch()
    except OSError:
        pytest.skip("the file system refuses this name")
    assert "empty" in error_of(read_label, path)
    write_png(path, IDS)
    np.testing.assert_array_equal(read_label(path), IDS)
    np.testing.assert_array_equal(read_label(str(path)), IDS)
    assert read_image(path).shape == (40, 72, 3)
    assert read_size(path) == (40, 72)


def test_shown():
    assert shown("data/ü 日本 #1.png") == "data/ü 日本 #1.png"
    assert shown(Path("a\x1b[2J\n.png")) == r"a\x1b[2J\n.png"
    assert shown(os.fsdecode(b"\xff.png")) == r"\udcff.png"
    assert shown("\u202egnp.exe") == r"\u202egnp.exe"  # would print right to left


def test_label_keeps_every_id(tmp_path):
    path = tmp_path / "a.png"
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(ids).save(path)
    np.testing.assert_array_equal(read_label(path), ids)
    np.testing.assert_array_equal(read_instances(path), ids)
    assert read_label(path).dtype == np.uint8
    assert read_instances(path).dtype == np.uint16


@pytest.mark.parametrize(
    ("mode", "reason"), [("RGB", "a color label (RGB)"), ("RGBA", "a color label (RGBA)")]
)
@pytest.mark.parametrize("read", [read_label, read_instances])
def test_color_label_says_what_to_do(tmp_path, read, mode, reason):
    path = tmp_path / "a.png"
    PICTURE.convert(mode).save(path)
    text = error_of(read, path)
    assert reason in text
    assert "point to the id maps" in text


def test_label_of_another_kind(tmp_path):
    path = tmp_path / "a.png"
    PICTURE.convert("P").save(path)
    assert "8-bit palette PNG" in error_of(read_label, path)
    assert "8-bit palette PNG" in error_of(read_instances, path)
    PICTURE.convert("LA").save(path)
    assert "gray with alpha" in error_of(read_label, path)
    Image.fromarray(DEEP[..., 0]).save(path)
    assert "16-bit gray PNG" in error_of(read_label, path)
    PICTURE.convert("L").save(path, "JPEG")
    assert "JPEG" in error_of(read_label, path)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_gray_label_of_few_bits_is_ambiguous(tmp_path, depth):
    path = tmp_path / "a.png"
    path.write_bytes(png(8, 1, depth, 0, bytes(1 + depth)))
    assert f"{depth}-bit gray PNG" in error_of(read_label, path)
    assert f"{depth}-bit gray PNG" in error_of(read_instances, path)


@pytest.mark.parametrize("classes", [2, 3, 16, 19, 256])
def test_palette_label_gives_its_indices(tmp_path, classes):
    path = tmp_path / "a.png"
    ids = RANDOM.integers(0, classes, (40, 72)).astype(np.uint8)
    image = Image.fromarray(ids)
    image.putpalette(RANDOM.permutation(256)[:classes].repeat(3).astype(np.uint8).tobytes())
    image.save(path)
    np.testing.assert_array_equal(read_label(path, palette=True), ids)
    error_of(read_label, path)


def test_instances_of_16_bits(tmp_path):
    path = tmp_path / "a.png"
    instances = RANDOM.integers(0, 34000, (40, 72)).astype(np.uint16)
    write_png(path, instances)
    np.testing.assert_array_equal(read_instances(path), instances)
