"""Zip archives of strangers: what must not be read of them is told from the directory alone."""

import os
import stat
import warnings
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest

from utils.submission import package
from utils.submission.package import open_members


def pack(path: Path, *members: tuple[str | ZipInfo, bytes]) -> Path:
    with warnings.catch_warnings(), ZipFile(path, "w", 8) as archive:
        warnings.simplefilter("ignore")  # odd names are meant
        archive.writestr("train/00.png", b"whole")
        for name, content in members:
            archive.writestr(name, content)
    return path


def faults(path: Path) -> list[str]:
    with open_members(path) as members:
        return [member.fault for member in members]


@pytest.mark.parametrize(("name", "fault"), [
    ("../evil", "leads out"), ("a/../../evil", "leads out"), ("a/..", "leads out"),
    ("/etc/evil", "absolute"), ("//evil", "absolute"), ("C:/evil", "absolute"), ("c:evil", "absol"),
    ("a\\..\\evil", "plain"), ("..\\evil", "plain"), ("./a", "plain"), ("a//b", "plain"),
    ("a\x1b[2J", "plain"), ("a\nb", "plain"),
])
def test_hostile_names(name: str, fault: str, tmp_path: Path) -> None:
    info = ZipInfo("any")
    info.filename = info.orig_filename = name  # the constructor would mend it
    first, last = faults(pack(tmp_path / "x.zip", (info, b"evil")))
    assert not first
    assert fault in last


def test_name_behind_a_zero_byte(tmp_path: Path) -> None:
    """zipfile itself would cut the name there, so that a check and the disk see different ones."""
    path = pack(tmp_path / "x.zip", ("nice.png?/../../evil", b"x"))
    path.write_bytes(path.read_bytes().replace(b"nice.png?", b"nice.png\0"))
    assert "leads out" in faults(path)[1]


@pytest.mark.parametrize(("kind", "fault"), [
    (stat.S_IFLNK, "a link or a device"), (stat.S_IFIFO, "a link or a device"),
    (stat.S_IFCHR, "a link or a device"), (stat.S_IFSOCK, "a link or a device"),
    (stat.S_IFREG, ""), (0, ""),
])
def test_links_and_devices(kind: int, fault: str, tmp_path: Path) -> None:
    info = ZipInfo("link")
    info.external_attr = (kind | 0o777) << 16
    assert faults(pack(tmp_path / "x.zip", (info, b"/etc/passwd"))) == ["", fault]


@pytest.mark.parametrize(("offset", "value", "fault"), [
    (8, b"\1\0", "encrypted"), (8, b"\x40\0", "encrypted"), (10, b"\x09\0", "method 9"),
    (10, b"\x0e\0", "method 14"), (24, b"\xff\xff\xff\x0f", "a bomb"),
])
def test_a_directory_that_lies(offset: int, value: bytes, fault: str, tmp_path: Path) -> None:
    path = pack(tmp_path / "x.zip", ("last", b"twenty bytes of text"))
    data = bytearray(path.read_bytes())
    start = data.rfind(b"PK\1\2") + offset
    data[start : start + len(value)] = value
    path.write_bytes(data)
    assert fault in faults(path)[1]


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package, "SMALL", 100_000)
    path = pack(tmp_path / "x.zip", ("big", bytes(1_000_000)), ("fine", bytes(99_000)))
    _, big, fine = faults(path)
    assert "1,000,000 bytes from" in big
    assert "a bomb" in big
    assert not fine


def test_what_is_no_archive(tmp_path: Path) -> None:
    whole = pack(tmp_path / "x.zip").read_bytes()
    for content in (b"", b"<html>", whole[:-30], whole[: len(whole) // 2]):
        (tmp_path / "x.zip").write_bytes(content)
        with pytest.raises(ValueError, match="not a whole zip archive"):
            faults(tmp_path / "x.zip")
    with pytest.raises(FileNotFoundError, match="no such archive"):
        faults(tmp_path / "y.zip")
    os.mkfifo(tmp_path / "z.zip")
    with pytest.raises(ValueError, match="cannot be read"):
        faults(tmp_path / "z.zip")
