"""Cached samples: equal to the files, whatever happens to them or while they are made."""

import os
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import DRAW, draw_camvid, draw_cityscapes, draw_folder

from datasets import DATASETS, build_dataset
from datasets.base import SegmentationDataset
from datasets.cache import decoded
from datasets.cache.decoded import open_cache
from datasets.cache.per_label import count_class_pixels
from datasets.evaluation.scored_set import open_truth
from datasets.transforms import TrainTransform
from utils.images import read_label, write_png
from utils.labels import from_runs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return draw_camvid(tmp_path / "camvid")


def camvid(root: Path, limit: int | None = None) -> SegmentationDataset:
    return build_dataset("camvid", root, "train", limit=limit)


def cached(root: Path, **words: bool) -> SegmentationDataset:
    dataset = camvid(root)
    dataset.cache = open_cache(dataset, 2, **words)
    return dataset


def check_equal(dataset: SegmentationDataset, files: SegmentationDataset) -> None:
    assert dataset.cache is not None
    assert files.cache is None
    assert len(dataset) == len(files)
    for index in range(len(files)):
        for ours, theirs in ((dataset.read_image(index), files.read_image(index)),
                             (dataset.read_ids(index), files.read_ids(index))):
            assert ours.dtype == np.uint8
            assert np.array_equal(ours, theirs)


def data_files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / ".streetseg").glob("*.data")}


@pytest.mark.parametrize("name", DATASETS)
def test_equal_to_the_files(name: str, tmp_path: Path) -> None:
    """Also after the data set went to a worker as a pickle, with its map open before."""
    root = DRAW[name](tmp_path)
    dataset = build_dataset(name, root, "train", TrainTransform((32, 48)))
    files = build_dataset(name, root, "train", TrainTransform((32, 48)))
    dataset.cache = open_cache(dataset)
    check_equal(dataset, files)
    copy = pickle.loads(pickle.dumps(dataset))
    assert len(pickle.dumps(dataset)) < 10_000 * len(dataset)
    check_equal(copy, files)
    for ours, theirs in zip(copy[1, 5, 0, None], files[1, 5, 0, None], strict=True):
        assert ours.equal(theirs)


def test_samples_without_a_transform_can_be_written_to(root: Path) -> None:
    dataset = cached(root)
    dataset[0][0][:] = 0
    check_equal(dataset, camvid(root))


