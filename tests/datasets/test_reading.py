"""How images are read: as EXIF turns them or as stored, and with the bits that they have."""

import json
import shutil
import struct
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from breaking import found
from conftest import draw_folder
from PIL import Image, TiffImagePlugin

from datasets import build_dataset
from datasets.base import SegmentationDataset
from datasets.cache.decoded import open_cache
from datasets.doctor import check
from datasets.evaluation.predictions import expected_package
from datasets.reading import find_bits, settle
from utils import checkpoint, distributed
from utils.images import (
    needed_bits,
    read_image,
    read_label,
    read_orientation,
    read_size,
    write_png,
)

TURN = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270}
SIZE = 40, 60


def photos(root: Path, orientation: int, size: tuple[int, int], seen: bool, kind: str) -> Path:
    """A photo that EXIF turns; its label has id 1 where it is red, as it is seen or as stored."""
    ids = np.zeros(size, np.uint8)
    ids[: size[0] // 2, 8:16] = 1
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.where(ids[..., None], (200, 40, 40), (90, 150, 120))
                             .astype(np.uint8)).transpose(TURN[orientation])
    if not seen:
        ids = np.asarray(Image.fromarray(ids).transpose(TURN[orientation]))
    for split in ("train", "val"):
        write_png(root / f"labels/{split}/a.png", ids)
        image = root / f"images/{split}/a.{kind}"
        image.parent.mkdir(parents=True)
        stored.save(image, exif=exif, lossless=True) if kind == "webp" else stored.save(
            image, exif=exif)
    (root / "classes.txt").write_text("0 road 128 64 128\n1 car 0 0 142\n")
    return root


def fits(dataset: SegmentationDataset) -> bool:
    image, target = (each.numpy() for each in dataset[0])
    return bool(((image[..., 0] > 145) == (target == 1)).mean() > 0.97)


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize("seen", [True, False])
@pytest.mark.parametrize(("orientation", "size"), [
    *((orientation, SIZE) for orientation in range(2, 9)), (5, (48, 48)), (8, (48, 48))])
def test_images_fit_their_labels(
    orientation: int, size: tuple[int, int], seen: bool, kind: str, tmp_path: Path
) -> None:
    """By the size of the label, where it tells; else as --exif says, without which it stops."""
    root = photos(tmp_path, orientation, size, seen, kind)
    told = orientation >= 5 and size[0] != size[1]
    train, val = (build_dataset("folder", root, split) for split in ("train", "val"))
    if told:
        settle(train, val, "ignore" if seen else "apply")  # has no effect
    else:
        with pytest.raises(ValueError, match="1 of 1 images of train; give --exif apply"):
            settle(train, val, None)
        settle(train, val, "apply" if seen else "ignore")
    assert fits(train)
    assert train.sizes() == [train.read_ids(0).shape]
    files = train[0][0]
    train.cache = open_cache(train)
    assert train[0][0].equal(files)
    kinds = found(check("folder", root))
    assert ("exif" in kinds) is not told
    assert "size" not in kinds
    assert "exif" not in found(check("folder", root, exif="apply"))


def test_without_labels_nothing_tells(tmp_path: Path) -> None:
    """What is predicted for a benchmark is not as it is stored in silence."""
    root = photos(tmp_path, 6, SIZE, True, "jpg")
    shutil.copytree(root / "images/val", root / "images/test")
    dataset = build_dataset("folder", root, "test")
    with pytest.raises(ValueError, match="1 of 1 images of test; give --exif apply if labels are"):
        expected_package("folder", dataset)
    for exif, size in (("apply", SIZE), ("ignore", SIZE[::-1])):
        dataset.exif = exif
        assert [*expected_package("folder", dataset).sizes.values()] == [size]
    assert "exif" not in found(check("folder", root))


def test_a_cache_of_images_read_otherwise_is_another(tmp_path: Path) -> None:
    root = photos(tmp_path, 3, SIZE, True, "png")
    pixels = []
    for exif in ("apply", "ignore", "apply"):
        dataset = build_dataset("folder", root, "train")
        dataset.exif = exif
        dataset.cache = open_cache(dataset)
        pixels.append(dataset.read_image(0).copy())
        assert np.array_equal(pixels[-1], dataset.read_picture(*files_of(dataset)))
    assert np.array_equal(pixels[0], pixels[1][::-1, ::-1])


def files_of(dataset: SegmentationDataset) -> tuple[Path, Path | None]:
    return dataset.samples[0].image, dataset.samples[0].label


