"""Zip archives: unpacked whole, inside the folder, or not at all; any interruption is mended."""

import multiprocessing
import os
import random
import shutil
import stat
import time
import warnings
import zipfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest

from utils import disk, unpack
from utils.images import shown

RANDOM = random.Random(0)
FILES = {f"train/{i:02d}.png": bytes([i]) * (1000 * i) for i in range(20)} | {
    "train/deep/er/ü.txt": b"text", "val/a b.png": RANDOM.randbytes(5000), "empty": b"",
}


def pack(path: Path, files: dict[str, bytes], method: int = ZIP_DEFLATED, prefix: str = "") -> Path:
    with warnings.catch_warnings(), ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # duplicate names are meant
        archive.mkdir(f"{prefix}train")
        for name, content in files.items():
            archive.writestr(prefix + name, content)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}


def refuse(path: Path, folder: Path, only: str | None = None) -> str:
    """The one line of a refusal that leaves nothing but, perhaps, the part."""
    with pytest.raises((ValueError, OSError)) as caught:
        unpack.unpack(path, folder, only)
    text = getattr(caught.value, "strerror", None) or str(caught.value)
    assert shown(path) in text
    assert text.isprintable()
    assert {p.name for p in folder.glob("*")} <= {f"{path.name}.unpack.partial"}
    return text


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
def test_unpacks_all_and_only_once(method: int, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES, method)
    assert unpack.unpack(path, tmp_path / "out") == len(FILES)
    assert tree(tmp_path / "out") == FILES
    assert unpack.unpack(path, tmp_path / "out") == 0


def test_missing_and_cut_files_come_back(tmp_path: Path) -> None:
    path, out = pack(tmp_path / "x.zip", FILES), tmp_path / "out"
    unpack.unpack(path, out)
    (out / "train/05.png").unlink()
    (out / "val/a b.png").write_bytes(b"short")
    (out / "mine.txt").write_text("stays")
    assert unpack.unpack(path, out) == 2
    assert tree(out) == FILES | {"mine.txt": b"stays"}


@pytest.mark.parametrize("only", ["data-master/CamVid", "*/CamVid", "*/CamVid/", "data-*/Cam*"])
def test_a_folder_of_the_archive(only: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES, prefix="data-master/CamVid/")
    with ZipFile(path, "a") as archive:
        archive.writestr("data-master/README", b"not this")
        archive.writestr("data-master/CamVidOther/train/00.png", b"nor this")
        archive.writestr("data-master/Models/../../outside", b"nor this")
    if only == "data-*/Cam*":  # two folders of one name inside
        assert "there twice" in refuse(path, tmp_path / "out", only)
    else:
        assert unpack.unpack(path, tmp_path / "out", only) == len(FILES)
        assert tree(tmp_path / "out") == FILES


def test_no_such_folder_says_which_there_are(tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES, prefix="top/sub/")
    assert "no files in a folder */CamVid; there are top/sub" in refuse(
        path, tmp_path / "out", "*/CamVid")


@pytest.mark.parametrize(("name", "fault"), [
    ("../evil", "leads out"), ("a/../../evil", "leads out"), ("a/..", "leads out"),
    ("/etc/evil", "absolute"), ("//evil", "absolute"), ("C:/evil", "absolute"), ("c:evil", "absol"),
    ("a\\..\\evil", "plain"), ("..\\evil", "plain"), ("./a", "plain"), ("a//b", "plain"),
    ("a\x1b[2J", "plain"), ("a\nb", "plain"), ("train/00.png", "there twice"),
    ("train/00.png/x", "a file and a folder"), ("train", "a file and a folder"),
])
def test_hostile_names(name: str, fault: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES | {"zz": b"behind"})
    with warnings.catch_warnings(), ZipFile(path, "a") as archive:
        warnings.simplefilter("ignore")
        info = ZipInfo("placeholder")
        info.filename = info.orig_filename = name  # the constructor would mend it
        archive.writestr(info, b"evil")
    text = refuse(path, tmp_path / "in" / "out")
    assert fault in text
    assert shown(name) in text or fault == "a file and a folder"
    assert not (tmp_path / "in" / "out").exists()
    assert {p.name for p in tmp_path.iterdir()} == {"x.zip"}


