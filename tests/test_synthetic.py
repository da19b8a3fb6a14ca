"""Drawn streets: same seed same bytes, exact labels, geometry, and the command that writes them."""

import hashlib
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset
from datasets.cityscapes_labels import CLASSES, LABELS
from datasets.polygons import draw_instances, draw_polygons
from datasets.render import render
from datasets.scene import make_scene
from datasets.street.world import Camera, Scene
from datasets.synthetic import image_seed, parse_args, write_city

ROOT = Path(__file__).resolve().parent.parent
IDS = {label.name: label.id for label in LABELS}
SIZE = (64, 128)
COUNTS = {"train": 4, "val": 2, "test": 1, "train_extra": 2}
KINDS = ("labelIds.png", "instanceIds.png", "color.png", "polygons.json")


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*_*.*"))}  # fmt: skip


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "datasets.synthetic", *map(str, arguments)],
                          cwd=ROOT, capture_output=True, text=True)  # fmt: skip


def draw(scene: Scene, camera: Camera | None = None, size: tuple[int, int] = (128, 256)):
    """The picture without the hood, which would hide what is compared."""
    return render(scene, replace(camera or scene.camera, hood=0.0), *size)


def only(scene: Scene, kind: str, position: tuple[float, float, float]) -> Scene:
    """The scene with a single thing, of this kind, at this place, seen from behind."""
    thing = next(thing for thing in scene.things if thing.kind == kind)
    return replace(scene, things=(replace(thing, position=position, heading=0.0),))


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    write_city(out, COUNTS, SIZE, seed=3)
    return out


@pytest.fixture(scope="module")
def pictures() -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    scenes = [make_scene(image_seed(0, "train", k)) for k in range(25)]
    return [render(scene, scene.camera, 128, 256) for scene in scenes]


def test_any_number_of_workers_gives_the_same_bytes(city: Path, tmp_path: Path) -> None:
    write_city(tmp_path, COUNTS, SIZE, seed=3, workers=2)
    assert digests(tmp_path) == digests(city)
    assert len(set(digests(city).values())) == len(digests(city)), "two files are equal"


def test_another_seed_gives_other_streets(city: Path, tmp_path: Path) -> None:
    write_city(tmp_path, COUNTS, SIZE, seed=4)
    assert digests(tmp_path).keys() == digests(city).keys()
    assert not set(digests(tmp_path).values()) & set(digests(city).values())


def test_layout_is_that_of_cityscapes(city: Path) -> None:
    images = sorted(city.glob("leftImg8bit/*/*/*.png"))
    keys = {path.parent / path.name.removesuffix("_leftImg8bit.png") for path in images}
    assert {split: len(list(city.glob(f"leftImg8bit/{split}/*/*"))) for split in COUNTS} == COUNTS
    fine = ("train", "val")
    for kind, splits in (("gtFine", fine), ("gtCoarse", (*fine, "train_extra"))):
        labelled = {
            str(key).replace("leftImg8bit", kind) + f"_{kind}_{file}"
            for key in keys for file in KINDS if key.parent.parent.name in splits
        }  # fmt: skip
        assert {str(path) for path in city.glob(f"{kind}/*/*/*")} == labelled
    for path in images:
        town, sequence, frame, _ = path.name.split("_")
        assert town == path.parent.name
        assert sequence.isdigit()
        assert (len(sequence), frame) == (6, "000019")
    towns = [{path.parent.name for path in city.glob(f"leftImg8bit/{split}/*/*")}
             for split in COUNTS]  # fmt: skip
    assert sum(map(len, towns)) == len(set.union(*towns)), "splits share a city"


