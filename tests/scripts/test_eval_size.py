"""A snapshot remembers the size that its training validated at, and every reader uses it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_camvid, run_script

from model import build_model
from utils import checkpoint
from utils.images import read_image

SAYS = "images are seen with 60 pixels on their longer side"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A training's folder that validated 60x80 at 45x60, and the data."""
    folder = tmp_path_factory.mktemp("eval_size")
    root = draw_camvid(folder / "camvid")
    done = run_script("train.py", "--dataset", "camvid", "--data-root", root, "--arch", "sgcpnet",
                      "--run-dir", folder / "run", "--crop-size", 32, 32, "--batch-size", 2,
                      "--epochs", 1, "--workers", 0, "--threads", 1, "--eval-size", 45, 60,
                      "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    content = checkpoint.read(folder / "run" / "best.pth")  # which sees one class alone
    network = build_model("cspsg_n", 11).train()
    for norm in (each for each in network.modules() if isinstance(each, torch.nn.BatchNorm2d)):
        norm.momentum = 1.0
    images = [read_image(path) for path in sorted((root / "train").glob("*.png"))]
    network(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2))
    checkpoint.write(folder / "run" / "best.pth", content | {
        "model": network.config, "weights": network.state_dict()})
    return folder / "run", root


def test_its_longer_side_is_stored(trained: tuple[Path, Path]) -> None:
    for name in ("best.pth", "last.pth"):
        assert checkpoint.read(trained[0] / name)["eval_size"] == 60


def scores(trained: tuple[Path, Path], place: Path, *words: object) -> tuple[float, str]:
    run, root = trained
    done = run_script("evaluate.py", "--snapshot", run, "--data-root", root, "--json", place,
                      "--workers", 0, "--precision", "fp32", *words)
    assert done.returncode == 0, done.stderr
    return json.loads(place.read_text())["pixelAccuracy"], done.stdout


def test_evaluate_scores_at_it(trained: tuple[Path, Path], tmp_path: Path) -> None:
    default, said = scores(trained, tmp_path / "a.json")
    assert SAYS in said
    same, quiet = scores(trained, tmp_path / "b.json", "--eval-size", 45, 60)
    other, _ = scores(trained, tmp_path / "c.json", "--eval-size", 80)
    assert default == same != other
    assert SAYS not in quiet


def test_demos_and_test_see_it(trained: tuple[Path, Path], tmp_path: Path) -> None:
    run, root = trained
    image = next((root / "test").glob("*.png"))
    common = ["--snapshot", run, "--precision", "fp32"]

    def ids(*words: object) -> np.ndarray:
        done = run_script(*words, *common)
        assert done.returncode == 0, done.stderr
        assert (SAYS in done.stdout) == ("--eval-size" not in words)
        return read_image(next(words[-1].glob("*id*.png")))[..., 0]

    one = ids("demo.py", "--demo-image", image, "--save-dir", tmp_path / "one")
    demo = "demo.py", "--demo-image", image, "--eval-size"
    given = ids(*demo, 60, "--save-dir", tmp_path / "two")
    full = ids(*demo, 80, "--save-dir", tmp_path / "three")
    folder = ids("demo_folder.py", "--demo-folder", image.parent, "--save-dir", tmp_path / "four")
    assert one.shape == (60, 80)
    assert (one == given).all()
    assert (one == folder).all()
    assert (one != full).any()
    done = run_script("test.py", "--save-dir", tmp_path / "five", "--data-root", root,
                      "--workers", 0, *common)
    assert done.returncode == 0, done.stderr
    assert SAYS in done.stdout
    predicted = read_image(next((tmp_path / "five" / "pred").rglob("*.png")))[..., 0]
    assert (predicted == one).all()
