"""The benchmarks run and find what they compare equal; how fast anything is, no test asks."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import draw_camvid
from make_weights import normals

from benchmarks import timing
from benchmarks.relaxation import published_loss

TINY = ["--rounds", 1, "--images", 2, "--size", 64, 128]


@pytest.fixture
def threads():
    """Benchmarks choose their own."""
    before = cv2.getNumThreads(), torch.get_num_threads()
    yield
    cv2.setNumThreads(before[0])
    torch.set_num_threads(before[1])


def figures(line: str, columns: int) -> list[float]:
    return [float(word) for word in line.split()[-columns:]]


def test_data_path(call: Callable, threads: None, tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    pytest.importorskip("zstandard")
    root = draw_camvid(tmp_path)
    done = call("benchmarks.data_path", *TINY, "--crop-size", 48, "--data-root", root)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("2 PNGs of 64x128")
    rows = [figures(line, 3) for line in lines[-8:-1]]
    assert all(figure > 0 for row in rows for figure in row)
    assert rows[0][1] == rows[2][2] == 1  # the two that the others are compared with
    assert "times as long as its decoder" in lines[-1]


def test_centroids(call: Callable, threads: None) -> None:
    """From drawn streets; it compares the results itself."""
    done = call("benchmarks.centroids", *TINY, "--tile", 32)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "equal centroids" in lines[0]
    rows = [figures(line, 3) for line in lines[2:]]
    assert len(rows) == 4
    assert rows[0][1] == rows[1][2] == 1


def test_loss(call: Callable, threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """It compares the gradients itself."""
    monkeypatch.setattr("benchmarks.loss.memory", lambda name, size: len(name) * 1e6)
    done = call("benchmarks.loss", "--size", 48, "--rounds", 1, "--threads", 1)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0][0] == "48x48"
    assert float(lines[0][2]) > 1  # per cent of the pixels, or there is nothing to compare
    assert [line[0] for line in lines[1:]] == ["target"] * 2 + ["loss"] * 3 + ["ours"] + [
        "memory"] * 3
    assert lines[1][4:] == lines[3][4:] == ["1.0", "x", "published"]
    assert lines[-2][-2:] == ["4", "MB"]
    done = call("benchmarks.loss", "--size", 700, "--memory-of", "cross entropy")
    assert int(done.stdout) > 4 * 19 * 700**2, "at least the gradient, which is mapped afresh"


@pytest.mark.parametrize("batch", ["m0", "m1", "m2"])
def test_published_loss_of_the_peer(batch: str) -> None:
    folder = Path(__file__).parent / "fixtures"
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
    peers = pytest.importorskip("benchmarks.peers")
    target = np.full((5, 6), 255, np.uint8)
    target[:, 3:] = 7
    relaxed = peers.relax(target)
    assert relaxed.shape == (20, 5, 6)
    assert (relaxed[7, :, 2:] == 1).all()
    assert (relaxed[7, :, :2] == 0).all()
    assert (relaxed[19, 1:-1] == [[1, 1, 1, 1, 0, 1]]).all()  # beyond the border is void


def test_evaluation(call: Callable, threads: None) -> None:
    pytest.importorskip("cityscapesscripts")
    done = call("benchmarks.evaluation", *TINY)
    assert done.returncode == 0, done.stderr
    first, *rows = done.stdout.splitlines()[-8:]
    assert first.startswith("scores equal: True; 2 pairs with instances")
    assert sum("cached" in row for row in rows) >= 1


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
