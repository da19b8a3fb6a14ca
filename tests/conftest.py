"""What several test files share: drawn data sets, and running a script as a user does."""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import model
from datasets import build_dataset, camvid, cityscapes_labels
from utils import stopping
from utils.images import read_image, read_instances, read_label, write_png

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests" / "fixtures"
CITY = ROOT / "data" / "city"
sys.path.append(str(FIXTURES))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


# Deep members of families whose smaller ones are tested by default in the same way.
DEEP = ("deeplabv3_resnet50", "deeplabv3_resnet101", "deeplabv3_resnet152",
        "deeplabv3plus_resnet101",
        "deeplabv3plus_se_resnext101", "cspsg_l", "cspsg_x", "cspsg_x_stride2",
        "cspsg_x_stride64", "cspsg_x_c2f", "deeplabv3plus_efficientnet_lite2", "segformer",
        "segformer_b1", "segformer_b2", "segformer_b3", "segformer_b4", "segformer_b5")
NETWORKS = [pytest.param(name, marks=pytest.mark.slow) if name in DEEP else name
            for name in model.MODELS]


def few_or_many(few: int, many: int) -> list:
    """How often a test tries: by default, and with `-m slow`."""
    return [few, pytest.param(many, marks=pytest.mark.slow)]


def blobs(rng: np.random.Generator, size: tuple[int, int], ids: list[int]) -> np.ndarray:
    """(H, W) uint8 label map of rectangles, every id at least once."""
    height, width = size
    label = np.full(size, ids[0], np.uint8)
    for i in rng.permutation(np.resize(ids, max(12, 2 * len(ids)))):
        y, x = rng.integers(0, height), rng.integers(0, width)
        label[y : y + height // 4, x : x + width // 4] = i
    label.ravel()[: len(ids)] = ids
    return label


def paint(rng: np.random.Generator, label: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 image in which a label's value decides the color, with noise."""
    colors = np.random.default_rng(0).integers(0, 256, (256, 3))
    return np.clip(colors[label] + rng.normal(0, 10, (*label.shape, 3)), 0, 255).astype(np.uint8)


def draw_cityscapes(root: Path, train: int = 8, val: int = 3, size: tuple = (64, 128)) -> Path:
    """A miniature in the Cityscapes layout."""
    rng = np.random.default_rng(1)
    ids = [label.id for label in cityscapes_labels.LABELS if label.id >= 0]
    parts = (("train", "aachen", train), ("val", "ulm", val), ("test", "bonn", 2))
    for split, city, count in parts:
        for i in range(count):
            name, label = f"{city}_{i:06d}_000019", blobs(rng, size, ids)
            image = root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png"
            write_png(image, paint(rng, label))
            if split != "test":
                write_png(root / f"gtFine/{split}/{city}/{name}_gtFine_labelIds.png", label)
    return root


def cut_city(root: Path, count: int, train: int = 0) -> Path:
    """Parts of 96x192 of the shipped city's pictures: val scenes with instances, and train."""
    part = np.s_[20:116, 64:256]
    for split, number in (("val", count), ("train", train)):
        for sample in build_dataset("cityscapes", CITY, split).samples[:number]:
            for path, read in ((sample.image, read_image), (sample.label, read_label),
                               (sample.instance, read_instances)):
                place = root / path.relative_to(CITY).with_suffix(".png")
                write_png(place, read(path)[part])
    return root


def draw_camvid(root: Path, size: tuple = (60, 80)) -> Path:
    """A miniature in CamVid's layout: three sequences in train."""
    rng = np.random.default_rng(2)
    names = {"train": ["0001TP_1", "0001TP_2", "0006R0_1", "0006R0_2", "0016E5_1"],
             "val": ["0016E5_7", "0016E5_8"], "test": ["Seq05VD_1"]}
    for split, stems in names.items():
        for stem in stems:
            label = blobs(rng, size, list(range(12)))
            write_png(root / split / f"{stem}.png", paint(rng, label))
            if split != "test":
                write_png(root / f"{split}annot" / f"{stem}.png", label)
    return root


def draw_folder(root: Path, size: tuple = (48, 64)) -> Path:
    """A miniature of somebody's own data: three classes with ids 7, 3, 200."""
    rng = np.random.default_rng(3)
    for split, count in (("train", 5), ("val", 2)):
        for i in range(count):
            label = blobs(rng, size, [7, 3, 200, 9])
            write_png(root / "images" / split / f"{i}.png", paint(rng, label))
            write_png(root / "labels" / split / f"{i}.png", label)
    classes = "7 road 128 64 128\n3 traffic light 250 170 30\n200 sky 0 0 255\n"
    (root / "classes.txt").write_text(classes)
    return root


def draw_kitti(root: Path, images: int = 8, size: tuple = (48, 96)) -> Path:
    """A miniature in KITTI's layout; no two images of one size, as in the real one."""
    rng = np.random.default_rng(4)
    ids = [label.id for label in cityscapes_labels.LABELS if label.id >= 0]
    for i in range(images):
        label = blobs(rng, (size[0], size[1] + i % 3), ids)
        write_png(root / f"training/image_2/{i:06d}_10.png", paint(rng, label))
        write_png(root / f"training/semantic/{i:06d}_10.png", label)
        write_png(root / f"training/instance/{i:06d}_10.png", label.astype(np.uint16) * 256)
    for i in range(2):
        write_png(root / f"testing/image_2/{i:06d}_10.png", paint(rng, blobs(rng, size, ids)))
    return root


MAPILLARY = [  # readable name, color, evaluated; the real ones have 66 and 124
    ("Bird", (165, 42, 42), True), ("Curb", (196, 196, 196), True), ("Road", (128, 64, 128), True),
    ("Car Mount", (32, 32, 32), False), ("Sky", (70, 130, 180), True),
    ("Unlabeled", (0, 0, 0), False),
]


def draw_mapillary(root: Path, size: tuple = (60, 80), version: str = "1.2") -> Path:
    """A miniature of Mapillary Vistas: JPEG images, palette labels, classes in a config."""
    rng = np.random.default_rng(5)
    labels = [{"name": f"x--{name.lower()}", "readable": name, "color": list(color),
               "evaluate": evaluate, "instances": False} for name, color, evaluate in MAPILLARY]
    place = "labels" if version == "1.2" else "v2.0/labels"
    config = f"config_v{version}.json"
    for split, count in (("training", 5), ("validation", 2), ("testing", 1)):
        for i in range(count):
            label = blobs(rng, (size[0] + i, size[1]), list(range(len(MAPILLARY))))
            image = root / split / "images" / f"{split[:2]}{i}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(paint(rng, label)).save(image, quality=95)
            if split != "testing":
                palette = Image.fromarray(label)
                palette.putpalette([v for _, color, _ in MAPILLARY for v in color])
                (root / split / place).mkdir(parents=True, exist_ok=True)
                palette.save(root / split / place / f"{split[:2]}{i}.png")
    (root / config).write_text(json.dumps({"labels": labels, "version": version}))
    return root


def draw_original_camvid(root: Path, size: tuple = (72, 96)) -> Path:
    """A miniature of the original CamVid: color labels, all splits in one folder."""
    rng = np.random.default_rng(6)
    names = ["0001TP_006690", "0006R0_f00930", "0006R0_f00960", "0016E5_07959", "0016E5_07961",
             "Seq05VD_f00000"]
    colors = np.array([color for _, color, _ in camvid.ORIGINAL], np.uint8)
    for name in names:
        label = blobs(rng, size, list(range(len(colors))))
        write_png(root / camvid.STILLS / f"{name}.png", paint(rng, label))
        write_png(root / camvid.LABELED / f"{name}_L.png", colors[label])
    return root


DRAW = {
    "cityscapes": draw_cityscapes, "camvid": draw_camvid, "kitti": draw_kitti,
    "mapillary": draw_mapillary, "mapillary_v2": partial(draw_mapillary, version="2.0"),
    "folder": draw_folder,
}
CLASSES = {"cityscapes": cityscapes_labels.TABLE, "camvid": camvid.TABLE}


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An empty one: what this user's machine keeps must not decide about a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def data_roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A drawn miniature of every data set. Read only."""
    folder = tmp_path_factory.mktemp("data")
    return {name: draw(folder / name) for name, draw in DRAW.items()}


@pytest.fixture
def call(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """Runs a script or module in this process, without start-up; same result as `run_script`."""
    threads = torch.get_num_threads()
    handlers = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]

    def run(script: str, *words: object) -> SimpleNamespace:
        monkeypatch.setattr(sys, "argv", [script, *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            stopping.run(importlib.import_module(script.removesuffix(".py")).main)
        said = capsys.readouterr()
        return SimpleNamespace(returncode=stop.value.code or 0, stdout=said.out, stderr=said.err)

    yield run
    torch.set_num_threads(threads)
    for number, handler in handlers:
        signal.signal(number, handler)


@dataclass
class Done:
    """As subprocess.CompletedProcess has it, and more."""

    returncode: int
    stdout: str
    stderr: str
    pid: int
    seconds: float


class Forks:
    """Runs scripts as forks of a process that has imported everything."""

    def __init__(self) -> None:
        self.server = subprocess.Popen(
            [sys.executable, str(FIXTURES / "forks.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(FIXTURES)))},
        )
        assert self.server.stdout.readline() == "ready\n"
        atexit.register(self.server.stdin.close)

    def __call__(
        self, script: object, *words: object, ranks: int = 0, cwd: Path | None = None,
        env: dict | None = None, faults: Sequence[dict] = (), kill_after: float | None = None,
    ) -> Done:
        with tempfile.TemporaryDirectory() as folder:
            streams = {name: f"{folder}/{name}" for name in ("stdout", "stderr")}
            for path in streams.values():
                Path(path).touch()  # a kill may come before the run opens them
            job = {"script": str(ROOT / str(script)), "words": [str(word) for word in words],
                   "faults": list(faults), "ranks": ranks, "kill_after": kill_after,
                   "cwd": str(cwd or Path.cwd()), "env": {**os.environ, **(env or {})}, **streams}
            self.server.stdin.write(json.dumps(job) + "\n")
            self.server.stdin.flush()
            answer = json.loads(self.server.stdout.readline())
            texts = [Path(path).read_text() for path in streams.values()]
        return Done(answer["code"], *texts, answer["pid"], answer["seconds"])


@cache
def forks() -> Forks:
    """The one of this process."""
    return Forks()


def run_script(
    script: object, *words: object, ranks: int = 0, cwd: Path | None = None,
    env: dict | None = None,
) -> Done:
    """`python SCRIPT ...` as a fork, or as torch.distributed.run would start `ranks` of them."""
    return forks()(script, *words, ranks=ranks, cwd=cwd, env=env)


def start_script(
    script: object, *words: object, ranks: int = 0, cwd: Path | None = None,
    env: dict | None = None,
) -> subprocess.CompletedProcess:
    """As `run_script`, but anew, as a user types it: with start-up and torch.distributed.run."""
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [sys.executable, *(launch if ranks else []), str(ROOT / str(script)),
               *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )
