"""Contracts of data sets, run over DATASETS, and what is said of broken ones."""

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DRAW, blobs, draw_camvid, draw_cityscapes, draw_folder
from PIL import Image

from datasets import DATASETS, build_dataset, camvid, cityscapes_labels, find_root
from datasets.cache.per_label import count_class_pixels
from datasets.classes import UNKNOWN, lookup_table
from datasets.transforms import EvalTransform, TrainTransform
from utils.images import write_png
from utils.labels import IGNORE


@pytest.mark.parametrize("name", DATASETS)
def test_samples(name: str, data_roots: dict[str, Path]) -> None:
    dataset = build_dataset(name, data_roots[name], "train")
    classes = len(dataset.class_names)
    assert len(dataset.palette) == len(dataset.train_id_to_id) == classes
    assert len({sample.name for sample in dataset.samples}) == len(dataset)
    for index in range(len(dataset)):
        image, target = dataset[index]
        assert image.dtype == target.dtype == torch.uint8
        assert image.shape == (*target.shape, 3)
        assert set(target.unique().tolist()) <= {*range(classes), IGNORE}
    # ids and train ids are each other's inverse on the classes
    for train_id, i in enumerate(dataset.train_id_to_id):
        assert dataset.id_to_train_id[i] == train_id
    assert dataset.id_to_train_id[IGNORE] == IGNORE


