"""The benchmarks run and find what they compare equal; how fast anything is, no test asks."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from conftest import FIXTURES, draw_camvid
from make_weights import normals
from tiny import Tiny

import model
from benchmarks import loss, streets, timing, train_step
from benchmarks.relaxation import published_loss, relax
from datasets import build_dataset, describe
from utils import checkpoint
from utils.images import read_image, read_label, write_png

TINY = ["--rounds", 1, "--images", 2, "--size", 64, 128]


@pytest.fixture
def threads():
    """Benchmarks choose their own."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


@pytest.fixture
def camvid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CamVid whose val is three frames of a turn; best.pth are random weights for it."""
    root = draw_camvid(tmp_path / "camvid")
    for folder, read in (("val", read_image), ("valannot", read_label)):
        first = read(root / folder / "0016E5_7.png")
        for i in (1, 2):
            write_png(root / folder / f"0016E5_{7 + i}.png", np.roll(first, 5 * i, axis=1))
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    torch.manual_seed(0)
    checkpoint.write(root / "best.pth", {
        "format": checkpoint.FORMAT, "dataset": describe(build_dataset("camvid", root, "val"),
                                                         "camvid"),
        "model": {"arch": "tiny", "num_classes": 11, "options": {}}, "step": 0,
        "weights": Tiny(11).state_dict()})
    return root


def figures(line: str, columns: int) -> list[float]:
    return [float(word) for word in line.split()[-columns:]]


def test_streets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and a half by two shipped pictures; no two instances have one number."""
    monkeypatch.setattr(streets, "INSTANCES", 999)
    city, size = streets.shipped(), streets.shipped().sizes()[0]
    street = streets.make_street(1, (size[0] * 5 // 2, size[1] * 2))
    assert street.image.shape == (size[0] * 5 // 2, size[1] * 2, 3)
    places = [slice(size[0] * 3 // 4, size[0] * 7 // 4), slice(size[1])]  # of the second row
    number = 6 + 2  # after the first street's six
    assert (street.image[*places] == city.read_image(number)).all()
    assert (street.ids[*places] == city.read_ids(number)).all()
    found = street.instances[street.instances >= 1000]
    assert (found // 1000 == street.ids[street.instances >= 1000]).all()
    left, right = (set(np.unique(half[half >= 1000])) for half in
                   np.hsplit(street.instances[places[0]], 2))
    assert left
    assert not left & right
    assert (streets.make_street(2, size).image != streets.make_street(1, size).image).any()


def test_instances_are_numbered_on() -> None:
    taken = np.zeros(256, int)
    taken[24], taken[26] = 5, 11
    given = np.array([[24007, 24007, 24001], [26000, 26001, 7]], np.uint16)
    assert streets.renumber(given, taken).tolist() == [[24006, 24006, 24005], [26011, 26, 7]]
    assert (taken[24], taken[26], taken[7]) == (7, 12, 0)


@pytest.mark.slow
def test_data_path(call: Callable, threads: None) -> None:
    pytest.importorskip("skimage")
    done = call("benchmarks.data_path", *TINY, "--crop-size", 48)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].endswith(", 1 threads")
    assert lines[1].startswith("2 PNGs of 64x128")
    rows = [figures(line, 3) for line in lines[-7:-1]]
    assert all(figure > 0 for row in rows for figure in row)
    assert rows[0][1] == rows[2][2] == 1  # the two that the others are compared with
    assert "times as long as its decoder" in lines[-1]


@pytest.mark.slow
def test_loss(call: Callable, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares the gradients itself."""
    memory = loss.memory
    monkeypatch.setattr(loss, "memory", lambda name, size: len(name) * 1e6)
    done = call("benchmarks.loss", "--size", 250, "--rounds", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    about = lines[0][lines[0].index("250x250") :]
    assert float(about[2]) > 1  # per cent of the pixels, or there is nothing to compare
    assert [line[0] for line in lines[1:]] == ["target"] * 2 + ["loss"] * 3 + ["ours"] + [
        "memory"] * 3
    assert lines[1][4:] == lines[3][4:] == ["1.0", "x", "published"]
    assert lines[-2][-2:] == ["4", "MB"]
    assert memory("cross entropy", 700) > 4 * 19 * 700**2, "at least the gradient"


@pytest.mark.parametrize("batch", ["m0", "m1", "m2"])
def test_published_loss_of_the_peer(batch: str) -> None:
    folder = FIXTURES
    arrays, index = np.load(folder / "label_relaxation.npz"), int(batch[1])
    text = json.loads((folder / "label_relaxation.json").read_text())["cases"]
    logits = 3 * normals("logits", (3, 19, *arrays["labels"].shape[1:]), arrays["logit_seed"])
    target = torch.from_numpy(arrays["target_default"])[index : index + 1]
    loss = published_loss(torch.from_numpy(logits)[index : index + 1].double(), target)
    assert loss.item() == pytest.approx(text[f"relaxed_default_bw0_{batch}"]["loss"], rel=1e-5)


def test_turns_and_ratios(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is half as fast in the second round changes no ratio."""
    now = 0.0
    calls: list[tuple[str, int]] = []

    def work(name: str, seconds: float) -> Callable[[int], None]:
        def run(number: int) -> None:
            nonlocal now
            calls.append((name, number))
            now += seconds * (2 if ("slow", 2) in calls else 1)
        return run

    alternatives = {"slow": work("slow", 4), "quick": work("quick", 1)}
    times = timing.take_turns(alternatives, 2, least=3, clock=lambda: now)
    assert calls[:6] == [("slow", 0), ("quick", 0), ("slow", 1), *(("quick", n) for n in (1, 2, 3))]
    assert times == {"slow": [4, 8], "quick": [1, 2]}
    assert timing.ratio(times, "slow", "quick") == 4
    text = timing.table(times, "images", {"slow": "slow"})
    assert [line.split() for line in text.splitlines()] == [
        ["images/s", "x", "slow"], ["slow", "0.17", "1.00"], ["quick", "0.67", "4.00"]]


def test_medians() -> None:
    calls: list[str] = []
    found = timing.medians({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 3)
    assert calls == ["a", "b"] * 4
    assert set(found) == {"a", "b"}
    assert all(seconds > 0 for seconds in found.values())


def test_relaxed_targets_of_the_peer() -> None:
    target = np.full((5, 6), 255, np.uint8)
    target[:, 3:] = 7
    relaxed = relax(target)
    assert relaxed.shape == (20, 5, 6)
    assert (relaxed[7, :, 2:] == 1).all()
    assert (relaxed[7, :, :2] == 0).all()
    assert (relaxed[19, 1:-1] == [[1, 1, 1, 1, 0, 1]]).all()  # beyond the border is void


def test_evaluation(call: Callable, threads: None) -> None:
    pytest.importorskip("cityscapesscripts")
    done = call("benchmarks.evaluation", *TINY)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    rows = lines[lines.index("scores equal: True; 2 pairs with instances") + 1 :]
    assert sum("cached" in row for row in rows) >= 1


@pytest.mark.slow
def test_latency(call: Callable, threads: None) -> None:
    done = call("benchmarks.latency", "--size", 64, 128, "--rounds", 1, "--threads", 1,
                "--no-compile")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    for line in lines[:3]:
        agreement, classes = float(line.split(": ")[1].split()[0]), int(line.split()[-2])
        assert agreement > (20 if "bf16" in line else 99)  # a chance is 5 %
        assert classes > 1
    assert figures(lines[-3], 2)[1] == 1


@pytest.mark.slow
def test_latency_beside_engines(call: Callable, threads: None) -> None:
    pytest.importorskip("onnxruntime")
    done = call("benchmarks.latency", "--peers", "--size", 64, 128, "--rounds", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    agreement = next(line for line in lines if line.startswith("onnxruntime"))
    assert float(agreement.split(": ")[1].split()[0]) > 99
    assert "onnxruntime, fp32" in lines[-1] or "OpenVINO" in lines[-1]


@pytest.mark.parametrize(("precision", "optimizer", "loss"), [
    *product(["fp32"], ["sgd", "adamw"], ["cross_entropy", "label_relaxation"]),
    ("bf16", "sgd", "cross_entropy"),
])
def test_both_training_steps_do_the_same(
    precision: str, optimizer: str, loss: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    monkeypatch.setattr(train_step, "LR", 0.01)
    case = train_step.Case(2, (64, 96), optimizer, loss, {"output_stride": 8})
    published, ours = [], []
    for losses, build in ((published, train_step.published_step),
                          (ours, partial(train_step.our_step, how=precision))):
        torch.manual_seed(0)
        step = build("tiny", case)
        for _ in range(4):
            torch.manual_seed(0)  # of dropout
            losses.append(step())
    assert ours == pytest.approx(published, rel=1e-5 if precision == "fp32" else 0.01)
    assert published == sorted(published, reverse=True)
    assert published[-1] < published[0]


class Here:
    """In place of a pool of one process: its work is done in this one."""

    def __init__(self, _: int, __: object, initializer: Callable, initargs: tuple) -> None:
        initializer(*initargs)
        self.step = train_step._steps.pop()

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, take_step: Callable) -> SimpleNamespace:
        train_step._steps.append(self.step)
        loss, _ = take_step()
        train_step._steps.clear()
        return SimpleNamespace(result=lambda: (loss, 10**7))  # memory is that of earlier tests


@pytest.mark.parametrize("pool", [Here, pytest.param(ProcessPoolExecutor, marks=pytest.mark.slow)])
def test_train_step(
    pool: type, call: Callable, threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It compares the losses itself."""
    monkeypatch.setattr(train_step, "ProcessPoolExecutor", pool)
    done = call("benchmarks.train_step", "--network", "cspsg_n", "--batch", 2, "--size", 64, 96,
                "--rounds", 1, "--threads", 1, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    first, _, about, head, *rows = done.stdout.splitlines()
    assert first.endswith("AMX no, 1 threads; medians of 1 rounds") or "AMX yes" in first
    assert about == "cspsg_n, 2 x 64x96, cross_entropy, sgd"
    assert head.split() == ["images/s", "x", "published", "MB", "of", "it"]
    assert [row[:15].strip() for row in rows] == ["published, fp32", "ours, fp32"]
    assert all(figure > 0 for row in rows for figure in figures(row, 4))
    assert all(1 < figures(row, 4)[2] < 500 for row in rows), "MB"
    assert figures(rows[0], 4)[1::2] == [1, 1]


def test_other_losses_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def apart(name: str, case: object, how: str | None, threads: int) -> Iterator[Callable]:
        yield lambda: (3.0 if how else 2.9, 1)

    monkeypatch.setattr(train_step, "apart", apart)
    args = SimpleNamespace(precision=["fp32"], compile=False, threads=1, rounds=1)
    with pytest.raises(RuntimeError, match="tiny: the sides have other losses"):
        train_step.measure("tiny", train_step.Case(), args)


@pytest.mark.slow
def test_multiscale(call: Callable, threads: None) -> None:
    """Of windows that fill the small image and tile the larger ones: 2 x (1 + 3 + 3) forwards."""
    done = call("benchmarks.multiscale", "--runs", 1, "--size", 128, 256)
    assert done.returncode == 0, done.stderr
    _, *sides, ratio, agreement = done.stdout.splitlines()
    assert [line.split()[0] for line in sides] == ["published", "ours"]
    assert all("taken off: 14 forwards" in line for line in sides)
    assert all(float(line.split("+")[1].split()[0]) < 0.5 for line in sides), "GiB: it is small"
    ratios = [float(word.rstrip("x")) for word in ratio.split() if word.endswith("x")]
    assert len(ratios) == 3
    assert min(ratios) > 0
    assert float(agreement.split()[-5]) > 99  # 90 if mirror images were not turned back


def test_propagation(call: Callable, threads: None, camvid: Path) -> None:
    """From the middle one of three frames to the last."""
    done = call("benchmarks.propagation", "--data-root", camvid, "--propagate", 1, "--snapshot",
                camvid / "best.pth", "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    first, head, *rows = done.stdout.splitlines()
    assert first.startswith("1 labels carried")
    assert head.split() == ["frames", "2"]
    assert [row.split()[0] for row in rows] == ["none", *["dis"] * 5]
    dataset = build_dataset("camvid", camvid, "val")
    before, after = (dataset.to_train_ids(dataset.read_ids(i), i) for i in (1, 2))
    counted = (before != 255) & (after != 255)
    overlaps = [(before == after)[counted & (before == c)].sum()
                / (counted & ((before == c) | (after == c))).sum() for c in range(11)]
    unmoved, moved = (float(row[28:].split()[0]) for row in rows[:2])
    assert unmoved == pytest.approx(100 * np.mean(overlaps), abs=0.01)
    assert moved > unmoved + 10


@pytest.mark.parametrize(("words", "message"), [
    (["propagation", "--data-root", "{root}", "--propagate", "2"],
     "--propagate 2: {root} has at most 1 frames after a labelled one; give fewer"),
    (["propagation", "--data-root", "{root}", "--class-map", "x"], "give --snapshot FILE too"),
    (["propagation", "--data-root", "{root}", "--propagate", "1", "--snapshot", "{other}"],
     "its 11 classes (moon, building, pole, ...) are not the data set's 11 (sky, "),
])
def test_refused_videos(words: list, message: str, call: Callable, camvid: Path) -> None:
    places = {"root": camvid, "best": camvid / "best.pth", "other": camvid / "other.pth"}
    snapshot = checkpoint.read(places["best"])
    snapshot["dataset"]["class_names"][0] = "moon"
    checkpoint.write(places["other"], snapshot)
    script, *rest = (word.format(**places) for word in words)
    done = call(f"benchmarks.{script}", *rest)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert message.format(**places) in done.stderr