def test_files_have_the_modes_of_cityscapes_and_agree(city: Path) -> None:
    has_instances = [one.id for one in LABELS if one.has_instances]
    palette = {one.id: one.color for one in LABELS}
    for path in city.glob("gt*/*/*/*_labelIds.png"):
        kind = path.name.split("_")[3]
        stem = str(path).removesuffix("labelIds.png")
        label = np.asarray(Image.open(path))
        instance = np.asarray(Image.open(stem + "instanceIds.png"))
        color = np.asarray(Image.open(stem + "color.png"))
        image = Image.open(stem.replace(kind, "leftImg8bit")[:-1] + ".png")
        assert (image.mode, image.size) == ("RGB", SIZE[::-1])
        assert (label.dtype, label.shape) == (np.uint8, SIZE)
        assert Image.open(stem + "instanceIds.png").mode.startswith("I")
        assert kind == "gtCoarse" or instance.max() >= 1000
        assert np.array_equal(np.where(instance >= 1000, instance // 1000, instance), label)
        assert np.isin(label[instance >= 1000], has_instances).all()
        for value in np.unique(label):
            assert (color[label == value] == palette[int(value)]).all()


def test_polygons_give_the_labels_of_their_image(city: Path) -> None:
    """Fine ones exactly what was rendered, coarse ones less, and hardly anything else."""
    for split in ("train", "val", "train_extra"):
        for path in city.glob(f"leftImg8bit/{split}/*/*"):
            index = int(path.name.split("_")[1])
            scene = make_scene(image_seed(3, split, index))
            image, truth, instances = render(scene, scene.camera, *SIZE)
            assert np.array_equal(np.asarray(Image.open(path)), image)
            for kind in ("gtCoarse",) if split == "train_extra" else ("gtFine", "gtCoarse"):
                stem = str(path).replace("leftImg8bit", kind).removesuffix(".png")
                label, instance = (np.asarray(Image.open(f"{stem}_{file}")) for file in KINDS[:2])
                assert np.array_equal(draw_polygons(f"{stem}_polygons.json"), label)
                assert np.array_equal(draw_instances(f"{stem}_polygons.json"), instance)
                if kind == "gtFine":
                    assert np.array_equal(label, truth)
                    for number in np.unique(instance[instance >= 1000]):
                        assert len(np.unique(instances[instance == number])) == 1
                else:
                    assert 0.3 < (label > 0).mean() < 0.85
                    assert (label == truth)[label > 0].mean() > 0.97


def test_the_data_set_reads_fine_and_coarse_labels(city: Path) -> None:
    for split, count in (("train", 4), ("val_coarse", 2), ("train_extra", 2)):
        dataset = build_dataset("cityscapes", city, split)
        targets = [target for _, target in dataset]
        assert len(targets) == count
        assert all((target < 19).any() for target in targets)


def test_every_class_is_in_a_fifth_of_the_pictures(pictures) -> None:
    counts = np.stack([np.bincount(label.ravel(), minlength=256) for _, label, _ in pictures])
    rates = {one.name: (counts[:, one.id] >= 8).mean() for one in CLASSES}
    assert min(rates.values()) >= 0.2, rates
    shares = counts.sum(0) / counts.sum()
    assert shares[IDS["road"]] == shares.max()
    assert all(shares[IDS[name]] > 0.05 for name in ("building", "vegetation", "car", "sky"))


def test_numbers_of_instances_are_unique() -> None:
    for seed in range(8):
        things = make_scene(seed).things
        assert len({(thing.label, thing.number) for thing in things}) == len(things)


def test_color_does_not_tell_the_class(pictures) -> None:
    """Cars, trucks, buses, walls and buildings take their colors from overlapping ranges."""
    names = ("car", "truck", "bus", "wall", "building")
    means = {name: np.array([image[label == IDS[name]].mean(0) for image, label, _ in pictures
                             if (label == IDS[name]).sum() > 40]) for name in names}  # fmt: skip
    for a in names:
        for b in names:
            between = np.abs(means[a].mean(0) - means[b].mean(0)).max()
            assert between <= 2 * np.sqrt(means[a].var(0).max() + means[b].var(0).max()), (a, b)


@pytest.mark.parametrize("kind", ["car", "person", "truck"])
def test_a_thing_has_the_size_that_its_distance_gives(kind: str) -> None:
    scene = next(s for s in map(make_scene, range(20)) if any(t.kind == kind for t in s.things))
    camera = Camera((0.0, 0.0, 1.4), focal=1.0)
    scene = only(replace(scene, strips=scene.strips[:1]), kind, (0.0, 20.0, 0.0))
    thing = scene.things[0]
    rows = {}
    for forward in (0.0, 10.0):
        moved = replace(camera, position=(0.0, forward, 1.4))
        _, label, instance = draw(scene, moved, (256, 512))
        seen = instance == 1000 * thing.label + thing.number
        assert np.array_equal(seen, label == thing.label)
        rows[forward] = np.flatnonzero(seen.any(1))
        # The rear is nearer than the middle: between those two distances lies the truth.
        far, near = 20.0 - forward, 20.0 - forward - thing.size[0] / 2
        tall = len(rows[forward])
        assert 512 * thing.size[2] / far * 0.9 - 2 <= tall <= 512 * thing.size[2] / near + 2
    assert len(rows[10.0]) > 1.7 * len(rows[0.0])


def test_near_things_hide_far_ones() -> None:
    scene = next(s for s in map(make_scene, range(20)) if any(t.kind == "bus" for t in s.things))
    near = only(scene, "bus", (0.0, 15.0, 0.0)).things[0]
    far = only(scene, "car", (0.0, 40.0, 0.0)).things[0]
    camera = Camera((0.0, 0.0, 1.4), focal=1.0)
    for order in ((near, far), (far, near)):
        _, label, _ = draw(replace(scene, things=order), camera)
        assert (label == near.label).sum() > 300
        assert (label == far.label).sum() == 0
    _, label, _ = draw(replace(scene, things=(far,)), camera)
    assert (label == far.label).sum() > 30


def ground_at(camera: Camera, height: int, width: int) -> tuple[np.ndarray, ...]:
    """World x and y, on the plane z = 0, of every pixel's center; and which see that plane."""
    y, x = np.mgrid[0:height, 0:width]
    right = (x - (width - 1) / 2) / (camera.focal * width)
    up = -(y - (height - 1) / 2) / (camera.focal * width)
    forward = math.cos(camera.pitch) - up * math.sin(camera.pitch)
    rise = math.sin(camera.pitch) + up * math.cos(camera.pitch)
    scale = camera.position[2] / np.maximum(-rise, 1e-9)
    side = right * math.cos(camera.yaw) + forward * math.sin(camera.yaw)
    ahead = forward * math.cos(camera.yaw) - right * math.sin(camera.yaw)
    return camera.position[0] + side * scale, camera.position[1] + ahead * scale, rise < 0


def test_the_ground_is_labelled_where_it_projects_to() -> None:
    """Exact at pixel centers: the road's edges are known lines."""
    scene = make_scene(11)
    road = replace(scene.strips[1], area=(-4.0, 3.0, -20.0, 200.0))
    scene = replace(scene, curvature=0.0, strips=(scene.strips[0], road), things=())
    camera = Camera((0.5, 0.0, 1.5), yaw=0.1, pitch=-0.05, focal=0.9)
    _, label, _ = draw(scene, camera)
    x, y, below = ground_at(camera, 128, 256)
    on_road = below & (x > -4) & (x < 3) & (y < 200)
    assert 1000 < on_road.sum() < 20000
    assert np.array_equal(label == IDS["road"], on_road)


def test_textures_stick_to_the_world() -> None:
    """The car drives on and turns; what it saw of the road is where it should be now."""
    scene = make_scene(11)
    light = replace(scene.light, direct=1.0, haze=0.0)
    scene = replace(scene, light=light, curvature=0.0, strips=scene.strips[:2], things=())
    before = Camera((0.0, 0.0, 1.4), pitch=-0.3, focal=0.8)
    after = replace(before, position=(0.2, 0.7, 1.4), yaw=0.05)
    first, second = (draw(scene, c)[0].mean(2).astype(np.float32) for c in (before, after))
    x, y, _ = ground_at(after, 128, 256)
    depth = y * math.cos(0.3) + 1.4 * math.sin(0.3)
    drop = 1.4 * math.cos(0.3) - y * math.sin(0.3)
    column, row = (0.8 * 256 * a / depth + c for a, c in ((x, 127.5), (drop, 63.5)))
    moved = cv2.remap(first, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR)
    part = np.s_[50:100, 60:200]
    assert np.corrcoef(moved[part].ravel(), second[part].ravel())[0, 1] > 0.7
    assert np.corrcoef(first[part].ravel(), second[part].ravel())[0, 1] < 0.5


def test_one_sees_through_a_fence_that_is_labelled_whole() -> None:
    scene = next(s for s in map(make_scene, range(40)) if any(t.kind == "fence" for t in s.things))
    fence = only(scene, "fence", (0.0, 9.0, 0.0)).things[0]
    fence = replace(fence, heading=math.pi / 2, size=(8.0, 0.3, 2.0))
    scene = replace(scene, strips=scene.strips[:1], things=())
    part = np.s_[58:70, 80:176]
    camera = Camera((0.0, 0.0, 1.4), focal=1.0)
    behind = draw(scene, camera)[0][part].astype(int)
    clear = []
    for seed in range(6):  # bars, mesh, boards
        image, label, _ = draw(replace(scene, things=(replace(fence, seed=seed),)), camera)
        assert (label[part] == IDS["fence"]).all()
        clear.append((np.abs(image[part] - behind) < 12).mean())
    assert max(clear) > 0.2
    assert min(clear) < 0.9


@pytest.mark.parametrize("size", [(32, 32), (33, 65), (120, 51)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    scene = make_scene(5)
    image, label, instance = render(scene, scene.camera, *size)
    assert (image.shape, label.shape, instance.shape) == ((*size, 3), size, size)
    assert image.std() > 5
    assert IDS["road"] in label


def test_a_stopped_run_goes_on_and_a_second_one_finds_everything(tmp_path: Path) -> None:
    counts = {"train": 2, "val": 1}
    assert write_city(tmp_path, counts, SIZE) == 3
    before = digests(tmp_path)
    lost = next(tmp_path.glob("leftImg8bit/train/*/*.png"))
    lost.unlink()
    assert write_city(tmp_path, counts, SIZE) == 1
    assert digests(tmp_path) == before
    assert write_city(tmp_path, counts, SIZE) == 0
    assert not list(tmp_path.rglob(".*")), "temporary files are left"


@pytest.mark.parametrize("change", [{"seed": 1}, {"size": (64, 64)}, {"counts": {"train": 2}}])
def test_a_folder_of_other_arguments_is_refused(tmp_path: Path, change: dict) -> None:
    write_city(tmp_path, {"train": 1}, SIZE)
    before = digests(tmp_path)
    with pytest.raises(ValueError, match="another folder"):
        write_city(tmp_path, **{"counts": {"train": 1}, "size": SIZE} | change)
    assert digests(tmp_path) == before


def test_a_folder_of_another_version_is_refused(tmp_path: Path) -> None:
    write_city(tmp_path, {"train": 1}, SIZE)
    record = tmp_path / "synthetic.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"version": 1}))
    with pytest.raises(ValueError, match="drawn by another version; delete it"):
        write_city(tmp_path, {"train": 1}, SIZE)


def test_another_data_set_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "gtFine").mkdir()
    with pytest.raises(ValueError, match="another data set"):
        write_city(tmp_path, {"train": 1}, SIZE)
    assert [path.name for path in tmp_path.iterdir()] == ["gtFine"]


def test_command(tmp_path: Path) -> None:
    arguments = [tmp_path / "new" / "city", "--train", 2, "--val", 1, "--test", 1]
    arguments += ["--train-extra", 1, "--size", "32x64", "--workers", 1]
    first, second = run(*arguments), run(*arguments)
    assert (first.returncode, first.stderr) == (0, "")
    assert "2 train, 1 val, 1 test, 1 train_extra images" in first.stdout
    assert "(5 drawn)" in first.stdout
    assert second.returncode == 0
    assert "(all were there)" in second.stdout
    assert json.loads((arguments[0] / "synthetic.json").read_text())["seed"] == 0
    refused = run(*arguments, "--seed", 1)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("wrong", [
    ("--size", "256"), ("--size", "8x8"), ("--size", "-2x64"), ("--size", "99999x99999"),
    ("--train", "-1"), ("--workers", "0"), ("--seed", "x"),
])  # fmt: skip
def test_wrong_arguments_are_one_line(tmp_path: Path, wrong: tuple, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path / "out"), *wrong])
    with pytest.raises(SystemExit) as stopped:
        parse_args()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
