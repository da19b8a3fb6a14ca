"""Mosaics and pasted pixels: of what samples alone give, functions of seed, epoch, position."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import build_dataset
from datasets.base import SampleKey
from datasets.sampling.epoch_lists import AllImages, ClassUniformLists, find_centroids
from datasets.sampling.mixing import Mosaic, Paste
from datasets.sampling.sampler import TrainSampler
from datasets.transforms import PADDING, TrainTransform
from utils.labels import IGNORE
from utils.workers import Loader, Stream

CPU = torch.device("cpu")
HALF = 24, 20
FULL = 48, 40


@pytest.fixture
def root(data_roots: dict[str, Path]) -> Path:
    return data_roots["camvid"]


def mosaic(
    root: Path, share: float = 1, uniform: float = 0.0, seed: int = 3, **options: object
) -> Mosaic:
    train = build_dataset("camvid", root, "train", TrainTransform(FULL, seed=seed, **options))
    if not uniform:
        return Mosaic(train, AllImages((5, 5)), share)
    centroids = find_centroids(train, tile=20)
    centroids = centroids[centroids[:, 1] < 2]
    return Mosaic(train, ClassUniformLists((5, 5), 2, centroids, uniform, seed=3), share)


def keys_of(dataset: Mosaic, key: tuple) -> list:
    """Keys that the tiles are read with."""
    class Recorder:
        def __init__(self, tiles: object) -> None:
            self.tiles, self.keys = tiles, []

        def __getitem__(self, key: tuple) -> object:
            self.keys.append(key)
            return self.tiles[key]

    whole, dataset.tiles = dataset.tiles, Recorder(dataset.tiles)
    dataset[key]
    recorder, dataset.tiles = dataset.tiles, whole
    return recorder.keys


@pytest.mark.parametrize("uniform", [0.0, 0.8])
def test_each_quadrant_is_what_its_sample_alone_gives(uniform: float, root: Path) -> None:
    dataset, flips = mosaic(root, uniform=uniform), 0
    alone = build_dataset("camvid", root, "train", TrainTransform(HALF, seed=3))
    used: set = set()
    for position, item in enumerate(dataset.others.lists.build(2) * 4):
        keys = keys_of(dataset, (2, position, *item))
        assert keys[0] == (2, position, *item)
        image, target = dataset[2, position, *item]
        assert image.shape == (*FULL, 3)
        assert target.shape == FULL
        corners = [(0, 0), (0, HALF[1]), (HALF[0], 0), HALF]
        for (top, left), key in zip(corners, keys, strict=True):
            rows, columns = slice(top, top + HALF[0]), slice(left, left + HALF[1])
            expected = alone[key]
            assert torch.equal(image[rows, columns], expected[0])
            assert torch.equal(target[rows, columns], expected[1])
            flips += alone.transform.draw((60, 80), *key[:2], key[3]).flip
            used.add(key)
    assert len({key[:2] for key in used}) == len(used), "no two tiles have one augmentation"
    assert 0.3 < flips / len(used) < 0.7
    items = dataset.others.lists.build(2)
    assert {key[2:] for key in used} == set(items), "any item of the epoch may be beside another"
    assert any(center for _, center in items) == (uniform > 0)


def test_a_mosaic_is_a_function_of_seed_epoch_and_position(root: Path) -> None:
    first, again = mosaic(root), pickle.loads(pickle.dumps(mosaic(root)))
    key = 1, 2, 3, None
    for a, b in zip(first[key], again[key], strict=True):
        assert torch.equal(a, b)
    assert keys_of(first, (0, 2, 3, None)) != keys_of(first, key)
    assert torch.equal(first[key][0], again[key][0]), "whatever epoch was before"
    assert [keys_of(mosaic(root, seed=seed), key)[1:] == keys_of(first, key)[1:]
            for seed in (3, 4)] == [True, False]
    others = {keys_of(first, (1, position, 3, None))[1][2] for position in range(30)}
    assert others == set(range(5))


def test_some_are_mosaics_and_the_rest_is_plain(root: Path) -> None:
    dataset, plain = mosaic(root, share=0.3), 0
    for position in range(200):
        key = 0, position, position % 5, None
        plain += all(map(torch.equal, dataset[key], dataset.train[key]))
    assert 110 < plain < 170


def test_seeds_make_mosaics_of_samples_of_their_own(root: Path) -> None:
    whole = [[torch.equal(dataset[key][1], dataset.train[key][1])
              for position in range(30) for key in [(0, position, position % 5, None)]]
             for dataset in (mosaic(root, share=0.5, seed=seed) for seed in (3, 4))]
    assert whole[0] != whole[1]


def test_an_epoch_has_its_own_items_only(root: Path) -> None:
    dataset = mosaic(root)
    dataset.others.lists = AllImages((2, 5), until=3)
    indices = [{key[2] for p in range(40) for key in keys_of(dataset, (epoch, p, 0, None))}
               for epoch in (2, 3)]
    assert indices == [{0, 1, 2, 3, 4}, {0, 1}]


def test_padding_is_ignored_in_every_tile(root: Path) -> None:
    dataset = mosaic(root, scale=(0.1, 0.1), jitter=0, hue=0, blur=0)
    image, target = dataset[0, 0, 0, None]
    padded = target == IGNORE
    for rows in (slice(0, 24), slice(24, 48)):
        for columns in (slice(0, 20), slice(20, 40)):
            part = padded[rows, columns]
            assert part.float().mean() > 0.8
            assert (image[rows, columns][part] == torch.tensor(PADDING)).all(1).float().mean() > 0.9
    assert not padded.all()


@pytest.mark.parametrize("start", [0, 1])
def test_batches_from_any_step_and_worker(start: int, root: Path) -> None:
    def batches(start: int, workers: int) -> list:
        train = build_dataset("camvid", root, "train", TrainTransform(FULL, seed=1))
        sampler = TrainSampler(AllImages((5, 5)), 2, (1, 1, 2), seed=1)
        sampler.start_step = start
        samples = Mosaic(train, sampler.lists, 0.5)
        return list(Loader(samples, workers, CPU, batch_sampler=sampler))

    whole = batches(0, 0)
    assert len(whole) == 4
    for found, expected in zip(batches(start, 2), whole[start:], strict=True):
        assert all(map(torch.equal, found, expected))


def test_global_generators_are_not_touched(root: Path) -> None:
    dataset, key = mosaic(root), (0, 0, 0, None)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    dataset[key]
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002


def paste(root: Path, share: float = 1.0, classes: tuple = (2, 5), seed: int = 3) -> Paste:
    train = build_dataset("camvid", root, "train", TrainTransform(FULL, seed=seed))
    return Paste(train, train, AllImages((5, 5)), share, classes)


def test_pasted_pixels_are_another_sample_s(root: Path) -> None:
    dataset, changed = paste(root), 0
    for position in range(20):
        key = SampleKey(0, position, position % 5)
        (image, target), (plain, labels) = dataset[key], dataset.train[key]
        rng = np.random.default_rng((Stream.PASTE, 3, 0, position))
        assert rng.random() < 1
        other = dataset.others.draw(key, rng, (4,))[0]
        assert other.position == position + (4 << 32)
        theirs, their_labels = dataset.train[other]
        pasted = (their_labels == 2) | (their_labels == 5)
        assert torch.equal(image[pasted], theirs[pasted])
        assert torch.equal(target[pasted], their_labels[pasted])
        assert torch.equal(image[~pasted], plain[~pasted])
        assert torch.equal(target[~pasted], labels[~pasted])
        changed += int(pasted.any())
    assert changed > 10


def test_a_share_is_pasted_into_the_same_ones_however_it_is_read(root: Path) -> None:
    dataset, again = paste(root, share=0.4), pickle.loads(pickle.dumps(paste(root, share=0.4)))
    keys = [SampleKey(epoch, position, position % 5) for epoch in (0, 1) for position in range(30)]
    changed = 0
    for key in keys:
        image, _ = dataset[key]
        assert torch.equal(image, again[key][0])
        changed += not torch.equal(image, dataset.train[key][0])
    assert 12 <= changed <= 36
    assert all(torch.equal(a, b) for a, b in zip(paste(root, 0)[keys[3]], dataset.train[keys[3]],
                                                 strict=True))


def test_mosaics_get_pasted_pixels_too(root: Path) -> None:
    made = mosaic(root)
    dataset = Paste(made, made.train, AllImages((5, 5)), 1, (2, 5))
    image, target = dataset[SampleKey(0, 1, 1)]
    plain, labels = made[SampleKey(0, 1, 1)]
    same = (image == plain).all(-1) & (target == labels)
    assert 0 < same.sum() < same.numel()
    assert set(target[~same].tolist()) <= {2, 5}
