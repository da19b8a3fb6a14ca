"""Damaged bytes: every reader takes them or refuses them in one line, soon and in little memory.

A part of the cases by default, all of them with `-m slow`; their numbers are their seeds.
"""

import faulthandler
import io
import json
import random
import struct
import sys
import time
import types
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from conftest import (
    draw_camvid,
    draw_cityscapes,
    draw_folder,
    draw_mapillary,
    few_or_many,
)
from PIL import Image

import model
from convert_checkpoint import read_tensors
from datasets.doctor import check
from datasets.doctor.report import lines, verdict
from datasets.polygons import draw_polygons
from model.snapshot import from_snapshot, read_snapshot
from utils import images
from utils.images import (
    needed_bits,
    read_colors,
    read_image,
    read_instances,
    read_label,
    read_orientation,
    read_size,
)

SECONDS, MEGABYTES = 5, 250  # of a case; of all cases together
PATIENCE = 300  # seconds for 1000 cases, then the place where it hangs is shown
Damage = Callable[[random.Random, bytes, bytes], bytes]  # of one file, with another at hand


def flip(rng: random.Random, data: bytes, _: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(rng: random.Random, data: bytes, _: bytes) -> bytes:
    """With numbers as sizes and offsets are not expected to be."""
    place, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8))
    value = rng.choice((b"\0", b"\xff", b"\x7f", b"\x80", b"\1", rng.randbytes(1))) * length
    return data[:place] + value + data[place + length :]


