"""What epochs consist of: propagated frames, coarse labels, class-uniform crops; training on it."""

from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import blobs, draw_camvid, draw_cityscapes, paint
from test_options import run, same

from datasets import build_dataset
from datasets.base import SegmentationDataset
from datasets.cache.per_label import count_class_pixels
from datasets.sampling.epoch_lists import (
    AllImages,
    ClassUniformLists,
    ListOptions,
    make_lists,
    shifted,
)
from model.losses import class_weights
from train import count_pixels
from utils.images import write_png

__all__ = ["run"]  # a fixture
FINE = 20
SIZE = 48, 64
BUS, RIDER = 15, 12  # train ids


def draw_frames(
    root: Path, names: list[str], kind: str = "gtFine", ids: tuple = (7, 8, 11, 21, 23, 26)
) -> None:
    """Labelled frames in the layout of Cityscapes; coarse ones are of train_extra."""
    rng = np.random.default_rng(len(names))
    split = "train" if kind == "gtFine" else "train_extra"
    for name in names:
        label = blobs(rng, SIZE, list(ids))
        write_png(root / f"leftImg8bit/{split}/aachen/{name}_leftImg8bit.png", paint(rng, label))
        write_png(root / f"{kind}/{split}/aachen/{name}_{kind}_labelIds.png", label)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty fine images, frame 19 of each sequence; three coarse ones, of which two have a bus."""
    root = draw_cityscapes(tmp_path_factory.mktemp("city"), train=FINE, val=2, size=SIZE)
    extra = [f"aachen_{i:06d}_000019" for i in range(100, 103)]
    draw_frames(root, extra[:2], "gtCoarse", (7, 28, 25))
    draw_frames(root, extra[2:], "gtCoarse", (7, 25))
    return root


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames 2 and 3 before and after the fine ones, but for sequence 0."""
    folder = tmp_path_factory.mktemp("video")
    frames = (16, 17, 21, 22)
    draw_frames(folder, [f"aachen_{i:06d}_{k:06d}" for i in range(1, FINE) for k in frames])
    return folder


def train_split(root: Path) -> SegmentationDataset:
    return build_dataset("cityscapes", root, "train")


@pytest.mark.parametrize(("name", "frames", "expected"), [
    ("aachen_000003_000019", 3, "aachen_000003_000022"),
    ("aachen_000003_000019", -3, "aachen_000003_000016"),
    ("0006R0_f00930", 70, "0006R0_f01000"), ("0001TP_006690", -2, "0001TP_006688"),
    ("street", 3, "street"),
])
def test_names_of_neighbors(name: str, frames: int, expected: str) -> None:
    assert shifted(name, frames) == expected


def test_every_image_once(root: Path) -> None:
    train = train_split(root)
    lists, samples = make_lists(train, ListOptions())
    assert lists == AllImages((FINE, FINE))
    assert samples == train.samples
    assert lists.build(7) == [(index, None) for index in range(FINE)]


def test_propagated_frames(root: Path, video: Path) -> None:
    train = train_split(root)
    options = ListOptions(propagated_root=str(video), skips=(3,), until=2)
    lists, samples = make_lists(train, options)
    assert len(train) == FINE  # the caller's own
    train.samples, added = samples, samples[FINE:]
    assert {sample.name[-6:] for sample in added} == {"000016", "000022"}
    assert len(added) == 2 * (FINE - 1)
    assert all(sample.image.is_relative_to(video) for sample in added)
    assert [lists.length(epoch) for epoch in range(4)] == [58, 58, 20, 20]
    assert {index for index, _ in lists.build(1)} == set(range(58))
    assert {index for index, _ in lists.build(2)} == set(range(FINE))
    image, target = train[0, 0, 57, None]
    assert image.shape == (*SIZE, 3)
    assert set(target.unique().tolist()) <= {0, 1, 2, 8, 10, 13}


