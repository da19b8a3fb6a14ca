"""demo_folder.py and what it is made of: threads around a network that runs in order."""

import itertools
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, ROOT, blobs, paint

import model
from model.snapshot import load_model
from utils import checkpoint
from utils.images import read_image, read_label, write_png
from utils.inference import pipeline
from utils.inference.predictor import Predictor
from utils.pictures import Painter
from utils.workers import map_in_threads

TABLE = CLASSES["cityscapes"]
DATASET = {"name": "cityscapes", "class_names": TABLE.class_names,
           "palette": [list(color) for color in TABLE.palette],
           "train_id_to_id": TABLE.train_id_to_id}
WAIT = 20  # seconds until a test gives up


def random_snapshot(path: Path) -> Path:
    """A checkpoint of a small network of random weights."""
    torch.manual_seed(0)
    network = model.build_model("sgcpnet", 19)
    checkpoint.write(path, {"format": checkpoint.FORMAT, "model": network.config, "step": 0,
                            "dataset": DATASET, "weights": network.state_dict()})
    return path


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_snapshot(tmp_path_factory.mktemp("snapshot") / "best.pth")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four images of two sizes."""
    rng = np.random.default_rng(0)
    for i in range(4):
        label = blobs(rng, (40 + 8 * (i % 2), 64), list(range(8)))
        write_png(tmp_path / f"photos/{i}.png", paint(rng, label))
    return tmp_path / "photos"


def test_stages_overlap_and_infer_is_in_order() -> None:
    """Each stage waits for what another must have done meanwhile: one after another would hang."""
    read_ahead, written = threading.Event(), threading.Event()
    threads: dict[str, set[int]] = {"read": set(), "infer": set(), "finish": set()}
    order = []

    def read(item: int) -> int:
        threads["read"].add(threading.get_ident())
        if item == 1:
            read_ahead.set()
        return 10 * item

    def infer(value: int) -> int:
        threads["infer"].add(threading.get_ident())
        order.append(value)
        if value == 0:
            assert read_ahead.wait(WAIT)
        if value == 30:
            assert written.wait(WAIT)
        return value + 1

    def finish(item: int, value: int, answer: int) -> tuple[int, int, int]:
        threads["finish"].add(threading.get_ident())
        if item == 0:
            written.set()
        time.sleep(0.01 * (item % 3))
        return item, value, answer

    done = list(pipeline.pipeline(range(9), read, infer, finish, threads=2))
    assert [each.item for each in done] == list(range(9))
    assert [each.result for each in done] == [(i, 10 * i, 10 * i + 1) for i in range(9)]
    assert order == [10 * i for i in range(9)]
    assert threads["infer"] == {threading.get_ident()}
    assert threading.get_ident() not in threads["read"] | threads["finish"]


def test_queues_are_bounded() -> None:
    """Nobody takes results: only a few of a thousand items are read."""
    read, inferred = itertools.count(), itertools.count()
    done = pipeline.pipeline(range(1000), lambda _: next(read), lambda _: next(inferred),
                             lambda *_: None, threads=2)
    next(done)
    time.sleep(0.1)
    assert next(inferred) == 5  # two a thread ahead, and the one that was asked for
    assert next(read) <= 5 + 5
    done.close()


def test_unreadable_items_are_passed_over_in_place() -> None:
    def read(item: int) -> int:
        if item == 1:
            raise ValueError("damaged")
        return item

    done = list(pipeline.pipeline(range(3), read, str, lambda *step: step, threads=2))
    assert [str(each.fault) for each in done] == ["None", "damaged", "None"]
    assert [each.result for each in done] == [(0, 0, "0"), None, (2, 2, "2")]
    with pytest.raises(ZeroDivisionError):  # a fault of ours is none of the input
        list(pipeline.pipeline([0], lambda item: 1 / item, str, lambda *_: None, threads=1))


def test_what_has_not_begun_is_dropped_after_an_error() -> None:
    begun, go = [], threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            go.wait(WAIT)
            raise OSError("disk full")
        time.sleep(0.3)

    results = map_in_threads(work, range(100), 1)
    threading.Timer(0.05, go.set).start()
    with pytest.raises(OSError, match="disk full"):
        list(results)
    assert len(begun) <= 2  # the next may have begun before the error was seen, not the third


def test_stopping_finishes_what_is_inferred() -> None:
    stop: list[int] = []

    def infer(value: int) -> int:
        if value == 3:
            stop.append(1)
        return value

    done = list(pipeline.pipeline(range(100), int, infer, lambda *step: step[2], 2, stop))
    assert [each.result for each in done] == [0, 1, 2, 3]


def test_pace_says_both_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(pipeline, "perf_counter", lambda: now)
    pace = pipeline.Pace(torch.device("cpu"), "frame")

    def infer(seconds: float) -> None:
        nonlocal now
        now += seconds

    for seconds in (5, 0.2, 0.3):
        pace.timed(infer)(seconds)
        now += 1
    assert "end to end 0.35 frames/s: 3 read" in str(pace)
    assert "in 8.50 s" in str(pace)
    assert "network 4.00 frames/s" in str(pace)  # the first 5 s are warm-up
    assert "without the first" in str(pace)


def test_folder(call, snapshot: Path, photos: Path, tmp_path: Path) -> None:
    done = call("demo_folder.py", "--demo-folder", photos, "--snapshot", snapshot, "--save-dir",
                tmp_path / "out", "--threads", 2, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    predictor = Predictor(load_model(snapshot))
    for i in range(4):
        image = read_image(photos / f"{i}.png")
        expected = Painter(DATASET).draw("id_mask", image, predictor.label_map(image).numpy())
        written = read_label(tmp_path / f"out/{i}_id_mask.png")
        assert (written == expected).mean() > 0.999  # the demo's batch norms are fused
    rates = [float(n) for n in re.findall(r"([\d.]+) images/s", done.stdout)]
    assert "4 of 4 files segmented" in done.stdout
    assert len(rates) == 2
    assert min(rates) > 0


def test_only_the_outputs_that_are_asked_for(call, snapshot: Path, photos: Path,
                                             tmp_path: Path) -> None:
    base = ["--snapshot", snapshot, "--save-dir", tmp_path / "out", "--outputs", "overlay"]
    call("demo_folder.py", "--demo-folder", photos, *base)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{i}_overlay.png" for i in range(4)}
    done = call("demo.py", "--demo-image", photos / "0.png", *base[:4], "--outputs", "id_mask")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/0_id_mask.png").exists()
    done = call("demo.py", "--demo-image", photos / "0.png", *base[:4], "--outputs", "mask")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_disk_that_fills_up(call, snapshot: Path, photos: Path, tmp_path: Path) -> None:
    """One picture is larger than files may be, a limit of the system's own."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    write_png(photos / "2.png", noise)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        done = call("demo_folder.py", "--demo-folder", photos, "--snapshot", snapshot,
                    "--save-dir", tmp_path / "out", "--outputs", "overlay")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 1
    assert re.fullmatch(rf"error: {tmp_path}/out/2_overlay\.png: not written "
                        r"\(File too large\); it needs 1 MB", done.stderr.splitlines()[-1])
    assert "Traceback" not in done.stderr
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"0_overlay.png", "1_overlay.png"} <= left <= {f"{i}_overlay.png" for i in (0, 1, 3)}
    assert all(read_image(tmp_path / "out" / name).size for name in left)


def test_save_dir_is_checked_before_the_network_is_loaded(call, photos: Path) -> None:
    done = call("demo_folder.py", "--demo-folder", photos, "--snapshot", "nothing.pth",
                "--save-dir", photos / "0.png/out")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {photos}/0.png")


def test_interrupted(snapshot: Path, photos: Path, tmp_path: Path) -> None:
    """Ctrl-C: whole pictures and no traceback; the file that is written now is finished."""
    for i in range(4, 400):
        os.link(photos / "0.png", photos / f"{i}.png")
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, ROOT / "demo_folder.py", "--demo-folder", photos, "--snapshot", snapshot,
         "--save-dir", out, "--precision", "fp32"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 2 * WAIT
    while not list(out.glob("*")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=WAIT)
    assert process.returncode == 130
    assert "Traceback" not in errors
    count = int(re.search(r"(\d+) of 400 files", said)[1])
    names = [path.name for path in out.iterdir()]
    assert 0 < count < 400
    assert len(names) == 3 * count
    assert not [name for name in names if name.startswith(".")]
    for name in names:
        read_image(out / name)
