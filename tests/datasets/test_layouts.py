"""What is particular about each data set: splits, cross-validation, merged classes, configs."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from breaking import found
from conftest import (
    FIXTURES,
    MAPILLARY,
    draw_cityscapes,
    draw_kitti,
    draw_mapillary,
    draw_original_camvid,
)
from PIL import Image

from datasets import (
    DATASETS,
    build_as_trained,
    build_dataset,
    camvid,
    cityscapes_labels,
    describe,
    kitti,
)
from datasets.classes import UNKNOWN, match_classes
from datasets.doctor import check
from datasets.samples import Sample, shared_images
from datasets.transforms import EvalTransform
from datasets.video.sequences import find_sequence, find_sequences
from utils.images import write_png
from utils.labels import IGNORE

ROOT = FIXTURES.parent.parent


def draw_cities(root: Path, train: list[str], val: list[str]) -> Path:
    """Cityscapes with one pixel per city."""
    for split, cities in (("train", train), ("val", val)):
        for city in cities:
            name = f"{split}/{city}/{city}_000000_000019"
            write_png(root / f"leftImg8bit/{name}_leftImg8bit.png", np.zeros((1, 1, 3), np.uint8))
            write_png(root / f"gtFine/{name}_gtFine_labelIds.png", np.zeros((1, 1), np.uint8))
    return root


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("order", [0, 1])
def test_cityscapes_cross_validation(number: int, order: int, tmp_path: Path) -> None:
    """The published cities, whatever the order in which a disk lists them."""
    published = json.loads((FIXTURES / "cv_splits.json").read_text())[order]
    root = draw_cities(tmp_path, published["train_listing_order"], published["val_listing_order"])
    for split in ("train", "val"):
        dataset = build_dataset("cityscapes", root, split, cv_split=number)
        cities = {f"{s.image.parent.parent.name}/{s.group}" for s in dataset.samples}
        assert cities == set(published["splits"][number][split])


def test_a_network_is_scored_on_the_val_of_its_training(
    tmp_path: Path, data_roots: dict[str, Path], capsys: pytest.CaptureFixture
) -> None:
    """The usual val has images that a training with --cv-split saw."""
    published = json.loads((FIXTURES / "cv_splits.json").read_text())[0]
    root = draw_cities(tmp_path, published["train_listing_order"], published["val_listing_order"])
    known = describe(build_dataset("cityscapes", root, "val", cv_split=1), "cityscapes")

    def samples(split: str, *chosen: int | None) -> list[Sample]:
        return build_as_trained(known, "cityscapes", root, split, None, (None, *chosen)).samples

    for split in ("train", "val"):
        given = [build_dataset("cityscapes", root, split, cv_split=n).samples for n in (1, 2)]
        assert given == [samples(split, None, None), samples(split, 2, None)]
        assert given[0] != build_dataset("cityscapes", root, split).samples
    assert "images (--cv-split 1)" in capsys.readouterr().out
    build_as_trained(known, "camvid", data_roots["camvid"], "val", None, (None, None, None))
    known = describe(build_dataset("kitti", data_roots["kitti"], "val", cv_split=1), "kitti")
    for split in ("trainval", "test"):  # are whole
        build_as_trained(known, "kitti", data_roots["kitti"], split, None, (None, None, None))


def test_cross_validation_is_checked(data_roots: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match="has 0, 1, 2"):
        build_dataset("cityscapes", data_roots["cityscapes"], "train", cv_split=3)
    with pytest.raises(ValueError, match="has none"):
        build_dataset("camvid", data_roots["camvid"], "train", cv_split=0)
    with pytest.raises(ValueError, match="redistribute train and val"):
        build_dataset("cityscapes", data_roots["cityscapes"], "test", cv_split=1)
    with pytest.raises(ValueError, match="give one of them"):
        build_dataset("camvid", data_roots["camvid"], "train", holdout="0006R0", cv_split=1)


def test_what_would_leak_is_refused_or_counted(tmp_path: Path) -> None:
    """Coarse labels have the images of train and val; a part named twice is there once."""
    root = draw_cityscapes(tmp_path, train=3, val=1)
    with pytest.raises(ValueError, match="not train_coarse, which has the same images"):
        build_dataset("cityscapes", root, "train+train_coarse", cv_split=1)
    assert len(build_dataset("cityscapes", root, "train+trainval+train")) == 4
    train, val = (build_dataset("cityscapes", root, split).samples for split in ("trainval", "val"))
    assert shared_images(train, val) == 1
    assert shared_images(train[:3], val) == 0
    with pytest.raises(ValueError, match="Cityscapes has train, val, test, train_extra"):
        build_dataset("cityscapes", root, "train_extras")


def test_sums_of_splits(data_roots: dict[str, Path]) -> None:
    root = data_roots["cityscapes"]
    parts = {split: build_dataset("cityscapes", root, split).samples
             for split in ("train", "val", "trainval", "val+train")}
    assert parts["trainval"] == parts["train"] + parts["val"]
    assert parts["val+train"] == parts["val"] + parts["train"]


def test_cityscapes_coarse_and_extra(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, train=2, val=1)
    fine = build_dataset("cityscapes", root, "train")
    with pytest.raises(FileNotFoundError, match="no gtCoarse/train/CITY"):
        build_dataset("cityscapes", root, "train_coarse")
    for sample in fine.samples:
        name = f"{sample.group}/{sample.name}"
        write_png(root / f"gtCoarse/train/{name}_gtCoarse_labelIds.png",
                  np.full((64, 128), 7, np.uint8))
        extra = f"gtCoarse/gtCoarse/train_extra/{name}_gtCoarse_labelIds.png"
        write_png(root / extra, np.full((64, 128), 26, np.uint8))
        write_png(root / f"leftImg8bit_trainextra/leftImg8bit/train_extra/{name}_leftImg8bit.png",
                  np.zeros((64, 128, 3), np.uint8))
    assert build_dataset("cityscapes", root, "train_coarse")[0][1].unique().tolist() == [0]
    both = build_dataset("cityscapes", root, "train+train_extra")
    assert len(both) == 4
    assert both[3][1].unique().tolist() == [13]
    assert torch.equal(both[0][1], fine[0][1])


def test_cityscapes_demo_video_has_no_labels(tmp_path: Path) -> None:
    for frame in range(3):
        write_png(tmp_path / "leftImg8bit/demoVideo/stuttgart_00/stuttgart_00_000000_"
                  f"{frame:06d}_leftImg8bit.png", np.zeros((4, 8, 3), np.uint8))
    dataset = build_dataset("cityscapes", tmp_path, "demoVideo")
    assert [sample.group for sample in dataset.samples] == ["stuttgart_00"] * 3
    assert dataset[0][1] is None


def test_cityscapes_sequences(tmp_path: Path) -> None:
    for frame in range(4):
        write_png(tmp_path / f"leftImg8bit_sequence/val/ulm/ulm_000000_{frame:06d}_leftImg8bit.png",
                  np.zeros((4, 8, 3), np.uint8))
    dataset = build_dataset("cityscapes", tmp_path, "val_sequence")
    assert [sample.name for sample in dataset.samples] == [f"ulm_000000_{n:06d}" for n in range(4)]
    assert dataset[0][1] is None
    with pytest.raises(FileNotFoundError, match="no leftImg8bit_sequence/train/CITY"):
        build_dataset("cityscapes", tmp_path, "train_sequence")


def test_cityscapes_formats(tmp_path: Path) -> None:
    """Recompressed copies are found, named and paired as the originals, in sequences too."""
    root = draw_cityscapes(tmp_path, train=4, val=1)
    before = build_dataset("cityscapes", root, "train")
    formats = ["png", "webp", "jpg", "jpeg"]
    for number, (kind, sample) in enumerate(zip(formats, before.samples, strict=True)):
        picture = Image.open(sample.image)
        sample.image.unlink()
        copy = sample.image.with_suffix(f".{kind}")
        picture.save(copy, quality=95)
        frame = root / f"leftImg8bit_sequence/train/a/a_0_{number:06d}_leftImg8bit.{kind}"
        frame.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(copy, frame)
    after = build_dataset("cityscapes", root, "train")
    assert [sample.image.suffix[1:] for sample in after.samples] == formats
    for name in ("name", "group", "label"):
        assert [getattr(s, name) for s in after.samples] == [
            getattr(s, name) for s in before.samples]
    assert after.sizes() == [(64, 128)] * 4
    assert found(check("cityscapes", root)) == {}, "as healthy as the originals"
    frames = build_dataset("cityscapes", root, "train_sequence").samples
    assert [sample.name for sample in frames] == [f"a_0_{n:06d}" for n in range(4)]
    shown = find_sequence("cityscapes", root, "aachen", None)
    assert shown == [sample.image for sample in after.samples]
    assert find_sequences(root, "train") == [[sample.image for sample in frames]]


def test_cityscapes_frame_in_two_formats(tmp_path: Path) -> None:
    root = draw_cityscapes(tmp_path, train=3, val=1)
    image = build_dataset("cityscapes", root, "train").samples[1].image
    Image.open(image).save(image.with_suffix(".webp"))
    said = rf"{image.stem}\.webp: its name is also that of .*{image.name}; delete or rename one"
    with pytest.raises(ValueError, match=said):
        build_dataset("cityscapes", root, "train")
    assert found(check("cityscapes", root)) == {
        "same-name": {str(image.with_suffix(".webp").relative_to(root))}}
    with pytest.raises(ValueError, match=r"\.webp: its number is also that of .*\.png; delete one"):
        find_sequences(root / "leftImg8bit", "train")


def test_cityscapes_mixes_kinds_of_labels(tmp_path: Path) -> None:
    """One image's label is `labelIds`, another's only `labelTrainIds`: both are read rightly."""
    root = draw_cityscapes(tmp_path, train=2, val=1)
    before = [build_dataset("cityscapes", root, "train")[i][1] for i in range(2)]
    label = build_dataset("cityscapes", root, "train").samples[1].label
    write_png(label.with_name(label.name.replace("labelIds", "labelTrainIds")), before[1].numpy())
    label.unlink()
    after = build_dataset("cityscapes", root, "train")
    assert [sample.label.name.split("_")[-1] for sample in after.samples] == [
        "labelIds.png", "labelTrainIds.png"]
    assert all(torch.equal(after[i][1], before[i]) for i in range(2))
    assert after.train_id_to_id == cityscapes_labels.TABLE.train_id_to_id


def test_kitti_cross_validation(tmp_path: Path) -> None:
    """21 of 200 are val, none of them in train; trainval is all, each once."""
    root = draw_kitti(tmp_path, images=200, size=(8, 8))
    for number, first in ((None, 1), (0, 1), (1, 0), (2, 3)):
        train, val = (build_dataset("kitti", root, split, cv_split=number).samples
                      for split in ("train", "val"))
        assert len(train) == 179
        assert len(val) == 21
        assert not {s.name for s in train} & {s.name for s in val}
        assert val[0].name == f"{first:06d}_10"
    both = build_dataset("kitti", root, "trainval").samples
    assert len({sample.name for sample in both}) == len(both) == 200
    assert len(build_dataset("kitti", root, "test")) == 2
    with pytest.raises(ValueError, match="KITTI has train, val"):
        build_dataset("kitti", root, "training")


def test_kitti_instances(data_roots: dict[str, Path]) -> None:
    sample = build_dataset("kitti", data_roots["kitti"], "train").samples[0]
    assert sample.instance.parent.name == "instance"
    assert sample.instance.name == sample.label.name


@pytest.mark.parametrize("version", ["1.2", "2.0"])
def test_mapillary_config(version: str, tmp_path: Path) -> None:
    root = draw_mapillary(tmp_path, version=version)
    name = "mapillary" if version == "1.2" else "mapillary_v2"
    dataset = build_dataset(name, root, "val")
    assert dataset.class_names == [name for name, _, evaluated in MAPILLARY if evaluated]
    assert dataset.palette[2] == (128, 64, 128)
    assert dataset.train_id_to_id == [0, 1, 2, 4]
    ids, target = dataset.read_ids(0), dataset[0][1].numpy()
    assert (target[(ids == 3) | (ids == 5)] == IGNORE).all()
    assert (target[ids == 4] == 3).all()
    assert dataset.id_to_train_id[6] == UNKNOWN
    config = next(root.glob("config*.json"))
    config.write_text('{"labels": [{"readable": "Road"}]}')
    with pytest.raises(ValueError, match="not a Mapillary Vistas config"):
        build_dataset(name, root, "val")
    config.unlink()
    with pytest.raises(FileNotFoundError, match="no config_v"):
        build_dataset(name, root, "val")


def test_original_camvid(tmp_path: Path) -> None:
    """32 colors, read as the 11 classes; the split is the tutorial's, by name."""
    root = draw_original_camvid(tmp_path)
    names = {split: [s.name for s in build_dataset("camvid", root, split).samples]
             for split in ("train", "val", "test")}
    assert names == {"train": ["0001TP_006690", "0006R0_f00930", "0006R0_f00960"],
                     "val": ["0016E5_07959", "0016E5_07961"], "test": ["Seq05VD_f00000"]}
    dataset = build_dataset("camvid", root, "train")
    ids, target = dataset.read_ids(0), dataset[0][1].numpy()
    assert set(np.unique(ids)) == set(range(32))
    for i, (_, _, merged) in enumerate(camvid.ORIGINAL):
        expected = camvid.NAMES.index(merged) if merged else IGNORE
        assert (target[ids == i] == expected).all()
    write_png(dataset.samples[0].label, np.full((72, 96, 3), 99, np.uint8))
    with pytest.raises(ValueError, match="none of the 32 colors"):
        dataset[0]


