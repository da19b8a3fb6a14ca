"""Clips of the drawn city: layout, and labels and colors that go where the flow says."""

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets import build_dataset
from datasets.cityscapes_labels import LABELS
from datasets.clips import Clip, Extras, find_clips
from datasets.render import Drawing, draw
from datasets.scene import make_scene
from datasets.street.collisions import overlap
from datasets.street.flow import CLEAR, HIDDEN, THROUGH, UNKNOWN, flow
from datasets.street.motion import FRAMES, LABELLED, RATE, plan
from datasets.street.world import Camera, Scene, Thing
from datasets.synthetic import image_seed, parse_args, write_city
from utils.flow_images import read_flow, write_flow
from utils.images import read_image, read_label, write_png

IDS = {label.name: label.id for label in LABELS}
SIZE, SEED = (96, 192), 0
COUNTS = {"train": 1, "val": 1}
ALL = Extras(labels=True, flow=True)


def digests(folder: Path, kind: str = "") -> dict[str, str]:
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob(f"{kind}*/*/*/*"))}  # fmt: skip


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("city")
    write_city(out, COUNTS, SIZE, SEED, clips=ALL)
    return out


def pairs(city: Path) -> Iterator[tuple[Clip, int, int, str]]:
    """Clip, frame, the frame beside it, direction: every third of both splits."""
    for split in COUNTS:
        for clip in find_clips(city, split):
            for frame in range(1, FRAMES - 1, 3):
                yield clip, frame, frame + 1, "forward"
                yield clip, frame, frame - 1, "backward"