def deepen(root: Path, bits: int, suffix: str = ".png") -> None:
    """Makes the images of a drawn set 16-bit files whose values have so many bits."""
    for path in root.glob("images/*/*.png"):
        deep = read_image(path).astype(np.uint32) * ((1 << bits) - 1) // 255
        path.unlink()
        path.with_suffix(suffix).write_bytes(
            cv2.imencode(suffix, deep.astype(np.uint16)[..., ::-1])[1])


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_bits_that_hold_all_images(bits: int, suffix: str, tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    before = [build_dataset("folder", root, "train").read_image(i) for i in range(5)]
    deepen(root, bits, suffix)
    train, val = (build_dataset("folder", root, split) for split in ("train", "val"))
    settle(train, val, None)
    assert train.bits == val.bits == bits
    for index, pixels in enumerate(before):
        assert np.abs(train.read_image(index).astype(int) - pixels).max() <= 1
    assert ("dark-image" in found(check("folder", root))) == (bits < 16)


def test_each_rank_looks_at_a_part_of_the_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, own = draw_folder(tmp_path), []
    deepen(root, 12)
    monkeypatch.setattr(distributed, "shard", lambda length: range(1, length, 2))
    monkeypatch.setattr(distributed, "gather", lambda part, patiently: own.append(part) or [14, 0])
    for path in sorted((root / "images/train").iterdir())[::2]:
        path.write_bytes(b"damaged")  # of the other rank
    assert find_bits(build_dataset("folder", root, "train").samples) == 14
    assert own == [12]


def test_other_images_have_no_bits(tmp_path: Path) -> None:
    train = build_dataset("folder", draw_folder(tmp_path), "train")
    assert find_bits(train.samples) is None
    assert needed_bits(train.samples[0].image) is None


def test_an_image_in_the_dark_is_said(tmp_path: Path) -> None:
    """By hand: 2048 of 4095 is 128 of 255; of 65535 it is 8."""
    path, deep = tmp_path / "a.png", np.full((4, 4), 2048, np.uint16)
    write_png(path, deep)
    with pytest.warns(UserWarning, match=r"a\.png: dark.*12 of 16 bits; --bits 12"):
        assert (read_image(path) == 8).all()
    write_png(tmp_path / "b.png", deep + 14335)
    with pytest.warns(UserWarning, match="14 of 16 bits"):
        read_image(tmp_path / "b.png")
    with warnings.catch_warnings(action="error"):  # from a quarter on, nothing is said
        write_png(path, deep + 14336)
        read_image(path)
        write_png(path, deep)
    assert (read_image(path, bits=12) == 128).all()
    with pytest.warns(UserWarning, match=r"a\.png: white: more than 10 bits; --bits 12"):
        assert (read_image(path, bits=10) == 255).all()


def test_every_kind_of_deep_tiff(tmp_path: Path) -> None:
    """With alpha, turned as others are, and of 12 bits, packed by hand: two values in 3 bytes."""
    deep = np.random.default_rng(0).integers(0, 4096, (6, 8, 3)).astype(np.uint16)
    deep[0, 0] = 4095
    expected = ((deep.astype(int) * 255 + 2047) // 4095).astype(np.uint8)
    alpha = np.dstack([deep[..., ::-1], np.full((6, 8), 65535, np.uint16)])
    (tmp_path / "alpha.tif").write_bytes(cv2.imencode(".tif", alpha)[1])
    assert np.array_equal(read_image(tmp_path / "alpha.tif", bits=12), expected)
    for turn in range(1, 9):
        path = tmp_path / f"{turn}.tif"
        write_tiff(path, deep.astype("<u2").tobytes(), 16, 3, turn)
        assert needed_bits(path) == 12
        seen = Image.fromarray(expected)
        seen = seen.transpose(TURN[{6: 8, 8: 6}.get(turn, turn)]) if turn > 1 else seen
        assert np.array_equal(read_image(path, bits=12), np.array(seen)), turn
    pairs = deep[..., 0].astype(int).reshape(-1, 2)
    packed = [(a >> 4, (a & 15) << 4 | b >> 8, b & 255) for a, b in pairs]
    write_tiff(path, np.array(packed, np.uint8).tobytes(), 12, 1, 1)
    assert needed_bits(path) == 12
    assert np.array_equal(read_image(path, bits=12), expected[..., [0, 0, 0]])


def test_deep_tiffs_that_libraries_read_wrong(tmp_path: Path) -> None:
    """White is 0: turned around by nobody in 16 bits. Colors in planes: noise, so refused."""
    deep, path = np.arange(0, 48000, 1000, dtype="<u2"), tmp_path / "a.tif"
    write_tiff(path, (65535 - deep).tobytes(), 16, 1, 1, {262: 0})
    expected = ((deep.astype(int) * 255 + 32767) // 65535).reshape(6, 8)
    assert np.array_equal(read_image(path)[..., 1], expected)
    write_tiff(path, deep.tobytes() * 3, 16, 3, 1, {284: 2, 273: (300, 396, 492), 279: (96,) * 3})
    with pytest.raises(ValueError, match="a.tif: 16 bits in planes, expected .*; convert it"):
        read_image(path)


def write_tiff(
    path: Path, pixels: bytes, bits: int, channels: int, turn: int, more: dict | None = None
) -> None:
    """8x6 pixels, which OpenCV writes with neither an orientation nor 12 bits; `more` tags."""
    header = TiffImagePlugin.ImageFileDirectory_v2()
    fields = {256: 8, 257: 6, 258: (bits,) * channels, 259: 1, 262: 2 if channels > 1 else 1,
              273: 0, 274: turn, 277: channels, 278: 6, 279: len(pixels), **(more or {})}
    for tag, value in fields.items():
        header[tag] = value
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + header.tobytes(8) + pixels)


def test_snapshots_keep_how_images_were_read(tmp_path: Path, call) -> None:
    """Trained with 12 bits and --exif; evaluate and demo read as the snapshot says."""
    root = draw_folder(tmp_path / "mine")
    deepen(root, 12)
    words = ["--dataset", "folder", "--data-root", root]
    done = call("train.py", *words, "--arch", "cspsg_n", "--crop-size", 32, 32, "--batch-size", 2,
                "--max-steps", 1, "--workers", 0, "--run-dir", tmp_path / "run", "--exif", "apply")
    assert done.returncode == 0, done.stderr
    assert "16-bit images: their values have 12 bits" in done.stdout
    best = checkpoint.read(tmp_path / "run/best.pth")["dataset"]
    assert (best["bits"], best["exif"]) == (12, "apply")
    scores = []
    for number, more in enumerate(([], ["--bits", 12], ["--bits", 16])):
        done = call("evaluate.py", *words, "--snapshot", tmp_path / "run/best.pth", "--workers", 0,
                    "--json", tmp_path / f"{number}.json", *more)
        assert done.returncode == 0, done.stderr
        scores.append(json.loads((tmp_path / f"{number}.json").read_text())["confMatrix"])
    assert scores[0] == scores[1] != scores[2]
    image = root / "images/val/0.png"
    outputs = []
    for folder, more in (("a", []), ("b", ["--bits", 12])):
        done = call("demo.py", "--demo-image", image, "--snapshot", tmp_path / "run/best.pth",
                    "--save-dir", tmp_path / folder, *more)
        assert done.returncode == 0, done.stderr
        assert "of 16 bits" not in done.stderr
        outputs.append(read_label(tmp_path / folder / "0_id_mask.png"))
    assert np.array_equal(*outputs)


def test_exif_that_is_none_stops_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    for exif in (b"garbage, no TIFF", b"", b"MM\0*\0\0\0\x08\xff\xff"):
        Image.fromarray(pixels).save(path, exif=exif)
        assert read_orientation(path) == 1
        for label_size in (None, lambda: (8, 8)):
            assert np.array_equal(read_image(path, True, None, label_size), pixels)


def test_exif_of_a_png_between_long_chunks(tmp_path: Path) -> None:
    exif, path, random = Image.Exif(), tmp_path / "a.png", np.random.default_rng(0)
    exif[0x0112] = 6
    pixels = random.integers(0, 256, (100, 200, 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, icc_profile=random.bytes(60_000))
    assert read_orientation(path) == 6
    assert read_size(path, upright=True) == (200, 100)
    assert np.array_equal(read_image(path, upright=True), np.rot90(pixels, -1))


def test_nothing_is_scored_before_it_was_said_what_exif_means(tmp_path: Path, call) -> None:
    root = photos(tmp_path / "mine", 3, SIZE, True, "jpg")
    words = ["evaluate.py", "--dataset", "folder", "--data-root", root, "--predictions",
             root / "labels/val", "--workers", 0]
    done = call(*words)
    assert done.returncode == 2
    assert "give --exif apply" in done.stderr
    assert call(*words, "--exif", "apply").returncode == 0
