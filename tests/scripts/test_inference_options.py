"""The options of inference, from the command line to the files that scripts write."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_camvid
from tiny import Tiny

import evaluate
import model
from datasets import build_dataset, describe
from model import snapshot as snapshot_file
from utils import checkpoint
from utils.images import read_image, read_label
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference

ALL = ["--scales", "0.5,1", 1.5, "--flip", "--window", 40, "--sliding_overlap", "1/4",
       "--average", "probabilities", "--window-batch", 2]
MEANT = Inference((0.5, 1.0, 1.5), True, 40, 0.25, "probabilities", 2)


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights; beside it the CamVid that it is for."""
    folder = tmp_path_factory.mktemp("inference")
    dataset = build_dataset("camvid", draw_camvid(folder / "camvid"), "val")
    torch.manual_seed(0)
    network = Tiny(11, 16)
    checkpoint.write(folder / "best.pth", {
        "format": checkpoint.FORMAT, "dataset": describe(dataset, "camvid"), "step": 0,
        "model": {"arch": "tiny", "num_classes": 11, "options": {"output_stride": 16}},
        "weights": network.state_dict(),
    })
    return folder / "best.pth"


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Predictor]:
    """The predictors that scripts have made."""
    made: list[Predictor] = []

    def build(*words: object, **options: object) -> Predictor:
        made.append(Predictor(*words, **options))
        return made[-1]

    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    for module in (snapshot_file, evaluate):
        monkeypatch.setattr(module, "Predictor", build)
    return made


def test_options_reach_every_script(call, snapshot: Path, built: list, tmp_path: Path) -> None:
    data = snapshot.parent / "camvid"
    image = data / "test" / "Seq05VD_1.png"
    base = ["--snapshot", snapshot, "--precision", "fp32", "--threads", 1]
    labelled = [*base, "--data-root", data, "--workers", 0]
    words = {
        "demo.py": [*base, "--demo-image", image, "--save-dir", tmp_path / "demo"],
        "demo_folder.py": [*base, "--demo-folder", data / "test", "--save-dir", tmp_path / "all"],
        "test.py": [*labelled, "--save-dir", tmp_path / "test"],
        "evaluate.py": [*labelled, "--json", tmp_path / "scores.json"],
    }
    for script, given in words.items():
        done = call(script, *given, *ALL)
        assert done.returncode == 0, done.stderr
        assert built[-1].inference == MEANT, script
    expected = built[-1](torch.from_numpy(read_image(image)))
    plain = Predictor(built[-1].network)(torch.from_numpy(read_image(image)))
    assert not torch.equal(expected, plain)
    for path in ("demo/{}_id_mask.png", "all/{}_id_mask.png", "test/pred/{}.png"):
        ids = read_label(tmp_path / path.format("Seq05VD_1"))
        assert np.array_equal(ids, expected.numpy())
    matrix = json.loads((tmp_path / "scores.json").read_text())["confMatrix"]
    call("evaluate.py", *words["evaluate.py"])
    assert built[-1].inference == Inference()
    assert json.loads((tmp_path / "scores.json").read_text())["confMatrix"] != matrix


def test_a_class_map_reaches_scores_and_predictions(call, snapshot: Path, built: list,
                                                    tmp_path: Path) -> None:
    """Of a network that says building everywhere, which is to be car: id 8."""
    content = checkpoint.read(snapshot)
    weights = content["weights"]
    weights["classifier.weight"].zero_()
    weights["classifier.bias"].copy_(torch.arange(11) == 1)
    checkpoint.write(tmp_path / "building.pth", content)
    (tmp_path / "map").write_text("building = car\nsky = sky\n")
    data = snapshot.parent / "camvid"
    words = ["--snapshot", tmp_path / "building.pth", "--class-map", tmp_path / "map", "--threads",
             1, "--data-root", data, "--workers", 0, "--precision", "fp32"]
    done = call("evaluate.py", *words, "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    truth = np.stack([read_label(path) for path in (data / "valannot").iterdir()])
    ious = json.loads((tmp_path / "scores.json").read_text())["classScores"]
    assert ious["car"] == (truth == 8).sum() / (truth < 11).sum()
    assert ious["building"] == ious["sky"] == 0
    done = call("test.py", *words, "--save-dir", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert (read_label(tmp_path / "out/pred/Seq05VD_1.png") == 8).all()


@pytest.mark.parametrize(("words", "message"), [
    (["--scales", "0.5,x"], "not numbers"), (["--scales", 0], "above 0"),
    (["--scales", 50], "up to 16"), (["--scales", "nan"], "above 0"),
    (["--window", 31], "at least 32"), (["--window", 64, "--overlap", 1], "below 1"),
    (["--window", 64, "--overlap", "1/0"], "below 1"), (["--overlap", 0.5], "without --window"),
    (["--window-batch", 2], "without --window"), (["--average", "votes"], "invalid choice"),
])
def test_refusals(words: list, message: str, call, snapshot: Path, built: list) -> None:
    image = snapshot.parent / "camvid/test/Seq05VD_1.png"
    done = call("demo.py", "--demo-image", image, "--snapshot", snapshot, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