def targets(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns and rows, float32, to which pixels move."""
    y, x = np.mgrid[: vectors.shape[0], : vectors.shape[1]].astype(np.float32)
    return x + vectors[..., 0], y + vectors[..., 1]


def off_borders(label: np.ndarray) -> np.ndarray:
    """Pixels whose 3x3 neighbors have their label."""
    return cv2.morphologyEx(label, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) == 0


def test_layout(city: Path) -> None:
    for split in COUNTS:
        (clip,) = find_clips(city, split)
        images, labels, flows = (
            sorted(path.name for path in city.glob(f"{kind}_sequence/{split}/*/*"))
            for kind in ("leftImg8bit", "gtFine", "flow")
        )
        assert images == [f"{clip.name}_{k:06d}_leftImg8bit.png" for k in range(FRAMES)]
        assert labels == [f"{clip.name}_{k:06d}_gtFine_labelIds.png" for k in range(FRAMES)]
        assert flows == sorted([f"{clip.name}_{k:06d}_forward.png" for k in range(FRAMES - 1)]
                               + [f"{clip.name}_{k:06d}_backward.png" for k in range(1, FRAMES)])
        dataset = build_dataset("cityscapes", city, f"{split}_sequence")
        assert [sample.image for sample in dataset.samples] == list(map(clip.image, range(FRAMES)))


def test_the_labelled_frame_is_the_image(city: Path) -> None:
    for split in COUNTS:
        (clip,) = find_clips(city, split)
        (image,) = city.glob(f"leftImg8bit/{split}/*/*")
        (label,) = city.glob(f"gtFine/{split}/*/*_labelIds.png")
        assert clip.image(LABELLED).read_bytes() == image.read_bytes()
        assert clip.image(LABELLED).name == image.name
        assert np.array_equal(clip.read_labels(LABELLED), read_label(label))


def test_stills_do_not_depend_on_clips_nor_clips_on_extras(city: Path, tmp_path: Path) -> None:
    write_city(tmp_path / "stills", COUNTS, SIZE, SEED)
    for kind in ("leftImg8bit", "gtFine", "gtCoarse"):
        assert digests(tmp_path / "stills", kind).items() <= digests(city, kind).items()
    write_city(tmp_path / "frames", COUNTS, SIZE, SEED, workers=2, clips=Extras())
    kinds = {path.name for path in (tmp_path / "frames").iterdir() if path.is_dir()}
    assert kinds == {"leftImg8bit", "leftImg8bit_sequence", "gtFine", "gtCoarse"}
    assert digests(tmp_path / "frames").items() <= digests(city).items()


def test_test_images_get_frames_alone_and_a_stopped_run_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.clips.FRAMES", 4)  # quicker
    counts, size = {"test": 1, "train_extra": 1}, (32, 64)
    write_city(tmp_path, counts, size, clips=ALL)
    before = digests(tmp_path)
    assert len(list(tmp_path.glob("leftImg8bit_sequence/test/*/*"))) == 4
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {
        "leftImg8bit", "leftImg8bit_sequence", "gtCoarse"}  # fmt: skip
    with pytest.raises(FileNotFoundError, match="no clips of train_extra.*--clips"):
        find_clips(tmp_path, "train_extra")
    next(tmp_path.glob("leftImg8bit/test/*/*")).unlink()  # the last file of a clip
    next(tmp_path.glob("leftImg8bit_sequence/test/*/*_000003_*")).unlink()
    assert write_city(tmp_path, counts, size, clips=ALL) == 1
    assert digests(tmp_path) == before
    for other in (None, Extras(labels=True)):
        with pytest.raises(ValueError, match="clips.*another folder"):
            write_city(tmp_path, counts, size, clips=other)


@pytest.mark.parametrize("option", ["--all-labels", "--flow"])
def test_extras_need_clips(option: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path), option])
    with pytest.raises(SystemExit) as stopped:
        parse_args()
    assert stopped.value.code == 2
    assert "--clips" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["synthetic", str(tmp_path), option, "--clips"])
    assert parse_args().clips


def test_labels_follow_the_flow(city: Path) -> None:
    warped, still = [], []
    for clip, frame, other, direction in pairs(city):
        vectors, state = clip.read_flow(frame, direction)
        label, there = clip.read_labels(frame), clip.read_labels(other)
        counted = (state >= THROUGH) & off_borders(label)
        assert counted.mean() > 0.6
        column, row = (np.rint(c[counted]).astype(int) for c in targets(vectors))
        warped.append((there[row, column] == label[counted]).mean())
        still.append((there[counted] == label[counted]).mean())
    assert min(warped) > 0.99
    assert np.mean(warped) > 0.998
    assert np.mean(still) < 0.99


def test_colors_follow_the_flow(city: Path) -> None:
    """Textures stick to what moves: the warped neighbor differs by little more than grain."""
    for split in COUNTS:
        errors = []
        for clip, frame, other, direction in pairs(city):
            if clip.split != split:
                continue
            vectors, state = clip.read_flow(frame, direction)
            image, there = (clip.read_image(k).astype(np.float32) for k in (frame, other))
            clear = (state == CLEAR) & off_borders(clip.read_labels(frame))
            moved = cv2.remap(there, *targets(vectors), cv2.INTER_LINEAR)
            errors.append([np.abs(one - image)[clear].mean() for one in (moved, there)])
        with_flow, without = np.mean(errors, 0)
        assert with_flow < 5
        assert with_flow < 0.55 * without


def test_there_and_back(city: Path) -> None:
    """Forward and backward flow undo each other where both frames show the point."""
    for split in COUNTS:
        (clip,) = find_clips(city, split)
        for frame in range(0, FRAMES - 1, 4):
            vectors, state = clip.read_flow(frame, "forward")
            back, back_state = clip.read_flow(frame + 1, "backward")
            column, row = targets(vectors)
            at = np.rint(row).astype(int), np.rint(column).astype(int)
            inside = (state == CLEAR) & off_borders(clip.read_labels(frame))
            at = tuple(axis[inside] for axis in at)
            returned = cv2.remap(back, column, row, cv2.INTER_LINEAR)[inside] + vectors[inside]
            error = np.linalg.norm(returned, axis=-1)[back_state[at] == CLEAR]
            # Between two surfaces, interpolation mixes their flows.
            assert np.percentile(error, 90) < 0.1
            assert (back_state[at] >= THROUGH).mean() > 0.95


@pytest.fixture
def street() -> Scene:
    """An endless road under the sky."""
    scene = make_scene(11)
    road = replace(scene.strips[1], area=(-400.0, 400.0, -20.0, 600.0))
    return replace(scene, curvature=0.0, strips=(road,), things=())


def picture(scene: Scene, camera: Camera) -> Drawing:
    return draw(scene, replace(camera, hood=0.0), 64, 128)


def test_flow_of_the_ground_is_that_of_a_plane(street: Scene) -> None:
    """A camera that drives on by d sees the ground at depth z at 1 - d / z of its depth."""
    camera, ahead = Camera((0.0, 0.0, 1.4), focal=0.9), 0.8
    start, end = (picture(street, replace(camera, position=(0.0, y, 1.4))) for y in (0.0, ahead))
    vectors, state = flow(start, end)
    y, x = np.mgrid[:64, :128] - np.array((31.5, 63.5))[:, None, None]
    ground = start.labels == IDS["road"]
    depth = 0.9 * 128 * 1.4 / np.maximum(y, 0.1)
    near = ground & (depth <= 1.3)
    scale = depth / (depth - ahead) - 1
    seen = ground & ~near
    assert seen.sum() > 3000
    expected = np.stack((x, y), -1) * scale[..., None]
    assert np.abs(vectors - expected)[seen].max() < 1e-3
    assert np.abs(vectors[start.labels == IDS["sky"]]).max() < 1e-6
    column, row = targets(expected)
    inside = (column >= 0) & (column <= 127) & (row >= 0) & (row <= 63)
    assert ((state == CLEAR) == inside)[seen].mean() > 0.999


@pytest.fixture
def car() -> Thing:
    scenes = map(make_scene, range(20))
    return next(thing for scene in scenes for thing in scene.things if thing.kind == "car")


def test_a_thing_takes_its_pixels_along_and_hides_others(street: Scene, car: Thing) -> None:
    camera = Camera((0.0, 0.0, 1.4), focal=1.0)
    start, end = (
        picture(replace(street, things=(replace(car, position=(x, 10.0, 0.0), heading=0.0),)),
                camera) for x in (0.0, 0.5)
    )  # fmt: skip
    vectors, state = flow(start, end)
    on_car = start.labels == car.label
    depth = np.array((10 - car.size[0] / 2, 10 + car.size[0] / 2))
    assert on_car.sum() > 200
    assert (vectors[on_car][:, 0] <= 128 * 0.5 / depth[0] + 1e-3).all()
    assert (vectors[on_car][:, 0] >= 128 * 0.5 / depth[1] - 1e-3).all()
    assert np.abs(vectors[on_car][:, 1]).max() < 1e-3
    assert (vectors[~on_car] == 0).all()
    covered = ~on_car & (end.labels == car.label)
    assert covered.sum() > 20
    assert (state[covered] == HIDDEN).mean() > 0.95
    assert (state[~on_car & ~covered] == CLEAR).all()


def test_a_thing_that_turns_swings_its_rear(street: Scene, car: Thing) -> None:
    camera, turn = Camera((0.0, 0.0, 1.4), focal=1.0), 0.3
    start, end = (
        picture(replace(street, things=(replace(car, position=(0.0, 10.0, 0.0), heading=h),)),
                camera) for h in (0.0, turn)
    )  # fmt: skip
    vectors, _ = flow(start, end)
    rows = np.flatnonzero((start.labels == car.label)[:, 64])
    low, high = (
        128 * np.sin(turn) * radius / (10 - np.cos(turn) * radius)
        for radius in (0.4 * car.size[0], 0.5 * car.size[0])
    )
    rear = -vectors[rows[len(rows) // 2 : -len(rows) // 4], 63:65, 0]  # to the left
    assert rear.size >= 6
    # These two columns are half a pixel beside the middle of the car.
    assert ((low - 0.5 <= rear) & (rear <= high + 0.5)).all()


def test_what_is_behind_the_camera_is_unknown(street: Scene) -> None:
    camera = Camera((0.0, 0.0, 1.4), focal=0.4)
    start, end = (picture(street, replace(camera, position=(0.0, y, 1.4))) for y in (0.0, 5.0))
    vectors, state = flow(start, end)
    below = state[-1]
    assert (below == UNKNOWN).all()
    assert (vectors[-1] == 0).all()


def test_motion_is_plausible() -> None:
    """Things go where they look, as fast as their kind does; nobody runs into anybody."""
    limits = {"person": 2.0, "rider": 7.0, "bicycle": 7.0, "car": 20.0}
    moving = set()
    for index in range(4):
        scene = make_scene(image_seed(SEED, "train", index))
        motion = plan(scene)
        assert motion.at(LABELLED) == scene
        first, last = motion.at(0), motion.at(FRAMES - 1)
        heights = {motion.at(k).camera.position[2] for k in range(FRAMES)}
        assert max(heights) - min(heights) < 0.1
        for thing, before, after in zip(scene.things, first.things, last.things, strict=True):
            way = np.subtract(after.position, before.position)[:2]
            speed = np.hypot(*way) / ((FRAMES - 1) / RATE)
            if not speed:
                assert thing == before == after
                continue
            moving.add(thing.kind)
            assert speed < limits.get(thing.kind, 20.0)
            look = np.array((np.sin(thing.heading), np.cos(thing.heading)))
            assert way @ look > 0.97 * np.hypot(*way), "it slides to the side"
        vehicles = ("car", "truck", "bus")
        bodies = [k for k, thing in enumerate(scene.things) if thing.kind in vehicles]
        half = np.array([scene.things[k].size[:2] for k in bodies]) / 2
        for a, k in enumerate(bodies):
            poses = np.array([[(*s.things[j].position[:2], s.things[j].heading)
                               for s in (first, scene, last)] for j in bodies])  # fmt: skip
            hits = overlap(poses[a][None], half[a][None], poses, half)
            hits[a] = False
            assert not hits[~hits[:, 1]].any(), f"thing {k} runs into another one"
    assert {"car", "person", "rider"} <= moving


def test_flow_images_are_those_of_kitti(tmp_path: Path) -> None:
    path, size = tmp_path / "flow.png", (3, 5)
    vectors = np.random.default_rng(0).uniform(-500, 500, (*size, 2)).astype(np.float32)
    state = np.full(size, CLEAR, np.uint8)
    state[0, 0], vectors[1, 1] = UNKNOWN, (600, 0)
    write_flow(path, vectors, state)
    stored = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert (stored.dtype, stored.shape) == (np.uint16, (*size, 3))
    v, u = (round(64 * float(c)) + 32768 for c in vectors[2, 3, ::-1])
    assert stored[2, 3].tolist() == [CLEAR, v, u]
    found, found_state = read_flow(path)
    unknown = found_state == UNKNOWN
    assert np.argwhere(unknown).tolist() == [[0, 0], [1, 1]]
    assert (found[unknown] == 0).all()
    assert np.abs(found - vectors)[~unknown].max() <= 1 / 128
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_flow(path)
    write_png(path, np.zeros((4, 4, 3), np.uint8))
    assert read_image(path).shape == (4, 4, 3)
    with pytest.raises(ValueError, match="8-bit RGB PNG, expected flow"):
        read_flow(path)