def test_published_tables() -> None:
    """KITTI's folds, the classes of the original CamVid and its split, as they were published."""
    tables = json.loads((FIXTURES / "data_set_tables.json").read_text())
    assert [list(fold) for fold in kitti.CV_SPLITS] == tables["kitti_cross_validation"]
    ours = [[name, list(color), merged or "void"] for name, color, merged in camvid.ORIGINAL]
    assert ours == tables["camvid_original"]
    lines = (ROOT / "datasets/camvid_split.txt").read_text().splitlines()
    for split, digest in tables["camvid_split_sha256"].items():
        names = sorted(line.split()[0] for line in lines if line.split()[1] == split)
        assert len(names) == camvid.CamVid.SPLITS[split]
        assert hashlib.sha256("\n".join(names).encode()).hexdigest() == digest


def test_long_side_and_center_crop(data_roots: dict[str, Path]) -> None:
    def shapes(*options: object) -> tuple:
        dataset = build_dataset("camvid", data_roots["camvid"], "val", EvalTransform(*options))
        return tuple(tuple(part.shape[:2]) for part in dataset[0])

    assert shapes((40,)) == ((30, 40), (60, 80))
    assert shapes((40,), (30, 30)) == ((30, 30), (30, 30))
    assert shapes(None, (64, 64)) == ((64, 64), (64, 64))  # padded: images have 60 rows
    _, target = build_dataset("camvid", data_roots["camvid"], "val",
                              EvalTransform(None, (64, 64)))[0]
    assert (target[:2] == IGNORE).all()
    assert (target[-2:] == IGNORE).all()
    plain = build_dataset("camvid", data_roots["camvid"], "val")[0][1]
    assert torch.equal(target[2:-2], plain[:, 8:72])


