"""The check of packages for benchmark servers: every kind of wrong package is named."""

import os
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_folder
from PIL import Image

from datasets import DATASETS, build_dataset
from datasets.evaluation.predictions import LAYOUTS, expected_package
from utils.files import shown
from utils.submission.package import find_fault, inspect

Files = dict[str, bytes]
KITTI = "semantic/000000_10.png"
CITY = "bonn_000000_000019.png"


def png(array: np.ndarray, **options: object) -> bytes:
    stream = BytesIO()
    Image.fromarray(array).save(stream, "PNG", **options)
    return stream.getvalue()


def split_of(name: str) -> str:
    return "val" if name == "folder" else "test"


def package_of(name: str, root: Path, split: str | None = None):
    dataset = build_dataset(name, root, split or split_of(name))
    return expected_package(name, dataset)


def right_files(name: str, root: Path, split: str | None = None) -> Files:
    """A package as it should be: every class in every file."""
    rng = np.random.default_rng(0)
    package = package_of(name, root, split)
    return {path: png(rng.choice(np.uint8(package.train_id_to_id), size))
            for path, size in package.sizes.items()}


def write_package(path: Path, files: Files | list[tuple[str | zipfile.ZipInfo, bytes]]) -> Path:
    items = files.items() if isinstance(files, dict) else files
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names that are there already
        for name, data in items:
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"a\\b", "ü".encode(), b"a b'"])
def test_names_that_no_zip_holds(name: bytes, tmp_path: Path) -> None:
    """Said before anything is predicted; of no others."""
    root, own = draw_folder(tmp_path), os.fsdecode(name)
    for kind in ("images", "labels"):
        (root / kind / "val/1.png").rename(root / kind / f"val/{own}.png")
    if name[:1] in (b"\xff", b"a") and b" " not in name:
        said = f"^{re.escape(shown(own))}: packages have names in UTF-8 alone, without "
        with pytest.raises(ValueError, match=said):
            package_of("folder", root)
    else:
        write_package(tmp_path / "x.zip", right_files("folder", root))
        assert not inspect(tmp_path / "x.zip", package_of("folder", root)).faults


@pytest.mark.parametrize("name", DATASETS)
def test_right_package_is_accepted(name: str, data_roots: dict[str, Path], call, tmp_path) -> None:
    files = right_files(name, data_roots[name])
    words = ["--dataset", name, "--data-root", data_roots[name], "--split", split_of(name)]
    done = call("test.py", "--check-zip", write_package(tmp_path / "x.zip", files), *words)
    assert done.returncode == 0, done.stderr
    assert f"x.zip: {len(files)} predictions" in done.stdout
    assert "palette" not in done.stdout
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        archive.extractall(tmp_path / "x")
    done = call("test.py", "--check-zip", tmp_path / "x", *words)
    assert done.returncode == 0, done.stderr


def test_published_numbers_are_said(data_roots: dict[str, Path]) -> None:
    numbers = {name: package_of(name, data_roots[name]).published for name in DATASETS}
    assert numbers == {"cityscapes": 1525, "kitti": 200, "camvid": 233, "mapillary": 5000,
                       "mapillary_v2": 5000, "folder": None}
    assert set(LAYOUTS) <= set(DATASETS)


def test_legal_ids(data_roots: dict[str, Path]) -> None:
    """Those of the table, also the ones that do not count; never 255."""
    packages = {name: package_of(name, data_roots[name]) for name in DATASETS}
    legal = {name: package.legal.nonzero()[0].tolist() for name, package in packages.items()}
    assert legal["cityscapes"] == legal["kitti"] == list(range(34))
    assert legal["camvid"] == list(range(12))
    assert legal["mapillary"] == list(range(6))
    assert legal["folder"] == [0, 3, 7, 200]
    voids = {name: package.void for name, package in packages.items()}
    assert voids == {"cityscapes": 0, "kitti": 0, "camvid": 11, "mapillary": 3, "mapillary_v2": 3,
                     "folder": 0}