def test_several_skips(root: Path, video: Path) -> None:
    train = train_split(root)
    _, samples = make_lists(train, ListOptions(propagated_root=str(video), skips=(2, 3)))
    assert len(samples) == FINE + 4 * (FINE - 1)


def test_propagated_frames_of_another_skip(root: Path, video: Path) -> None:
    with pytest.raises(FileNotFoundError, match="none of its 76 frames is 5 or 7 before or after"):
        make_lists(train_split(root), ListOptions(propagated_root=str(video), skips=(5, 7)))
    with pytest.raises(FileNotFoundError, match="no leftImg8bit"):
        make_lists(train_split(root), ListOptions(propagated_root=str(video / "x"), skips=(3,)))


def test_coarse_labels_of_the_wanted_classes(root: Path) -> None:
    train = train_split(root)
    options = ListOptions(class_uniform=1.0, tile=16, coarse_boost=("bus",))
    lists, samples = make_lists(train, options)
    assert isinstance(lists, ClassUniformLists)
    assert lists.images == (FINE, FINE)  # coarse images are never drawn whole
    assert len(samples) == FINE + 2  # only the coarse images that have such a class
    coarse = lists.centroids[lists.centroids[:, 0] >= FINE]
    assert set(coarse[:, 1]) == {BUS}
    assert set(coarse[:, 0]) == {FINE, FINE + 1}
    train = train_split(root)
    options = ListOptions(1.0, 16, coarse_boost=("bus", "rider"))
    both, train.samples = make_lists(train, options)
    coarse = both.centroids[both.centroids[:, 0] >= FINE]
    assert set(coarse[:, 1]) == {BUS, RIDER}
    assert set(coarse[:, 0]) == {FINE, FINE + 1, FINE + 2}
    for index, train_id, x, y in coarse:
        target = train.to_train_ids(train.read_ids(index), index)
        top, left = y // 16 * 16, x // 16 * 16
        assert train_id in target[top : top + 16, left : left + 16]


def test_fine_centroids_do_not_depend_on_what_is_added(root: Path, video: Path) -> None:
    options = {"class_uniform": 1.0, "tile": 16}
    alone, _ = make_lists(train_split(root), ListOptions(**options))
    more, _ = make_lists(train_split(root), ListOptions(
        **options, coarse_boost=("bus",), propagated_root=str(video), skips=(3,), until=1))
    fine = more.centroids[more.centroids[:, 0] < FINE]
    assert np.array_equal(fine, alone.centroids)
    assert len(more.centroids) > len(fine) + 2
    assert np.array_equal(more.usable(1)[1], alone.centroids)


def test_a_class_that_is_none(root: Path) -> None:
    with pytest.raises(ValueError, match="--coarse-boost 'buss': no class; road, .*mean bus"):
        make_lists(train_split(root), ListOptions(0.5, coarse_boost=("buss",)))