@pytest.mark.parametrize("name", DATASETS)
def test_pickles_with_transforms(name: str, data_roots: dict[str, Path]) -> None:
    """Worker processes that are not forked get the data set as a pickle."""
    dataset = build_dataset(name, data_roots[name], "train", TrainTransform((32, 48)))
    copy = pickle.loads(pickle.dumps(dataset))
    key = 3, 1, 0, None
    for ours, theirs in zip(dataset[key], copy[key], strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", DATASETS)
def test_label_and_image_stay_together(name: str, data_roots: dict[str, Path]) -> None:
    """The drawn color is a function of the id, so the crop's pixels tell their label."""
    plain = TrainTransform((40, 40), scale=(1, 1), jitter=0, hue=0, blur=0)
    dataset = build_dataset(name, data_roots[name], "train", plain)
    colors = np.random.default_rng(0).integers(0, 256, (256, 3))
    ids = np.flatnonzero(dataset.id_to_train_id < UNKNOWN)
    for position in range(20):
        image, target = dataset[0, position, position % len(dataset), None]
        nearest = np.abs(image.numpy()[:, :, None] - colors[ids]).sum(-1).argmin(-1)
        expected = dataset.id_to_train_id[ids[nearest]]
        inside = target.numpy() != IGNORE
        assert (expected[inside] == target.numpy()[inside]).mean() > 0.9


def test_lookup_by_hand(data_roots: dict[str, Path]) -> None:
    """What is listed, 255 as it is, and 254 for what no data set has."""
    table = lookup_table({7: 0, 3: 1, 9: IGNORE})
    known = {i: int(n) for i, n in enumerate(table) if n != UNKNOWN}
    assert known == {3: 1, 7: 0, 9: IGNORE, IGNORE: IGNORE}
    for name in DATASETS:
        dataset = build_dataset(name, data_roots[name], "val")
        assert dataset.id_to_train_id[IGNORE] == IGNORE, name
        ids = np.array([[*dataset.train_id_to_id, IGNORE]], np.uint8)
        classes = len(dataset.class_names)
        assert dataset.to_train_ids(ids, 0).tolist() == [[*range(classes), IGNORE]], name


def test_cityscapes_table() -> None:
    assert len(cityscapes_labels.LABELS) == 35
    assert len(cityscapes_labels.TABLE.class_names) == 19
    assert cityscapes_labels.TABLE.train_id_to_id == [
        7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33,
    ]
    known = [label.id for label in cityscapes_labels.LABELS if label.id >= 0]
    assert (cityscapes_labels.TABLE.id_to_train_id != UNKNOWN).sum() == len(known) + 1  # and 255


def test_cityscapes_equals_official_table() -> None:
    official = pytest.importorskip("cityscapesscripts.helpers.labels").labels
    assert [tuple(label) for label in cityscapes_labels.LABELS] == [
        (o.name, o.id, o.trainId, o.category, o.hasInstances, o.ignoreInEval, o.color)
        for o in official
    ]


def test_cityscapes_nested_layout(data_roots: dict[str, Path], tmp_path: Path) -> None:
    flat = build_dataset("cityscapes", data_roots["cityscapes"], "train")
    for kind, archive in (("leftImg8bit", "leftImg8bit_trainvaltest"),
                          ("gtFine", "gtFine_trainvaltest")):
        shutil.copytree(data_roots["cityscapes"] / kind, tmp_path / archive / kind)
    nested = build_dataset("cityscapes", tmp_path, "train")
    assert [s.name for s in nested.samples] == [s.name for s in flat.samples]
    assert torch.equal(nested[0][1], flat[0][1])


def test_cityscapes_train_id_labels(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, train=2, val=1)
    before = build_dataset("cityscapes", root, "train")
    targets = [before[index][1] for index in range(2)]
    for sample, target in zip(before.samples, targets, strict=True):
        train_ids = sample.label.with_name(sample.label.name.replace("labelIds", "labelTrainIds"))
        write_png(train_ids, target.numpy())
        sample.label.unlink()
    after = build_dataset("cityscapes", root, "train")
    assert after.read_ids(0).max() in (18, IGNORE)
    assert all(torch.equal(after[i][1], target) for i, target in enumerate(targets))


def test_cityscapes_test_split_has_no_labels(data_roots: dict[str, Path]) -> None:
    image, target = build_dataset("cityscapes", data_roots["cityscapes"], "test")[0]
    assert image.shape == (64, 128, 3)
    assert target is None


def test_camvid_void_is_ignored(data_roots: dict[str, Path]) -> None:
    dataset = build_dataset("camvid", data_roots["camvid"], "train")
    ids, target = dataset.read_ids(0), dataset[0][1].numpy()
    assert (target[ids == 11] == IGNORE).all()
    assert (target[ids < 11] == ids[ids < 11]).all()


def test_camvid_list_files(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    line = "/SegNet/CamVid/train/{0}.png /SegNet/CamVid/trainannot/{0}.png\n"
    (root / "train.txt").write_text(line.format("0006R0_1") + line.format("0001TP_2"))
    names = [sample.name for sample in build_dataset("camvid", root, "train").samples]
    assert names == ["0006R0_1", "0001TP_2"]
    (root / "train.txt").write_text(line.format("nothing"))
    with pytest.raises(FileNotFoundError, match="lists nothing"):
        build_dataset("camvid", root, "train")


def test_holdout(data_roots: dict[str, Path]) -> None:
    def names(split: str) -> set[str]:
        dataset = build_dataset("camvid", data_roots["camvid"], split, holdout="0006R0")
        return {sample.name for sample in dataset.samples}

    assert names("val") == {"0006R0_1", "0006R0_2"}
    assert names("train") == {"0001TP_1", "0001TP_2", "0016E5_1"}
    with pytest.raises(ValueError, match="0001TP, 0006R0, 0016E5"):
        build_dataset("camvid", data_roots["camvid"], "train", holdout="0007")


def test_trainval(data_roots: dict[str, Path]) -> None:
    both, train, val = (
        build_dataset("camvid", data_roots["camvid"], split)
        for split in ("trainval", "train", "val")
    )
    assert both.samples == train.samples + val.samples


def test_folder_ids(data_roots: dict[str, Path]) -> None:
    dataset = build_dataset("folder", data_roots["folder"], "train")
    assert dataset.class_names == ["road", "traffic light", "sky"]
    ids, target = dataset.read_ids(0), dataset[0][1].numpy()
    for train_id, i in enumerate((7, 3, 200)):
        assert (target[ids == i] == train_id).all()
    assert (target[ids == 9] == IGNORE).all()  # not listed


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("7 road 128 64", "id name r g b"),
        ("x road 128 64 128", "id name r g b"),
        ("7 road 128 64 128\n7 sky 0 0 0", "line 2"),
        ("7 road 128 64 256", "0 to 255"),
        ("", "0 classes"),
    ],
)
def test_folder_refuses_class_lines(line: str, message: str, tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    (root / "classes.txt").write_text(line)
    with pytest.raises(ValueError, match=message):
        build_dataset("folder", root, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_missing_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--data-root"):
        build_dataset(name, tmp_path / "nowhere", "train")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        build_dataset(name, tmp_path, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_missing_label_and_missing_image(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path)
    sample = build_dataset(name, root, "train").samples[0]
    label = sample.label.read_bytes()
    sample.label.unlink()
    with pytest.raises(ValueError, match=f"{sample.image.name}.*no label; 1 of"):
        build_dataset(name, root, "train")
    sample.label.write_bytes(label)
    sample.image.unlink()
    with pytest.raises(ValueError, match=f"{sample.label.name}.*no image; 1 label"):
        build_dataset(name, root, "train")


@pytest.mark.parametrize("name", DATASETS)
def test_size_mismatch(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path)
    dataset = build_dataset(name, root, "train")
    assert len(dataset.sizes()) == len(dataset)
    write_png(dataset.samples[1].label, np.zeros((20, 30), np.uint8))
    with pytest.raises(ValueError, match=r"30x20, its image"):
        dataset.sizes()
    with pytest.raises(ValueError, match="not the size of its image"):
        dataset[1]


@pytest.mark.parametrize("name", ["cityscapes", "camvid"])
def test_unknown_id(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path)
    dataset = build_dataset(name, root, "train")
    label = dataset.read_ids(2)
    label[3, 4] = 77
    write_png(dataset.samples[2].label, label)
    with pytest.raises(ValueError, match=rf"{dataset.samples[2].label.name}: ids \[77\]"):
        dataset[2]


@pytest.mark.parametrize("name", DATASETS)
def test_color_label(name: str, tmp_path: Path) -> None:
    root = DRAW[name](tmp_path)
    dataset = build_dataset(name, root, "train")
    write_png(dataset.samples[0].label, dataset.read_image(0))
    with pytest.raises(ValueError, match=f"{dataset.samples[0].label.name}.*expected"):
        dataset[0]


def test_wrong_level_is_hinted(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path / "cityscapes", train=1, val=1)
    with pytest.raises(FileNotFoundError, match=f"did you mean {root}"):
        build_dataset("cityscapes", tmp_path, "train")
    with pytest.raises(FileNotFoundError, match=f"did you mean {root}"):
        build_dataset("cityscapes", root / "leftImg8bit", "train")


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    for folder in ("train", "trainannot"):
        (root / folder / "._0001TP_1.png").write_bytes(b"x")
        (root / folder / ".DS_Store").write_bytes(b"x")
    assert len(build_dataset("camvid", root, "train")) == 5


def test_swapped_folders(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    (root / "train").rename(root / "x")
    (root / "trainannot").rename(root / "train")
    (root / "x").rename(root / "trainannot")
    dataset = build_dataset("camvid", root, "train")
    with pytest.raises(ValueError, match="expected"):
        dataset[0]


def test_find_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CAMVID_DATASET", raising=False)
    assert find_root("camvid", None) == Path("data/camvid")
    monkeypatch.setenv("CAMVID_DATASET", "/env")
    assert find_root("camvid", None) == Path("/env")
    assert find_root("camvid", "/given") == Path("/given")


def test_eval_transform_keeps_the_label(data_roots: dict[str, Path]) -> None:
    dataset = build_dataset("camvid", data_roots["camvid"], "val", EvalTransform((30, 40)))
    image, target = dataset[0]
    assert image.shape == (30, 40, 3)
    assert target.shape == (60, 80)


def test_class_pixels(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path)
    dataset = build_dataset("camvid", root, "train")
    targets = torch.cat([dataset[i][1].flatten() for i in range(len(dataset))])
    expected = targets[targets != IGNORE].long().bincount(minlength=11)
    assert torch.equal(count_class_pixels(dataset), expected)
    cached = list((root / ".streetseg").glob("class_pixels_train_*.npz"))
    assert len(cached) == 1
    assert torch.equal(count_class_pixels(dataset), expected)
    # another label, another count
    write_png(dataset.samples[0].label, blobs(np.random.default_rng(9), (60, 80), [3, 4, 5]))
    assert not torch.equal(count_class_pixels(dataset), expected)


def test_camvid_table() -> None:
    assert camvid.TABLE.class_names[3] == "road"
    assert camvid.TABLE.id_to_train_id[12] == UNKNOWN


def test_folder_takes_palette_labels(tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    dataset = build_dataset("folder", root, "train")
    before = dataset[0][1]
    label = Image.fromarray(dataset.read_ids(0))
    label.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    label.save(dataset.samples[0].label)
    assert torch.equal(dataset[0][1], before)


def test_files_of_one_name_are_refused_and_listed(tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    other, first = root / "images/train/0.png", root / "images/train/0.JPG"
    Image.open(other).save(first, "JPEG")
    with pytest.raises(ValueError, match=r"0\.png: its name is also that of .*0\.JPG"):
        build_dataset("folder", root, "train")
    files = DATASETS["folder"](root, "").files("train")
    assert files.clashes == [(other, first)]
    assert len(files.images) == 5


@pytest.mark.parametrize("name", DATASETS)
def test_parts_are_those_with_files(name: str, data_roots: dict[str, Path]) -> None:
    dataset = DATASETS[name](data_roots[name], "")
    assert len(dataset) == 0
    there = [part for part in dataset.parts() if dataset.files(part).images]
    there = [part for part in there if "coarse" not in part]  # shares the images of train
    odd = {"kitti": ["trainval", "test"], "folder": ["train", "val"]}
    expected = odd.get(name, ["train", "val", "test"])
    assert sorted(there) == sorted(expected)
    with pytest.raises(ValueError, match="--split ''"):
        build_dataset(name, data_roots[name], "")


def test_folder_without_any_labels(tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    shutil.rmtree(root / "labels")
    with pytest.raises(FileNotFoundError, match="no labels"):
        build_dataset("folder", root, "train")


def test_class_pixels_follow_the_class_table(tmp_path: Path) -> None:
    root = draw_folder(tmp_path)
    before = count_class_pixels(build_dataset("folder", root, "train"))
    lines = (root / "classes.txt").read_text().splitlines()
    (root / "classes.txt").write_text("\n".join(reversed(lines)))
    after = count_class_pixels(build_dataset("folder", root, "train"))
    assert torch.equal(after, before.flip(0))
