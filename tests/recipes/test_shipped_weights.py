"""The files in weights/: what their page says of them holds, and they segment streets."""

import hashlib
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import run_script
from PIL import Image

from datasets import TABLES
from model import count_parameters
from model.layers import PaddedSegmenter
from model.snapshot import from_snapshot, load_model, read_snapshot
from utils.images import read_image

WEIGHTS = Path(__file__).parents[2] / "weights"
PAGE = (WEIGHTS / "README.md").read_text()
SUMS = dict(re.findall(r"^\| `(\w+\.pth)` .* ([0-9a-f]{64}) \|$", PAGE, re.M))
CITY = Path(__file__).parents[2] / "data/city"
MOST = {"camvid_fast.pth": 1.5e6}  # parameters; of the others 4.8 million


def test_every_file_has_a_line() -> None:
    assert {path.name for path in WEIGHTS.glob("*.pth")} == SUMS.keys() != set()
    assert sum(path.stat().st_size for path in WEIGHTS.iterdir()) < 25e6


@pytest.mark.parametrize("name", SUMS)
def test_file(name: str) -> None:
    path = WEIGHTS / name
    assert path.stat().st_size < 10e6
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SUMS[name]
    content = torch.load(path, weights_only=True)
    kinds = {key: value.dtype for key, value in content["weights"].items()
             if value.is_floating_point()}
    assert {kind for key, kind in kinds.items() if "running_" in key} == {torch.float32}
    assert {kind for key, kind in kinds.items() if "running_" not in key} == {torch.float16}
    assert json.loads(content["args"])["arch"] == content["model"]["arch"]
    assert not re.search(r"(?<![\w.])/\w+/|[A-Z]:\\\\", content["args"])  # a path of someone's disk
    snapshot = read_snapshot(str(path), weights=True)
    assert snapshot["eval_size"] == 720
    assert snapshot["dataset"]["class_names"] == TABLES["camvid"].class_names
    assert count_parameters(from_snapshot(snapshot)) <= MOST.get(name, 4.8e6)


def test_the_demo_segments_a_street_without_a_snapshot(tmp_path: Path) -> None:
    """A drawn one, which the network has never seen the like of."""
    path = sorted(CITY.glob("leftImg8bit/val/*/*.webp"))[0]
    done = run_script("demo.py", "--demo-image", path, "--save-dir", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "network: weights/camvid.pth, 11 classes of streets (CamVid)" in done.stdout
    ids = np.asarray(Image.open(next(tmp_path.glob("*_id_mask.png"))))
    name = path.stem.replace("leftImg8bit", "gtFine_labelIds.png")
    truth = np.asarray(Image.open(next(CITY.glob(f"gtFine/val/*/{name}"))))
    for theirs, ours, least in ((7, "road", 0.9), (21, "tree", 0.6), (11, "building", 0.5)):
        right = ids[truth == theirs] == TABLES["camvid"].class_names.index(ours)
        assert right.mean() > least, ours


def zeros(self: PaddedSegmenter, x: torch.Tensor) -> torch.Tensor:
    height, width = x.shape[-2:]
    return F.pad(x, (0, self.padding(width), 0, self.padding(height)))


@pytest.mark.parametrize("mirrored", [True, False])
@torch.no_grad()
def test_a_picture_is_seen_alike_where_it_is_cut(
    mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """360 rows, which are no multiple of 32, and the same continued to 384; not so with zeros."""
    if not mirrored:
        monkeypatch.setattr(PaddedSegmenter, "pad", zeros)
    network, alike = load_model(WEIGHTS / "camvid_fast.pth"), []
    for path in sorted(CITY.glob("leftImg8bit/val/*/*.webp"))[:8]:
        street = cv2.resize(read_image(path), (1920, 960), interpolation=cv2.INTER_CUBIC)
        pixels = torch.from_numpy(street[576:, :1024]).permute(2, 0, 1)[None]
        cut, whole = (network(pixels[:, :, :rows]).argmax(1)[:, 328:360] for rows in (360, 384))
        alike.append((cut == whole).double().mean().item())
    assert (np.mean(alike) >= 0.95) == mirrored