def test_class_map(tmp_path: Path) -> None:
    assert match_classes(["a", "b", "void"], ["a", "b"], "x.pth") is None
    with pytest.raises(ValueError, match=r"x.pth: its 2 classes \(a, b, ...\).*--class-map"):
        match_classes(["a", "b"], ["b"], "x.pth")
    with pytest.raises(ValueError, match=r"3 classes \(a, b, c, ...\) are not the data set's 2"):
        match_classes(["a", "b", "c"], ["a", "b"], "x.pth")  # c is no void
    path = tmp_path / "map.txt"
    path.write_text("# comment\nb = road\n\nc = road\n")
    table = match_classes(["a", "b", "c"], ["sky", "road"], "x.pth", str(path))
    assert table[:4].tolist() == [2, 1, 1, 2]  # 2: no class
    for text, message in (("d = road", "line 1"), ("b = d", "line 1"), ("b", "line 1"),
                          ("#", "maps no class")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            match_classes(["a", "b"], ["sky", "road"], "x.pth", str(path))
    with pytest.raises(FileNotFoundError, match="no such class map"):
        match_classes(["a"], ["b"], "x.pth", str(tmp_path / "nothing"))


def test_class_map_of_the_docs() -> None:
    table = match_classes(cityscapes_labels.TABLE.class_names, camvid.NAMES, "x.pth",
                          str(ROOT / "docs/cityscapes_to_camvid.txt"))
    assert set(table[:19].tolist()) == set(range(11))


def test_published_numbers_of_images() -> None:
    assert DATASETS["cityscapes"].SPLITS == {
        "train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    assert DATASETS["kitti"].SPLITS == {"trainval": 200, "test": 200}