def test_name_behind_a_zero_byte(tmp_path: Path) -> None:
    """zipfile itself would cut the name there, so that a check and the disk see different ones."""
    path = pack(tmp_path / "x.zip", {"nice.png?/../../evil": b"x"})
    path.write_bytes(path.read_bytes().replace(b"nice.png?", b"nice.png\0"))
    assert "leads out" in refuse(path, tmp_path / "out")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices(kind: int, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES)
    info = ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    with ZipFile(path, "a") as archive:
        archive.writestr(info, "/etc/passwd")
    assert "link: a link or a device" in refuse(path, tmp_path / "out")


def test_modes_are_not_taken(tmp_path: Path) -> None:
    info = ZipInfo("run.sh")
    info.external_attr = (stat.S_IFREG | stat.S_ISUID | 0o777) << 16
    with ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(info, "#!/bin/sh")
    unpack.unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not stat.S_IMODE((tmp_path / "out/run.sh").stat().st_mode) & 0o7111


def patch_directory(path: Path, offset: int, value: bytes) -> None:
    """Changes the last entry of the archive's directory."""
    data = bytearray(path.read_bytes())
    start = data.rfind(b"PK\1\2") + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(("offset", "value", "fault"), [
    (8, b"\1\0", "encrypted"), (8, b"\x40\0", "encrypted"), (10, b"\x09\0", "method 9"),
    (10, b"\x0e\0", "method 14"), (24, b"\xff\xff\xff\x0f", "a bomb"),
    (24, b"\x05\0\0\0", "damaged"), (24, b"\xff\0\0\0", "damaged"), (16, b"\0\0\0\0", "damaged"),
    (20, b"\2\0\0\0", "damaged"), (42, b"\7\0\0\0", "damaged"),
])
def test_a_directory_that_lies(offset: int, value: bytes, fault: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", FILES | {"last": b"twenty bytes of text"})
    patch_directory(path, offset, value)
    text = refuse(path, tmp_path / "out")
    assert fault in text
    assert "last: " in text


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "SMALL", 100_000)
    one = pack(tmp_path / "one.zip", FILES | {"big": bytes(1_000_000)})
    text = refuse(one, tmp_path / "out")
    assert "big: 1,000,000 bytes from" in text
    assert "a bomb" in text
    many = pack(tmp_path / "many.zip", {f"{i}": bytes(90_000) for i in range(300)})
    assert "27,000,000 bytes from" in refuse(many, tmp_path / "out")
    fine = pack(tmp_path / "fine.zip", {"zeros": bytes(99_000), "photo": RANDOM.randbytes(200_000)})
    assert unpack.unpack(fine, tmp_path / "out") == 2


def test_too_large_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, need = pack(tmp_path / "x.zip", FILES), sum(map(len, FILES.values()))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=need - 1))
    with pytest.raises(ValueError, match=r"0\.2 MB are to be written, 0\.2 MB are free"):
        unpack.unpack(path, tmp_path / "out")
    assert tree(tmp_path / "out") == {}
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage._replace(free=need))
    assert unpack.unpack(path, tmp_path / "out") == len(FILES)


@pytest.mark.parametrize("method", [ZIP_STORED, ZIP_DEFLATED])
def test_every_flipped_byte_of_content_is_found(method: int, tmp_path: Path) -> None:
    content = {name: RANDOM.randbytes(150).hex().encode() for name in "ab"}
    whole = pack(tmp_path / "x.zip", content, method).read_bytes()
    with ZipFile(tmp_path / "x.zip") as archive:
        packed = [range(info.header_offset + 31, info.header_offset + 31 + info.compress_size)
                  for info in archive.infolist() if not info.is_dir()]
    for position in (position for member in packed for position in member[:-1:5]):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (tmp_path / "x.zip").write_bytes(damaged)
        text = refuse(tmp_path / "x.zip", tmp_path / "out")
        assert "damaged" in text
        assert ("a: " if position in packed[0] else "b: ") in text