def test_a_raw_sample_is_read_once(root: Path) -> None:
    """Image and label are in memory once, and no copy of the rest is made for a crop."""
    dataset = build_dataset("camvid", root, "train", TrainTransform((64, 64), (1, 1)), limit=1)
    write_png(dataset.samples[0].image, np.zeros((1500, 2000, 3), np.uint8))
    write_png(dataset.samples[0].truth, np.zeros((1500, 2000), np.uint8))
    dataset.cache = open_cache(dataset)
    dataset[0, 0, 0, None]
    tracemalloc.start()
    dataset[0, 1, 0, None]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 1500 * 2000 + 400_000  # the crop has 16 kB


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the samples that were decoded to be cached."""
    names: set[str] = set()
    encode = decoded.CacheFiles.encode

    def see(files: decoded.CacheFiles, index: int) -> tuple:
        names.add(files.dataset.samples[index].name)
        return encode(files, index)

    monkeypatch.setattr(decoded.CacheFiles, "encode", see)
    return names


def test_lists_of_samples_share_what_is_there(root: Path, made: set[str]) -> None:
    open_cache(camvid(root, limit=2))
    first = data_files(root)
    longer, files = camvid(root), camvid(root)
    longer.samples = files.samples = files.samples + files.find("val")
    made.clear()
    longer.cache = open_cache(longer)
    assert made == {sample.name for sample in files.samples[2:]}
    assert first.items() <= data_files(root).items()
    check_equal(longer, files)
    made.clear()
    open_cache(camvid(root, limit=3))
    assert not made


def test_other_labels_are_other_samples(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path)
    fine = build_dataset("cityscapes", root, "train")
    open_cache(fine)
    for index, sample in enumerate(fine.samples):
        write_png(str(sample.label).replace("labelIds", "labelTrainIds"),
                  fine.to_train_ids(fine.read_ids(index), index))
        sample.truth.unlink()
    other = build_dataset("cityscapes", root, "train")
    other.cache = open_cache(other)
    check_equal(other, build_dataset("cityscapes", root, "train"))


def test_moved_with_its_data(root: Path, tmp_path: Path, made: set[str]) -> None:
    cached(root)
    made.clear()
    dataset = cached(root.rename(tmp_path / "elsewhere"))
    assert not made
    check_equal(dataset, camvid(tmp_path / "elsewhere"))


def test_changed_files_are_cached_again(
    root: Path, made: set[str], capsys: pytest.CaptureFixture
) -> None:
    cached(root)
    sample = camvid(root).samples[3]
    write_png(sample.truth, np.full((60, 80), 7, np.uint8))
    made.clear()
    capsys.readouterr()
    dataset = cached(root)
    assert f"out of date: {sample.name}, or the colors" in capsys.readouterr().out
    assert made
    assert (dataset.read_ids(3) == 7).all()
    check_equal(dataset, camvid(root))
    assert len(data_files(root)) == 1


def test_colors_that_mean_other_classes(tmp_path: Path) -> None:
    """Labels in colors are other ids when classes.txt is: cached ids, runs and pixels too."""
    root = draw_folder(tmp_path)
    table = DATASETS["folder"](root, "").classes
    colors = np.zeros((256, 3), np.uint8)
    colors[table.train_id_to_id] = table.palette
    for path in (root / "labels/train").iterdir():
        write_png(path, colors[read_label(path)])
    text = (root / "classes.txt").read_text()
    for lines in (text, text.replace("7 road", "8 road").replace("3 traf", "7 traf"),
                  text.replace("128 64 128", "1 2 3").replace("250 170 30", "128 64 128")
                  .replace("1 2 3", "250 170 30")):
        (root / "classes.txt").write_text(lines)
        dataset, files = (build_dataset("folder", root, "train") for _ in range(2))
        dataset.cache, truth = open_cache(dataset), open_truth(dataset)
        check_equal(dataset, files)
        pixels = sum(np.bincount(files[i][1].numpy().ravel(), minlength=256) for i in range(5))
        assert count_class_pixels(files).tolist() == pixels[:3].tolist()
        for i, sample in enumerate(files.samples):
            assert np.array_equal(from_runs(*truth.labels(sample)), files.read_ids(i))


def test_files_of_others_stay(root: Path) -> None:
    """Whose names are not quite those of a cache."""
    cached(root)
    own = root / ".streetseg/raw_camvid_mine.data"
    own.write_bytes(b"precious")
    cached(root)
    assert own.read_bytes() == b"precious"


def test_damage(root: Path, capsys: pytest.CaptureFixture) -> None:
    """A flipped bit is found when it is first read, by every process; and by `verify`."""
    files = camvid(root)
    dataset = cached(root)
    entry = dataset.cache.entries[dataset.samples[2]]
    content = bytearray(entry.data.read_bytes())
    content[entry.offset + sum(entry.lengths) - 1] ^= 1  # of its label
    entry.data.write_bytes(content)
    for reader in (dataset, pickle.loads(pickle.dumps(dataset))):
        assert np.array_equal(reader.read_image(2), files.read_image(2))
        with pytest.raises(ValueError, match=f"{entry.data}: {files.samples[2].name} is damaged"):
            reader.read_ids(2)
    dataset = cached(root, verify=True)
    assert "damaged" in capsys.readouterr().out
    check_equal(dataset, files)
    check_equal(cached(root, verify=True), files)
    assert "damaged" not in capsys.readouterr().out


def test_cut_off_while_it_is_read(root: Path) -> None:
    """A map of the file would end the process by a signal."""
    dataset = cached(root)
    check_equal(dataset, camvid(root))
    entry = dataset.cache.entries[dataset.samples[0]]
    os.truncate(entry.data, entry.offset + 100)
    for read in (dataset.read_image, dataset.read_ids):
        with pytest.raises(ValueError, match="damaged or cut off; delete the file"):
            read(0)


@pytest.mark.parametrize("fault", ["truncated", "no index", "half an index", "another version"])
def test_parts_that_are_not_whole_are_made_again(fault: str, root: Path) -> None:
    cached(root)
    data = next((root / ".streetseg").glob("*.data"))
    index = data.with_suffix(".json")
    if fault == "truncated":
        data.write_bytes(data.read_bytes()[:-1])
    elif fault == "no index":
        index.unlink()
    else:
        text = index.read_text()
        index.write_text(text[:50] if fault == "half an index" else text.replace(": 1,", ": 0,", 1))
    check_equal(cached(root), camvid(root))
    assert len(data_files(root)) == 1
    assert data.name not in data_files(root)


def test_caches_of_several_data_sets_in_one_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a data set cannot be written to."""
    monkeypatch.setenv("HOME", str(tmp_path))
    roots = [draw_camvid(tmp_path / "a", size=(60, 80)), draw_camvid(tmp_path / "b", size=(64, 80))]
    for root in roots:
        (root / ".streetseg").write_text("in the way")
    first, second = (cached(root) for root in roots)
    check_equal(first, camvid(roots[0]))
    check_equal(second, camvid(roots[1]))
    assert len(list((tmp_path / ".cache" / "streetseg").glob("*.data"))) == 2


def test_preprocess_data(call: Callable, root: Path) -> None:
    words = ["--dataset", "camvid", "--data-root", root, "--workers", 2]
    done = call("preprocess_data.py", *words, "--cache", "raw")
    assert done.returncode == 0, done.stderr
    assert f"raw cache: 0.00 GB for 5 samples, {root / '.streetseg'}" in done.stdout
    assert "raw cache of 5 samples: " in done.stdout
    made = data_files(root)
    done = call("preprocess_data.py", *words, "--cache", "raw", "--verify")
    assert "raw cache of 5 samples, compared with their checksums" in done.stdout
    assert data_files(root) == made
    done = call("preprocess_data.py", *words, "--verify")
    assert done.returncode == 2
    assert "--verify: has no effect without --cache" in done.stderr
    done = call("preprocess_data.py", *words, "--verify", "--class-weights", root / "weights.json")
    assert done.returncode == 2
    assert "has no effect without --cache" in done.stderr