def cut(rng: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def drop(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place + rng.randrange(1, 50) :]


def repeat(rng: random.Random, data: bytes, _: bytes) -> bytes:
    place = rng.randrange(len(data))
    return data[:place] + data[place : place + 50] * rng.choice((2, 3, 100)) + data[place:]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    place = rng.randrange(len(other))
    return data[: rng.randrange(len(data))] + other[place : place + rng.choice((10, 100, 10**6))]


DAMAGES: list[Damage] = [flip, flip, overwrite, overwrite, cut, drop, repeat, splice]


def seal(data: bytes) -> bytes:
    """A PNG with the checksums of what is in it: else no decoder ever sees the damage."""
    place, whole = 8, bytearray(data)
    while place + 12 <= len(whole):
        end = place + 8 + struct.unpack_from(">I", whole, place)[0]
        if end + 4 > len(whole):
            break
        struct.pack_into(">I", whole, end, zlib.crc32(whole[place + 4 : end]))
        place = end + 4
    return bytes(whole)


def damage_member(damage: Damage, rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Of a zip file, in which the checksums are right again; mostly of its pickle."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as sealed:
        names = source.namelist()
        pickle = next(name for name in names if name.endswith("data.pkl"))
        chosen = rng.choice((pickle, pickle, rng.choice(names)))
        for name in names:
            content = source.read(name)
            changed = damage(rng, content, other) if name == chosen and content else content
            sealed.writestr(name, changed)
    return target.getvalue()


def damaged(rng: random.Random, files: list[bytes]) -> bytes:
    data, other, damage = rng.choice(files), rng.choice(files), rng.choice(DAMAGES)
    if data.startswith(b"PK") and rng.random() < 0.7:
        return damage_member(damage, rng, data, other)
    changed = damage(rng, data, other)
    return seal(changed) if data.startswith(b"\x89PNG") and rng.random() < 0.7 else changed


@contextmanager
def little_memory() -> Iterator[None]:
    """The most in use does not rise by much."""
    def most(*reset: str) -> int:
        with suppress(OSError):  # of kernels that cannot forget the most
            for word in reset:
                Path("/proc/self/clear_refs").write_text(word)
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) // 1000

    if sys.platform != "linux":
        yield
        return
    before = most("5")
    yield
    assert most() - before < MEGABYTES


def attempt(act: Callable[[], Any], case: object, allowed: tuple = (ValueError, OSError,
                                                                    RuntimeError)) -> bool:
    """Whether it succeeds; what fails does so in one line."""
    before = time.process_time()
    try:
        act()
        done = True
    except Exception as error:
        done, text = False, str(error)
        right = isinstance(error, allowed) and not isinstance(error, RecursionError)
        if not right or not text.isprintable() or not 0 < len(text) < 4000:
            raise AssertionError(f"case {case}: {type(error).__name__}: {text}") from error
    assert time.process_time() - before < SECONDS, case
    return done


def run_cases(number: int, run: Callable[[random.Random, int], bool], least: float) -> None:
    """Cases 0 to `number`; some go well, or the damage would be nothing that readers look at."""
    went_well = 0
    with warnings.catch_warnings(), little_memory():
        warnings.simplefilter("ignore")
        for case in range(number):
            if case % 1000 == 0:
                faulthandler.dump_traceback_later(PATIENCE, exit=True)
            went_well += run(random.Random(case), case)
    faulthandler.cancel_dump_traceback_later()
    print(f"{number} cases, {went_well} were read")
    assert least * number < went_well < number


def pictures() -> list[bytes]:
    rng = np.random.default_rng(0)
    colors = np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8), 3, axis=1)
    picture, ids = Image.fromarray(colors), Image.fromarray(colors[..., 0] // 8)
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a"
    kinds: list[tuple[Image.Image, str, dict]] = [
        (picture, "PNG", {"exif": exif}), (ids, "PNG", {}), (ids.convert("P"), "PNG", {}),
        (picture.convert("RGBA"), "PNG", {}), (ids.convert("1"), "PNG", {}),
        (Image.fromarray(colors[..., 0].astype(np.uint16) * 16), "PNG", {}),
        (picture, "JPEG", {"exif": exif}), (picture, "JPEG", {"progressive": True}),
        (picture.convert("CMYK"), "JPEG", {}), (ids, "JPEG", {}),
        (picture, "WEBP", {"exif": exif}), (picture, "WEBP", {"lossless": True}),
        (picture, "BMP", {}), (ids.convert("P"), "BMP", {}), (picture, "TIFF", {"exif": exif}),
        *((picture, "TIFF", {"compression": kind})
          for kind in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")),
        (Image.fromarray(colors[..., 0].astype(np.uint16) * 256), "TIFF", {}),
        (picture.convert("CMYK"), "TIFF", {}),
        (ids.convert("1"), "TIFF", {"compression": "group4"}),
        (picture, "PNG", {"save_all": True, "append_images": [picture.rotate(180)]}),
        (picture, "WEBP", {"save_all": True, "append_images": [picture.rotate(180)]}),
    ]
    return [*map(saved, kinds)]


def saved(kind: tuple[Image.Image, str, dict]) -> bytes:
    buffer = io.BytesIO()
    kind[0].save(buffer, kind[1], **kind[2])
    return buffer.getvalue()


READERS: list[Callable[[Path], Any]] = [
    read_label, partial(read_label, palette=True), read_instances, read_colors, needed_bits,
    partial(read_size, upright=True), read_orientation,
]


@pytest.mark.parametrize("number", few_or_many(2000, 160_000))
def test_images(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, path = pictures(), tmp_path / "x"
    monkeypatch.setattr(images, "_limit", 1_000_000)

    def run(rng: random.Random, case: int) -> bool:
        path.write_bytes(damaged(rng, files))
        attempt(partial(rng.choice(READERS), path), case)
        return attempt(partial(read_image, path, upright=True), case)

    run_cases(number, run, least=0.05)


def networks(folder: Path) -> list[bytes]:
    """Checkpoints of every format that is read."""
    network = model.build_model("tiny", 3)
    weights = network.state_dict()
    ours = {"format": 1, "model": network.config, "weights": weights, "step": 3, "args": "{}",
            "best": 0.5, "dataset": {"name": "folder", "class_names": ["a", "b", "c"],
                                     "palette": [[0, 0, 0]] * 3, "train_id_to_id": [7, 3, 200]}}
    whole = sys.modules["theirs"].Network()
    vars(whole).update(_parameters={"w": torch.zeros(2)}, _buffers={}, _modules={"a": whole})
    written = []
    for number, (content, options) in enumerate((
        (ours, {}), (ours, {"_use_new_zipfile_serialization": False}), (weights, {}),
        ({"state_dict": weights, "epoch": np.float64(3)}, {}), (whole, {}), ({"ema": whole}, {}),
    )):
        torch.save(content, folder / str(number), **options)
        written.append((folder / str(number)).read_bytes())
    return [*written, safetensors.torch.save(weights)]


@pytest.mark.parametrize("number", few_or_many(150, 25_000))
def test_snapshots(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the readers of all scripts, and of convert_checkpoint.py."""
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    theirs: Any = types.ModuleType("theirs")
    theirs.Network = type("Network", (), {"__module__": "theirs"})
    monkeypatch.setitem(sys.modules, "theirs", theirs)
    files, path = networks(tmp_path), tmp_path / "x.pth"

    def run(rng: random.Random, case: int) -> bool:
        path.write_bytes(damaged(rng, files))
        attempt(lambda: read_tensors(path, None), case)
        return attempt(lambda: from_snapshot(read_snapshot(path)), case)

    run_cases(number, run, least=0.02)


DRAW = {"folder": draw_folder, "camvid": draw_camvid, "mapillary": draw_mapillary,
        "cityscapes": partial(draw_cityscapes, train=2, val=1)}


@pytest.mark.parametrize("number", few_or_many(100, 10_000))
def test_the_doctor(number: int, tmp_path: Path) -> None:
    """It finds what is damaged; nothing is left for it to stumble over."""
    kinds = {}
    for name, draw in DRAW.items():
        root = draw(tmp_path / name, size=(16, 24))
        files = (path for path in sorted(root.rglob("*")) if path.is_file())
        kinds[name] = {path: path.read_bytes() for path in files}

    def run(rng: random.Random, case: int) -> bool:
        name = rng.choice([*DRAW])
        path, whole = rng.choice([*kinds[name].items()])
        path.write_bytes(damaged(rng, [whole, *rng.sample([*kinds[name].values()], 3)]))
        found: list[str] = []

        def examine() -> None:
            report = check(name, tmp_path / name)
            json.dumps(report.to_json())
            found.extend(lines(report))
            found.append(verdict(report))

        attempt(examine, case, allowed=())
        path.write_bytes(whole)
        return "not healthy" not in found[-1]

    run_cases(number, run, least=0.02)


SHAPES = {"imgHeight": 8, "imgWidth": 9, "objects": [
    {"label": "sky", "polygon": [[0, 0], [8, 0], [8, 3.5]]},
    {"label": "cargroup", "polygon": [[2, 3], [5, 3], [2, 7]], "deleted": 0}]}


@pytest.mark.parametrize("number", few_or_many(1000, 10_000))
def test_polygons(number: int, tmp_path: Path) -> None:
    whole, path = json.dumps(SHAPES).encode(), tmp_path / "a_polygons.json"

    def run(rng: random.Random, case: int) -> bool:
        path.write_bytes(damaged(rng, [whole]))
        return attempt(partial(draw_polygons, path), case)

    run_cases(number, run, least=0.005)
