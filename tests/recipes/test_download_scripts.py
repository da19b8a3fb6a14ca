"""The download scripts, with archives at hand in place of the servers'."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT

CAMVID = {"train": 367, "trainannot": 367, "val": 101, "valannot": 101, "test": 233}
KITTI = {"training/image_2": 200, "training/semantic": 200, "testing/image_2": 200}
CITYSCAPES = {"gtFine/train/x": 2975, "gtFine/val/x": 500}


def pack(path: Path, counts: dict[str, int], top: str = "", ending: str = ".png") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.md", "of the archive")
        for folder, count in counts.items():
            for i in range(count):
                archive.writestr(f"{top}{folder}/{i}{ending}", f"{folder} {i}")
    return path


def download(script: str, *words: object, **env: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["bash", ROOT / "scripts" / script, *map(str, words)], capture_output=True, text=True,
        stdin=subprocess.DEVNULL, timeout=120,
        env={**os.environ, **{name: str(value) for name, value in env.items()}},
    )


def test_camvid(tmp_path: Path) -> None:
    served = pack(tmp_path / "served/a.zip", CAMVID, "SegNet-main/CamVid/")
    out = tmp_path / "my data"
    env = {"CAMVID_URL": f"file://{served}"}
    done = download("download_camvid.sh", "--to", out, **env)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"CamVid is in {out}"), done
    assert (out / "trainannot/7.png").read_text() == "trainannot 7"
    assert not (out / "README.md").exists()
    assert not list(out.glob(".unpacking*"))
    served.unlink()  # what is there is not asked for again
    (out / "val/3.png").unlink()
    again = download("download_camvid.sh", "--to", out, **env)
    assert again.returncode == 0, again
    assert (out / "val/3.png").read_text() == "val 3"
    third = download("download_camvid.sh", "--to", out, **env)
    assert "unpacking" not in third.stdout


def test_an_archive_that_knows_the_stage(tmp_path: Path) -> None:
    """A folder in it that is named as the one that it is unpacked in comes out as any other."""
    served = pack(tmp_path / "served/a.zip", CAMVID | {".unpacking/val": 2}, "SegNet-main/CamVid/")
    out = tmp_path / "out"
    (out / ".unpacking-abcdef").mkdir(parents=True)  # of a killed process
    done = download("download_camvid.sh", "--to", out, CAMVID_URL=f"file://{served}")
    assert done.returncode == 0, done
    assert (out / ".unpacking/val/1.png").read_text() == ".unpacking/val 1"
    assert [path.name for path in out.glob(".unpacking*")] == [".unpacking"]


def test_interrupted_and_damaged(tmp_path: Path) -> None:
    served = pack(tmp_path / "served/a.zip", KITTI)
    out = tmp_path / "kitti"
    archive = out / "data_semantics.zip"
    out.mkdir()
    archive.write_bytes(served.read_bytes()[:5000])
    env = {"KITTI_URL": f"file://{served}", "KITTI_DATASET": out}
    assert download("download_kitti.sh", **env).returncode == 0
    assert archive.read_bytes() == served.read_bytes()
    assert (out / "training/image_2/0.png").exists()
    data = bytearray(served.read_bytes())
    data[data.index(b"testing/image_2 0")] ^= 1
    served.write_bytes(data)
    other = tmp_path / "other"
    done = download("download_kitti.sh", "--to", other, **env)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"error: {other}/data_semantics.zip: damaged; delete it and run this again")
    assert [path.name for path in other.iterdir()] == ["data_semantics.zip"]


def test_too_few_files(tmp_path: Path) -> None:
    served = pack(tmp_path / "a.zip", KITTI | {"testing/image_2": 199})
    done = download("download_kitti.sh", "--to", tmp_path / "out", KITTI_URL=f"file://{served}")
    assert done.returncode == 2
    assert "testing/image_2/*.png: 199 files, expected 200" in done.stderr


def test_no_such_address(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/nothing.zip"
    done = download("download_kitti.sh", "--to", tmp_path / "out", KITTI_URL=url)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f"error: {url}: curl stopped with code ")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A csDownload that notes how it was called and goes on with what is there."""
    folder = tmp_path / "bin"
    pack(tmp_path / "served/gtFine_trainvaltest.zip", CITYSCAPES, ending="_labelIds.png")
    folder.mkdir()
    (folder / "csDownload").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n'
        f'tail -c +$(( $(cat "$3/$4" 2>/dev/null | wc -c) + 1 )) {tmp_path}/served/$4 >> "$3/$4"\n')
    (folder / "csDownload").chmod(0o755)
    return folder


def test_cityscapes(programs: Path, tmp_path: Path) -> None:
    out, package = tmp_path / "city", "gtFine_trainvaltest.zip"
    out.mkdir()
    (out / package).write_bytes((tmp_path / "served" / package).read_bytes()[:999])
    env = {"PATH": f"{programs}:{os.environ['PATH']}"}
    for _ in range(2):
        done = download("download_cityscapes.sh", package, "--to", out, **env)
        assert done.returncode == 0, done
    assert (out / "gtFine/val/x/499_labelIds.png").exists()
    assert (tmp_path / "calls").read_text() == f"-r -d {out} {package}\n"  # once, and no login


@pytest.mark.parametrize(("script", "missing"), [
    ("download_camvid.sh", "curl"), ("download_kitti.sh", "unzip"),
    ("download_cityscapes.sh", "csDownload"),
])
def test_missing_programs(script: str, missing: str, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "mkdir", "sed", "curl", "unzip"):
        found = subprocess.run(["sh", "-c", f"command -v {name}"], capture_output=True, text=True)
        if name != missing:
            (programs / name).symlink_to(found.stdout.strip())
    done = download(script, "--to", tmp_path / "out", PATH=programs, VIRTUAL_ENV=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {missing}: not installed; ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("script", ["camvid", "kitti", "cityscapes"])
def test_help_and_wrong_words(script: str) -> None:
    done = download(f"download_{script}.sh", "--help")
    assert done.returncode == 0
    assert f"./scripts/download_{script}.sh" in done.stdout
    assert "set -" not in done.stdout
    for words in (["--nonsense"], ["--to"]):
        done = download(f"download_{script}.sh", *words)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {words[0]}: ")