def as_train_ids(data: bytes) -> bytes:
    classes = [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
    return png(np.uint8(np.searchsorted(classes, np.asarray(Image.open(BytesIO(data))))))


def with_id(number: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        ids = np.array(Image.open(BytesIO(data)))
        ids[0, 0] = number
        return png(ids)

    return change


def ids_of(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(data)))


def jpeg(data: bytes) -> bytes:
    stream = BytesIO()
    Image.fromarray(ids_of(data)).save(stream, "JPEG")
    return stream.getvalue()


def flipped_bit(data: bytes) -> bytes:
    """Another id, in a file that can be decoded."""
    data = png(ids_of(data), compress_level=0)
    return data[:999] + bytes([data[999] ^ 1]) + data[1000:]


def broken_header(data: bytes) -> bytes:
    return data[:16] + struct.pack(">II", 1 << 30, 1 << 30) + data[24:]


WRONG_FILES = {
    "wrong size": (lambda data: png(ids_of(data)[:-1]), "not the size of its image: 96x47"),
    "color": (lambda data: png(np.stack([ids_of(data)] * 3, 2)), "a color picture, not ids"),
    "color with alpha": (lambda data: png(np.stack([ids_of(data)] * 4, 2)), "a color picture"),
    "16 bit": (lambda data: png(ids_of(data).astype(np.uint16)), "8 bits: 16 bits"),
    "1 bit": (lambda data: png(ids_of(data) > 9), "8 bits: 1 bits"),
    "train ids": (as_train_ids, "train ids, not ids: 7 is the id of the first class, not 0"),
    "train ids and 255": (lambda data: with_id(255)(as_train_ids(data)), "train ids, not ids"),
    "id 34": (with_id(34), "ids that the data set does not have: 34"),
    "id 255": (with_id(255), "ids that the data set does not have: 255"),
    "half-written": (lambda data: data[: len(data) // 2], "a damaged or half-written PNG"),
    "no end": (lambda data: data[:-12], "a damaged or half-written PNG"),
    "flipped bit": (flipped_bit, "a damaged or half-written PNG"),
    "broken header": (broken_header, "a damaged or half-written PNG"),
    "empty": (lambda data: b"", "not a PNG"),
    "JPEG": (jpeg, "not a PNG"),
    "huge": (lambda data: data + bytes(2_000_000), "larger than any picture of that size"),
}


@pytest.mark.parametrize("how", WRONG_FILES)
def test_wrong_file_is_named(how: str, data_roots: dict[str, Path], call, tmp_path: Path) -> None:
    change, said = WRONG_FILES[how]
    files = right_files("kitti", data_roots["kitti"])
    files[KITTI] = change(files[KITTI])
    path = write_package(tmp_path / "x.zip", files)
    done = call("test.py", "--check-zip", path, "--dataset", "kitti",
                "--data-root", data_roots["kitti"])
    assert done.returncode == 2
    first, line = done.stderr.splitlines()
    assert first == f"error: {path}: no server would score this rightly; faults: 1"
    assert line.startswith(f"  {KITTI}: ")
    assert said in line


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def squeezed(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_LZMA
    return info


MISSING = f"{KITTI}: missing"
LEADS_OUT = "leads out of the folder"
WRONG_NAMES = {  # what the first file of KITTI is replaced by, what is said
    "missing": ([], [MISSING]),
    "extra": ([KITTI, "notes.txt"], ["notes.txt: does not belong here"]),
    "twice": ([KITTI, KITTI], [f"{KITTI}: there more than once: {KITTI}, {KITTI}"]),
    "no folder": (["000000_10.png"], [f"000000_10.png: in the wrong folder: expected as {KITTI}"]),
    "one folder more": ([f"mine/{KITTI}"], [f"mine/{KITTI}: in the wrong folder"]),
    "beside the right one": ([KITTI, "000000_10.png"], ["000000_10.png: does not belong here"]),
    "suffix": (["semantic/000000_10_pred.png"], ["000000_10_pred.png: does not", MISSING]),
    "parent": ([f"../{KITTI}"], [f"../{KITTI}: {LEADS_OUT}", MISSING]),
    "absolute": ([f"/{KITTI}"], [f"/{KITTI}: an absolute path", MISSING]),
    "drive": ([f"C:/{KITTI}"], [f"C:/{KITTI}: an absolute path", MISSING]),
    "backslash": (["semantic\\000000_10.png"], ["000000_10.png: not a plain path", MISSING]),
    "dot": ([f"./{KITTI}"], [f"./{KITTI}: not a plain path", MISSING]),
    "control character": ([KITTI, "\x1b[2J"], ["\\x1b[2J: not a plain path"]),
    "link": ([link(KITTI)], [f"{KITTI}: a link or a device", MISSING]),
    "LZMA": ([squeezed(KITTI)], [f"{KITTI}: compressed by method 14, which", MISSING]),
}


@pytest.mark.parametrize("how", WRONG_NAMES)
def test_wrong_name_is_named(how: str, data_roots: dict[str, Path], call, tmp_path: Path) -> None:
    names, said = WRONG_NAMES[how]
    files = right_files("kitti", data_roots["kitti"])
    data = files.pop(KITTI)
    path = write_package(tmp_path / "x.zip", [*files.items(), *((name, data) for name in names)])
    done = call("test.py", "--check-zip", path, "--dataset", "kitti",
                "--data-root", data_roots["kitti"])
    assert done.returncode == 2
    lines = done.stderr.splitlines()[1:]
    assert len(lines) == len(said)
    assert all(part in line for part, line in zip(said, lines, strict=True))
    assert [file.name for file in tmp_path.iterdir()] == ["x.zip"], "nothing is unpacked"


def test_cityscapes_is_found_as_its_scorer_does(
    data_roots: dict[str, Path], call, tmp_path: Path
) -> None:
    """In any folder, with anything behind the frame number, but once; not by a part of a name."""
    root = data_roots["cityscapes"]
    words = ["--dataset", "cityscapes", "--data-root", root]
    files = right_files("cityscapes", root)
    moved = {f"mine/{name[:-4]}_gtFine_predictionIds.png": data for name, data in files.items()}
    done = call("test.py", "--check-zip", write_package(tmp_path / "x.zip", moved), *words)
    assert done.returncode == 0, done.stderr
    color = png(np.zeros((64, 128, 3), np.uint8))
    both = {**files, "color/bonn_000000_000019_color.png": color}
    done = call("test.py", "--check-zip", write_package(tmp_path / "x.zip", both), *words)
    assert done.returncode == 2
    assert f"{CITY}: there more than once: {CITY}, color/bonn_000000" in done.stderr
    renamed = {f"x_{name}": data for name, data in files.items()}
    done = call("test.py", "--check-zip", write_package(tmp_path / "x.zip", renamed), *words)
    assert "x_bonn_000000_000019.png: does not belong here" in done.stderr
    assert "faults: 4" in done.stderr


def test_palette_indices_are_ids(data_roots: dict[str, Path], call, tmp_path: Path) -> None:
    files = right_files("cityscapes", data_roots["cityscapes"])
    image = Image.fromarray(ids_of(files[CITY]))
    image.putpalette(list(range(256)) * 3)
    stream = BytesIO()
    image.save(stream, "PNG")
    files[CITY] = stream.getvalue()
    done = call("test.py", "--check-zip", write_package(tmp_path / "x.zip", files),
                "--dataset", "cityscapes", "--data-root", data_roots["cityscapes"])
    assert done.returncode == 0, done.stderr
    assert "note: 1 are palette PNGs" in done.stdout


def test_list_is_capped_and_counted(data_roots: dict[str, Path], call, tmp_path: Path) -> None:
    files = right_files("kitti", data_roots["kitti"], "trainval")
    files = {name: as_train_ids(data) for name, data in list(files.items())[1:]}
    path = write_package(tmp_path / "x.zip", files)
    done = call("test.py", "--check-zip", path, "--dataset", "kitti",
                "--data-root", data_roots["kitti"], "--split", "trainval")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert lines[0].endswith("faults: 8")
    assert lines[1] == f"  {KITTI}: missing"
    assert len(lines) == 2 + 5 + 1
    assert lines[-1] == "  and 2 more: train ids, not ids (7 in all)"


@pytest.mark.parametrize("present", [[7], [0], [0, 7, 11], [7, 8, 11, 17], [0, 8, 13], [4, 7, 23],
                                     [7, 7, 8, 11, 4]])
def test_ids_are_not_taken_for_train_ids(present: list[int], data_roots: dict[str, Path]) -> None:
    ids = np.resize(np.uint8(present), (48, 96))
    package = package_of("kitti", data_roots["kitti"])
    assert find_fault("x", png(ids), (48, 96), package) is None


@pytest.mark.parametrize(("content", "said"), [
    (None, "no such archive"), (b"", "not a whole zip archive"), (b"PK\3\4", "not a whole zip"),
])
def test_no_package(
    content: bytes | None, said: str, data_roots: dict[str, Path], call, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / "x.zip").write_bytes(content)
    done = call("test.py", "--check-zip", tmp_path / "x.zip", "--dataset", "kitti",
                "--data-root", data_roots["kitti"])
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_damage_within_the_archive(data_roots: dict[str, Path], call, tmp_path: Path) -> None:
    path = write_package(tmp_path / "x.zip", right_files("kitti", data_roots["kitti"]))
    data = bytearray(path.read_bytes())
    data[200] ^= 1
    path.write_bytes(data)
    done = call("test.py", "--check-zip", path, "--dataset", "kitti",
                "--data-root", data_roots["kitti"])
    assert f"{KITTI}: cannot be read: Bad CRC-32" in done.stderr
