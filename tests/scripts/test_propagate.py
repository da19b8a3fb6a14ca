"""Labels carried along video: motion, warping, the script, its resumption and its refusals."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import cv2
import numpy as np
import pytest
import torch
from conftest import ROOT, blobs, paint
from torchvision.models import optical_flow as torchvision_flow

import model
from datasets import build_dataset
from datasets.video.propagation import Method, Propagation, find_chains
from model.flow import MOTIONS
from model.sdcnet import SDCNet2DRecon
from utils import checkpoint
from utils.images import read_image, read_label, write_png
from utils.video.flow import dis_flow, disagreement, warp, warp_labels

SIZE = 49, 83  # odd
STEP = 3, 1  # pixels right and down that the camera moves between frames
IDS = [7, 8, 11, 21, 23, 26]
NAME = "aachen_000000_"


def view(canvas: np.ndarray, frame: int) -> np.ndarray:
    """What the camera sees of a canvas in a frame, 19 in its middle."""
    left, top = 30 + STEP[0] * (frame - 19), 20 + STEP[1] * (frame - 19)
    return np.ascontiguousarray(canvas[top : top + SIZE[0], left : left + SIZE[1]])


def draw_scene() -> tuple[np.ndarray, np.ndarray]:
    """Image and ids that are larger than what the camera sees."""
    rng = np.random.default_rng(0)
    ids = blobs(rng, (100, 150), IDS)
    return cv2.GaussianBlur(paint(rng, ids), (0, 0), 1), ids


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One labelled frame, 19, and the frames 16 to 22 around it."""
    root = tmp_path_factory.mktemp("city")
    image, ids = draw_scene()
    for frame in range(16, 23):
        write_png(root / f"leftImg8bit_sequence/train/aachen/{NAME}{frame:06d}_leftImg8bit.png",
                  view(image, frame))
    write_png(root / f"leftImg8bit/train/aachen/{NAME}000019_leftImg8bit.png", view(image, 19))
    write_png(root / f"gtFine/train/aachen/{NAME}000019_gtFine_labelIds.png", view(ids, 19))
    return root


@pytest.fixture
def propagate(call: Callable, root: Path, tmp_path: Path):
    """Runs the script; it writes to `out`, and to the frames 17, 18, 20, 21."""
    threads = cv2.getNumThreads()
    words = ["--data-root", root, "--propagate", 2, "--workers", 1, "--device", "cpu"]
    yield lambda *more: call("propagate.py", "--save-dir", tmp_path / "out", *words, *more)
    cv2.setNumThreads(threads)