def test_what_is_no_archive(tmp_path: Path) -> None:
    whole = pack(tmp_path / "x.zip", FILES).read_bytes()
    for content in (b"", b"<html>", whole[:-30], whole[: len(whole) // 2], b"PK\5\6" + bytes(18)):
        (tmp_path / "x.zip").write_bytes(content)
        refuse(tmp_path / "x.zip", tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="no such archive"):
        unpack.unpack(tmp_path / "y.zip", tmp_path / "out")
    refuse(tmp_path, tmp_path / "out")


def test_a_folder_where_a_file_belongs(tmp_path: Path) -> None:
    path, out = pack(tmp_path / "x.zip", FILES), tmp_path / "out"
    (out / "empty" / "mine").mkdir(parents=True)
    with pytest.raises(ValueError, match="empty: not written .Is a directory"):
        unpack.unpack(path, out)
    (out / "empty" / "mine").rmdir()
    (out / "empty").rmdir()
    unpack.unpack(path, out)
    assert tree(out) == FILES


@pytest.mark.parametrize(("module", "name"), [
    (shutil, "copyfileobj"), (os, "replace"), (shutil, "rmtree"),
])
def test_interruption_at_every_step(module, name: str, tmp_path: Path, monkeypatch) -> None:
    """Each attempt dies at its fourth call; nothing half-written is ever at its place."""
    path, out = pack(tmp_path / "x.zip", FILES), tmp_path / "out"
    real, calls = getattr(module, name), []

    def dying(*words: object) -> None:
        calls.append(words)
        if len(calls) % 4 == 0 or name == "rmtree":
            if name == "copyfileobj":
                words[1].write(b"half")
            raise KeyboardInterrupt
        real(*words)

    monkeypatch.setattr(module, name, dying)
    attempts = 0
    while name != "rmtree" or attempts == 0:
        try:
            unpack.unpack(path, out)
            break
        except KeyboardInterrupt:
            attempts += 1
        there = {n: c for n, c in tree(out).items() if not n.startswith("x.zip.unpack")}
        assert there.items() <= FILES.items()
        assert name != "copyfileobj" or not there
    # Each attempt went on where the one before was; the file of each interruption is done twice.
    assert attempts == {"copyfileobj": 7, "replace": 7, "rmtree": 1}[name]
    monkeypatch.undo()
    unpack.unpack(path, out)
    assert tree(out) == FILES


def test_part_with_the_right_size_and_wrong_bytes(tmp_path: Path) -> None:
    """As a power failure leaves it, which keeps sizes and loses content."""
    path, out = pack(tmp_path / "x.zip", FILES), tmp_path / "out"
    part = out / "x.zip.unpack.partial" / "train" / "09.png"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(9000))
    unpack.unpack(path, out)
    assert tree(out) == FILES


def test_kill_at_random_instants(tmp_path: Path) -> None:
    files = {f"{i % 7}/{i}": RANDOM.randbytes(4000) for i in range(600)}
    path, out = pack(tmp_path / "x.zip", files, ZIP_STORED), tmp_path / "out"
    fork = multiprocessing.get_context("fork")
    for seed in range(8):
        child = fork.Process(target=unpack.unpack, args=(path, out))
        child.start()
        time.sleep(random.Random(seed).uniform(0, 0.04))
        child.kill()
        child.join()
        there = {n: c for n, c in tree(out).items() if not n.startswith("x.zip.unpack")}
        assert there.items() <= files.items()
    unpack.unpack(path, out)
    assert tree(out) == files
    assert zipfile.is_zipfile(path)
