"""Labels and instances as runs of equal pixels: the same figures, made again when files change."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import cut_city, run_script

from datasets import build_dataset
from datasets.evaluation.scored_set import ScoredSet, open_truth
from utils.images import read_instances, read_label, write_png
from utils.labels import from_runs, to_runs


@pytest.fixture
def city(tmp_path: Path) -> Path:
    root = cut_city(tmp_path / "city", 3)
    for sample in build_dataset("cityscapes", root, "val").samples:
        write_png(tmp_path / "pred" / f"{sample.name}.png",
                  np.roll(read_label(sample.truth), (2, 5), (0, 1)))
    return root


def open_scored(root: Path, cached: bool, images: bool = False) -> ScoredSet:
    scored = ScoredSet(build_dataset("cityscapes", root, "val"), "cityscapes", images)
    if cached:
        scored.truth = open_truth(scored.dataset, 2)
    return scored


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_runs_give_the_pixels_back(dtype: type) -> None:
    generator = np.random.default_rng(0)
    for shape in ((1, 1), (1, 7), (5, 1), (40, 60)):
        pixels = generator.integers(0, 3, shape).astype(dtype) * 85
        runs = to_runs(pixels)
        assert runs[0].sum() == pixels.size
        assert (np.diff(runs[1]) != 0).all()  # no run is two
        assert (from_runs(runs, shape) == pixels).all()


@pytest.mark.parametrize("images", [False, True])
def test_cached_samples_are_the_files(city: Path, images: bool) -> None:
    plain, cached = open_scored(city, False, images), open_scored(city, True, images)
    for index in range(3):
        for one, other in zip(plain[index], cached[index], strict=True):
            assert one is None and other is None or (one == other).all()
    assert (cached[0][2][1] > 1000).any()  # instances


def test_same_scores_from_the_cache(city: Path) -> None:
    texts = []
    for i, words in enumerate(([], ["--cache-truth"], ["--cache-truth"])):
        path = city.parent / f"{i}.json"
        done = run_script("evaluate.py", "--predictions", city.parent / "pred", "--dataset",
                          "cityscapes", "--data-root", city, "--json", path, *words,
                          ranks=2 * (i == 2))
        assert done.returncode == 0, done.stderr
        texts.append(path.read_text())
        parts = list((city / ".streetseg").glob("truth_*.data"))
        assert len(parts) == (i > 0)
    assert texts[0] == texts[1] == texts[2]
    assert json.loads(texts[0])["averageScoreInstClasses"] > 0.05


@pytest.mark.parametrize("kind", ["label", "instance"])
def test_made_again_when_a_file_changes(city: Path, kind: str) -> None:
    sample = open_scored(city, True).dataset.samples[1]
    path = getattr(sample, kind)
    read = read_label if kind == "label" else read_instances
    changed = np.where(read(path) == 7, 8, read(path))
    write_png(path, changed)
    os.utime(path, (1, 1))
    _, labels, runs = open_scored(city, True)[1]
    found = labels if kind == "label" else np.repeat(runs[1], runs[0]).reshape(changed.shape)
    assert (found == changed).all()


def test_damage_is_found(city: Path) -> None:
    scored = open_scored(city, True)
    data, = (city / ".streetseg").glob("truth_*.data")
    content = bytearray(data.read_bytes())
    content[100] ^= 255
    data.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or cut off; delete the file"):
        _ = scored[0]
    data.unlink()
    _ = open_scored(city, True)[0]


@pytest.mark.parametrize("cached", [False, True])
def test_instances_of_another_size(city: Path, cached: bool) -> None:
    path = open_scored(city, False).dataset.samples[0].instance
    write_png(path, read_instances(path).T.copy())
    with pytest.raises(ValueError, match="96x192, its label 192x96"):
        _ = open_scored(city, cached)[0]