def test_no_coarse_labels(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    with pytest.raises(FileNotFoundError, match="no train_extra"):
        make_lists(build_dataset("camvid", root, "train"),
                   ListOptions(0.5, 16, coarse_boost=("car",)))


def test_tiles_larger_than_labels(data_roots: dict[str, Path]) -> None:
    train = build_dataset("camvid", data_roots["camvid"], "train")
    with pytest.raises(ValueError, match="--tile 1024: no label holds a whole tile"):
        make_lists(train, ListOptions(0.5))


def test_class_weights_count_the_own_labels_alone(root: Path, video: Path) -> None:
    """Not those of propagated frames and of coarse labels, which have buses and riders too."""
    train = train_split(root)
    expected = np.zeros(256, np.int64)
    for index in range(FINE):
        ids = train.to_train_ids(train.read_ids(index), index)
        expected += np.bincount(ids.ravel(), minlength=256)
    lists, train.samples = make_lists(train, ListOptions(
        1.0, 16, coarse_boost=("bus",), propagated_root=str(video), skips=(2, 3)))
    assert len(train) > 4 * FINE
    args = Namespace(class_weights="enet", paste=0.0, workers=1)
    weights = class_weights("enet", count_pixels(args, train, lists.images[0]))
    shares = expected[:19] / expected[:19].sum()
    assert weights.tolist() == pytest.approx((1 / np.log(1.02 + shares)).tolist(), rel=1e-6)


def test_training_gives_the_number_of_own_labels(
    run: Callable, root: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = []
    monkeypatch.setattr("train.count_class_pixels", lambda dataset, threads, first: (
        counted.append((len(dataset), first)), count_class_pixels(dataset, threads, first))[1])
    run("--dataset", "cityscapes", "--data-root", root, "--propagated-root", video,
        "--class-weights", "enet", "--max-steps", 1)
    assert counted == [(FINE + 2 * (FINE - 1), FINE)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Epoch, name and center of every sample that a training reads."""
    seen: list[tuple] = []
    original = SegmentationDataset.__getitem__

    def see(dataset: SegmentationDataset, key: object) -> tuple:
        if isinstance(key, tuple):
            seen.append((key[0], dataset.samples[key[2]].name, key[3]))
        return original(dataset, key)

    monkeypatch.setattr(SegmentationDataset, "__getitem__", see)
    return seen


def test_training_on_all_of_it(run: Callable, root: Path, video: Path, read: list[tuple]) -> None:
    """The second epoch is of fine images alone."""
    words = ["--dataset", "cityscapes", "--data-root", root, "--class-uniform", 1, "--tile", 16,
             "--propagated-root", video, "--propagated-skip", 2, 3, "--coarse-boost", "bus",
             "--max-cu-epoch", 1, "--epochs", 2]
    content, _ = run(*words, "--batch-size", 40, "--max-steps", 1)
    assert content["step"] == 1
    names = {name for _, name, _ in read}
    assert len(names) > 20
    assert {name[-6:] for name in names} == {"000016", "000017", "000019", "000021", "000022"}
    assert any(center for _, _, center in read)
    coarse = {"aachen_000100_000019", "aachen_000101_000019"}
    assert {name for _, name, center in read if name in coarse and not center} == set()
    read.clear()
    run(*words, "--batch-size", 10, "--seed", 1)
    late = {name for epoch, name, _ in read if epoch}
    assert len(late) > 10
    assert {name[-6:] for name in late} == {"000019"}
    assert max(late) < "aachen_000100"


BASE = ["--dataset", "cityscapes", "--class-uniform", 1, "--tile", 16, "--max-steps", 4]
VIDEO = ["--propagated-root", "VIDEO"]


@pytest.mark.parametrize(("before", "words"), [
    ([], ["--class-uniform", 0]), ([], ["--tile", 24]), ([], VIDEO),
    (VIDEO, ["--propagated-skip", 2]), (VIDEO, ["--propagated-skip", 2, 3]),
    ([*VIDEO, "--batch-size", 20, "--max-steps", 4], ["--max-cu-epoch", 1]),
    ([], ["--train-split", "trainval"]), ([], ["--train-split", "train+train_extra"]),
], ids=lambda words: " ".join(map(str, words)))
def test_options_change_the_weights(
    before: list, words: list, run: Callable, root: Path, video: Path
) -> None:
    def train(*words: object) -> dict:
        given = (str(video) if word == "VIDEO" else word for word in words)
        return run(*BASE, "--data-root", root, *given)[0]

    first, second = train(*before), train(*before, *words)
    assert len(first["weights"]) == len(second["weights"])
    assert not same(first, second)


def test_coarse_boost_changes_the_weights(run: Callable, root: Path) -> None:
    words = [*BASE, "--data-root", root, "--batch-size", 6]
    assert not same(run(*words)[0], run(*words, "--coarse-boost", "bus", "rider")[0])


def test_cache_of_all_of_it(run: Callable, root: Path, video: Path) -> None:
    words = [*BASE, "--data-root", root, "--propagated-root", video, "--coarse-boost", "bus",
             "--batch-size", 6]
    assert same(run(*words)[0], run(*words, "--cache", "raw")[0])