def read(out: Path, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label that were written."""
    return (read_image(out / f"leftImg8bit/train/aachen/{NAME}{frame:06d}_leftImg8bit.png"),
            read_label(out / f"gtFine/train/aachen/{NAME}{frame:06d}_gtFine_labelIds.png"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}


def refused(done: SimpleNamespace, code: int = 2) -> str:
    """The message, if it is one line and the exit code is this."""
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    return done.stderr


def accuracy(found: np.ndarray, truth: np.ndarray) -> float:
    counted = found != 255
    return (found == truth)[counted].mean()


def test_flow_is_backward() -> None:
    """Each vector leads from the target to where the thing is in the source."""
    image, ids = draw_scene()
    target, source = view(image, 20), view(image, 19)
    flow = dis_flow(target, source)
    assert flow.shape == (*SIZE, 2)
    assert np.median(flow, axis=(0, 1)) == pytest.approx(STEP, abs=0.1)
    inner = slice(5, -5), slice(5, -5)
    moved, still = (np.abs(frame[inner].astype(int) - target[inner]).mean()
                    for frame in (warp(source, flow), source))
    assert moved < still / 3
    assert np.median(disagreement(flow, dis_flow(source, target))) < 0.2


def test_warping_by_exact_flow() -> None:
    image, ids = draw_scene()
    flow = np.full((*SIZE, 2), STEP, np.float32)
    there = slice(0, -STEP[1]), slice(0, -STEP[0])  # the rest is not in the source
    labels = warp_labels(view(ids, 19), flow)
    assert np.array_equal(labels[there], view(ids, 20)[there])
    assert (labels[-STEP[1] :] == 255).all()
    assert (labels[:, -STEP[0] :] == 255).all()
    assert np.array_equal(warp(view(image, 19), flow)[there], view(image, 20)[there])
    half = warp(np.array([[0, 100, 200]], np.uint8), np.float32([[[0.5, 0]] * 3]))
    assert half.tolist() == [[50, 150, 200]]  # bilinear, and the last pixel repeated
    assert set(np.unique(warp(view(ids, 19), flow, nearest=True))) <= set(IDS)
    assert disagreement(flow, -flow).max() == 0
    assert disagreement(flow, np.zeros_like(flow)) == pytest.approx(np.hypot(*STEP))


def test_frames_around_a_labelled_one(propagate: Callable, root: Path, tmp_path: Path) -> None:
    done = propagate()
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("4 frames around 1 labelled ones, about 0.0 MB to be written\n")
    image, ids = draw_scene()
    for frame in (17, 18, 20, 21):
        moved, labels = read(tmp_path / "out", frame)
        assert accuracy(labels, view(ids, frame)) > 0.97
        assert accuracy(labels, view(ids, 19)) < 0.95, "or standing still would do"
        assert 0.02 < (labels == 255).mean() < 0.2, "what comes into view"
        error = np.abs(moved.astype(int) - view(image, frame))[labels != 255].mean()
        assert 0 < error < 6, "moved, not copied"
    assert len(contents(tmp_path / "out")) == 9 + 1, "and the lock"


def test_training_reads_them(
    propagate: Callable, call: Callable, root: Path, tmp_path: Path, monkeypatch
) -> None:
    assert propagate().returncode == 0
    shutil.copytree(root, tmp_path / "data")
    for folder in ("leftImg8bit", "gtFine"):
        shutil.copytree(root / folder / "train", tmp_path / "data" / folder / "val")
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    words = ["--data-root", tmp_path / "data", "--arch", "tiny", "--crop-size", 32, 32,
             "--batch-size", 2, "--workers", 0, "--threads", 1, "--epochs", 1]
    frames = ["--propagated-root", tmp_path / "out", "--propagated-skip"]
    done = call("train.py", *words, "--run-dir", tmp_path / "two", *frames, 1, 2)
    assert done.returncode == 0, done.stderr
    assert "step 2/2" in done.stdout  # 5 images
    done = call("train.py", *words, "--run-dir", tmp_path / "three", *frames, 3)
    assert "none of its 4 frames is 3 before or after" in refused(done)


def chain_of(root: Path, out: Path, method: Method, shifts: dict) -> None:
    """Propagates forward by a motion that is exact for the frames of `shifts`."""
    dataset = build_dataset("cityscapes", root, "train")
    known = {view(draw_scene()[0], frame).tobytes(): frame for frame in range(16, 23)}

    def motion(target: np.ndarray, source: np.ndarray, before: Callable | None) -> np.ndarray:
        pair = known[source.tobytes()], known[target.tobytes()]
        if before:
            expected = 19 if method.upstream and pair[1] == 21 else 2 * pair[0] - pair[1]
            assert known[before().tobytes()] == expected
        return np.full((*SIZE, 2), shifts[pair], np.float32)

    Propagation(dataset, motion, method).write(find_chains(dataset, "train", 2, out)[0])


def test_steps_and_direct(root: Path, tmp_path: Path) -> None:
    """Step by step, motion is found between neighbors; directly, from the labelled frame."""
    step, twice = STEP, tuple(2 * value for value in STEP)
    chain_of(root, tmp_path / "steps", Method(), {(19, 20): step, (20, 21): step})
    chain_of(root, tmp_path / "direct", Method(direct=True), {(19, 20): step, (19, 21): twice})
    image, ids = draw_scene()
    there = slice(0, -2 * STEP[1]), slice(0, -2 * STEP[0])
    for out in ("steps", "direct"):
        moved, labels = read(tmp_path / out, 21)
        assert np.array_equal(moved[there], view(image, 21)[there])
        assert np.array_equal(labels[there], view(ids, 21)[there])
        assert (labels[-2 * STEP[1] :] == 255).all()


@pytest.mark.parametrize(("method", "expected"), [
    (Method(), [18, 19, 20]), (Method(direct=True), [18, 17, 16]),
    (Method(upstream=True), [18, 19, 19]),
], ids=["steps", "direct", "upstream"])
def test_the_frame_before_each_source(
    method: Method, expected: list[int], root: Path, tmp_path: Path
) -> None:
    """Of a chain of three; published code takes the labelled frame, 19, from the second on."""
    dataset = build_dataset("cityscapes", root, "train")
    chain = find_chains(dataset, "train", 3, tmp_path)[0]
    before = [Propagation(dataset, None, method).find_before(chain, step) for step in range(3)]
    assert [int(path.name.split("_")[2]) for path in before] == expected


def test_consistency_and_upstream(root: Path, tmp_path: Path) -> None:
    there = {(19, 20): (2.5, 0), (20, 21): (2.5, 0)}
    back = {(20, 19): (-2, 0), (21, 20): (-1, 0)}  # 1.5 pixels off in the second step
    chain_of(root, tmp_path / "strict", Method(consistency=1), there | back)
    chain_of(root, tmp_path / "lax", Method(consistency=2), there | back)
    chain_of(root, tmp_path / "none", Method(), there)
    chain_of(root, tmp_path / "upstream", Method(upstream=True), there)
    strict, lax, none, upstream = (
        [read(tmp_path / out, frame) for frame in (20, 21)]
        for out in ("strict", "lax", "none", "upstream"))
    assert np.array_equal(strict[0][1], none[0][1])
    assert (strict[1][1] == 255).all()
    assert np.array_equal(lax[1][1], none[1][1])
    assert np.array_equal(upstream[0][0], none[0][0])
    assert 255 not in upstream[1][1]
    assert not np.array_equal(upstream[1][0], none[1][0])
    colors = set(map(tuple, none[0][0].reshape(-1, 3)))
    assert set(map(tuple, upstream[1][0].reshape(-1, 3))) <= colors, "nearest: no new color"
    assert not set(map(tuple, none[1][0].reshape(-1, 3))) <= colors


def test_what_is_there_is_kept_after_a_look(propagate: Callable, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert propagate().returncode == 0
    whole = contents(out)
    label = out / f"gtFine/train/aachen/{NAME}000020_gtFine_labelIds.png"
    image = out / f"leftImg8bit/train/aachen/{NAME}000017_leftImg8bit.png"
    label.write_bytes(label.read_bytes()[:-40])
    image.unlink()
    (out / "gtFine/train/aachen/.a.png-0123456789abcdef.part").write_bytes(b"x")
    assert propagate().stdout.endswith(f"2 frames written, 2 were there: {out}\n")
    assert contents(out) == whole
    message = refused(propagate("--direct", "--consistency", 1))
    assert "made with another direct, consistency; give the same" in message
    (out / "propagation.json").write_text("{")
    assert "missing or damaged" in refused(propagate())


KILLED = """
import os, signal, sys
from pathlib import Path
from utils import images
replace, left = os.replace, [9]  # four are trials of how large files become

def replace_or_die(part, path):
    left[0] -= str(path).endswith(".png")
    if not left[0]:
        data = Path(part).read_bytes()
        Path(part).write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    replace(part, path)

os.replace = replace_or_die
import propagate
propagate.main()
"""


def test_killed_and_run_again(propagate: Callable, root: Path, tmp_path: Path) -> None:
    """kill -9 while a file is written: none that counts is half, and the result is the same."""
    assert propagate().returncode == 0
    killed = tmp_path / "killed"
    words = ["--data-root", root, "--save-dir", killed, "--propagate", 2, "--workers", 1,
             "--device", "cpu"]
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, words)], cwd=ROOT,
                          capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    files = [path for path in killed.rglob("*.png") if not path.name.startswith(".")]
    assert 0 < len(files) < 8
    assert all(read_image(path).shape == (*SIZE, 3) for path in files)
    assert list(killed.rglob(".*.part"))
    assert propagate("--save-dir", killed).returncode == 0
    assert contents(killed) == contents(tmp_path / "out")


def test_refusals(propagate: Callable, root: Path, tmp_path: Path, monkeypatch) -> None:
    out = tmp_path / "out"
    message = refused(propagate("--propagate", 4))
    assert "2 frames of leftImg8bit_sequence/train/CITY/*_leftImg8bit.png are missing: " in message
    assert f"{NAME}000023, {NAME}000015; restore them, or give a smaller --propagate" in message
    assert "no leftImg8bit/val" in refused(propagate("--split", "val"))
    assert "not with --direct" in refused(propagate("--upstream", "--consistency", 1))
    assert "dis has none" in refused(propagate("--motion-weights", "x"))
    assert "is --data-root" in refused(propagate("--save-dir", root))
    (tmp_path / "file").touch()
    assert "not written (Not a directory)" in refused(propagate("--save-dir", tmp_path / "file"))
    usage = SimpleNamespace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    assert "MB are free; make room" in refused(propagate(), 1)
    shutil.copytree(root, tmp_path / "near")
    for end in ("leftImg8bit", "gtFine_labelIds"):
        place = f"{tmp_path}/near/{end.split('_')[0]}/train/aachen/{NAME}0000%d_{end}.png"
        shutil.copy(place % 19, place % 20)
    assert f"both give {NAME}" in refused(propagate("--data-root", tmp_path / "near"))
    assert not list(out.rglob("*.png"))


def test_refused_sequences(call: Callable, root: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(root, data)
    words = ["propagate.py", "--data-root", data, "--save-dir", tmp_path / "out"]
    frame = data / f"leftImg8bit_sequence/train/aachen/{NAME}000020_leftImg8bit.png"
    write_png(frame, np.zeros((48, 84, 3), np.uint8))
    message = refused(call(*words, "--propagate", 1))
    assert f"{frame}: 84x48, its labelled frame {NAME}000019 83x49" in message
    shutil.rmtree(data / "leftImg8bit_sequence")
    assert "no leftImg8bit_sequence/train/CITY" in refused(call(*words, "--propagate", 1))
    for side, motion in ((15, "dis"), (32, "sdcnet")):
        for path in (*data.rglob("*.png"), frame, frame.with_name(frame.name.replace("20", "18"))):
            shape = (side, 40) if "gtFine" in path.name else (side, 40, 3)
            write_png(path, np.zeros(shape, np.uint8))
        message = refused(call(*words, "--propagate", 1, "--motion", motion))
        assert f"frames of 40x{side}; this --motion needs at least {side + 1}x{side + 1}" in message
    assert not (tmp_path / "out").exists()


def test_raft(propagate: Callable, tmp_path: Path, monkeypatch) -> None:
    """Random weights from a file; what the network sees is a multiple of 8."""
    torch.manual_seed(0)
    network = torchvision_flow.raft_small(weights=None)
    torch.save(network.state_dict(), tmp_path / "raft.pth")
    motion = MOTIONS["raft_small"](str(tmp_path / "raft.pth"), torch.device("cpu"))
    seen = []
    monkeypatch.setattr(motion.network, "forward", lambda *pair, num_flow_updates: (
        seen.extend(pair), [torch.cat([pair[0][:, :1], pair[1][:, :1]], 1)])[1])
    target, source = (np.full((131, 83, 3), value, np.uint8) for value in (0, 255))
    flow = motion(target, source, None)
    assert [tuple(frame.shape) for frame in seen] == [(1, 3, 136, 128)] * 2
    assert flow.shape == (131, 83, 2)
    assert (flow == [-1, 1]).all()
    with pytest.raises(ValueError, match="do not fit the network"):
        MOTIONS["raft"](str(tmp_path / "raft.pth"), torch.device("cpu"))

    def no_connection(*_: object, **__: object) -> None:
        raise URLError("no connection")

    monkeypatch.setattr(torchvision_flow.Raft_Small_Weights, "get_state_dict", no_connection)
    message = refused(propagate("--motion", "raft_small"))
    assert "(no connection); give --motion-weights FILE, a copy of https://" in message
    assert not (tmp_path / "out").exists()


def test_sdcnet(root: Path, propagate: Callable, tmp_path: Path) -> None:
    """Untrained it answers with the flow of DIS between source and target."""
    network = SDCNet2DRecon()
    checkpoint.save(tmp_path / "sdc.pth", {"format": 1, "model": network.config,
                                           "dataset": {}, "weights": network.state_dict()})
    assert propagate().returncode == 0
    done = propagate("--motion", "sdcnet", "--motion-weights", tmp_path / "sdc.pth",
                     "--save-dir", tmp_path / "sdc")
    assert done.returncode == 0, done.stderr
    for frame in (17, 21):
        (image, ids), (other, other_ids) = (read(tmp_path / out, frame) for out in ("out", "sdc"))
        assert (ids == other_ids).mean() > 0.999
        assert np.abs(image.astype(int) - other).mean() < 0.1
    message = refused(propagate("--motion", "sdcnet", "--save-dir", tmp_path / "none"))
    assert "give --motion-weights FILE" in message
