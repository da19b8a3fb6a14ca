"""What would end a training after hours ends it before the first step, and changes nothing else."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_folder, forks
from torch import nn
from trainings import Trainings, assert_same

from utils import checkpoint
from utils.images import write_png
from utils.training import run_folder

WORDS = ["--optimizer", "adamw", "--ema", 0.9, "--batch-size", 4]
TRAIN = ["--arch", "tiny", "--crop-size", 32, 48, "--epochs", 1, "--workers", 0, "--threads", 1,
         "--batch-size", 2, "--log-every", 1, "--precision", "fp32", "--dataset", "folder"]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


def steps(run: Path) -> int:
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return sum(json.loads(line)["kind"] == "train" for line in lines)


class Dropping(nn.Module):
    """Draws random numbers, counts batches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(self.norm(images), 0.5)


def test_nothing_changes() -> None:
    """Not the random streams, not the statistics of the batch norm, not a gradient."""
    network = Dropping()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    tried: list[int] = []

    class Training:
        state = type("State", (), {"network": network})

        def try_to_save(self) -> None:
            tried.append(1)

    def attempt(copy: nn.Module) -> None:
        copy(torch.rand(2, 3, 4, 4)).sum().backward()
        assert copy.norm.num_batches_tracked == 1

    torch.manual_seed(5)
    stream = torch.get_rng_state()
    run_folder.Run.rehearse(Training(), attempt)
    assert tried
    assert torch.equal(torch.get_rng_state(), stream)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_the_training_is_the_same_without(train: Trainings, tmp_path: Path) -> None:
    """A fork of rehearsals that do nothing, compared with the usual one."""
    script = tmp_path / "without.py"
    script.write_text("import train\nfrom utils.stopping import run\n"
                      "train.Run.rehearse = lambda *_: None\nrun(train.main)\n")
    for name, how in (("with", "train.py"), ("without", script)):
        words = [*train.base, "--run-dir", tmp_path / name, *WORDS, "--max-steps", 3]
        done = forks()(how, *words)
        assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "with", tmp_path / "without")


@pytest.mark.parametrize("what", ["image", "label"])
def test_a_bad_val_image(what: str, train: Trainings, tmp_path: Path) -> None:
    root, run = draw_folder(tmp_path / "data"), tmp_path / "run"
    path = root / f"{what}s/val/1.png"
    if what == "image":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        write_png(path, np.full((48, 64, 3), 9, np.uint8) + np.arange(3, dtype=np.uint8))
    done = train(*TRAIN, "--data-root", root, "--run-dir", run)
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert done.stderr.count("\n") == 1
    assert steps(run) == 0


def test_no_room(train: Trainings, tmp_path: Path) -> None:
    script = tmp_path / "full.py"
    script.write_text(
        "import shutil, train\nfrom types import SimpleNamespace\n"
        "from utils.stopping import run\n"
        "shutil.disk_usage = lambda path: SimpleNamespace(free=10_000 if 'run' in str(path) else "
        "10**12)\nrun(train.main)\n")
    run = tmp_path / "run"
    done = forks()(script, *train.base, *WORDS, "--run-dir", run)
    assert done.returncode == 1  # as of any disk that is full
    assert "MB are to be written, 0.0 MB are free; make room" in done.stderr
    assert steps(run) == 0
    assert not list(run.glob("*.part"))


def test_a_disk_that_gives_back_something_else(train: Trainings, tmp_path: Path) -> None:
    script = tmp_path / "other.py"
    script.write_text(
        "import train\nfrom utils import checkpoint\nfrom utils.stopping import run\n"
        "read = checkpoint.read\n"
        "checkpoint.read = lambda path: {**read(path), 'step': 1}\nrun(train.main)\n")
    run = tmp_path / "run"
    done = forks()(script, *train.base, *WORDS, "--run-dir", run)
    assert done.returncode == 1
    assert "a checkpoint reads as something else than was written" in done.stderr
    assert steps(run) == 0


def test_fingerprints() -> None:
    content = {"a": torch.zeros(3), "b": [1.0, {"c": "d"}]}
    same = {"a": torch.zeros(3), "b": [1.0, {"c": "d"}]}
    assert checkpoint.fingerprint(content) == checkpoint.fingerprint(same)
    same["a"].view(torch.int32)[1] ^= 1
    assert checkpoint.fingerprint(content) != checkpoint.fingerprint(same)
    assert checkpoint.fingerprint(content) != checkpoint.fingerprint({**content, "b": [1.0]})


def test_a_validation_that_fails_costs_no_epoch(train: Trainings, tmp_path: Path) -> None:
    """The last steps before it are saved; the training goes on there when the image is mended."""
    root, run = draw_folder(tmp_path / "data"), tmp_path / "run"
    for i in range(2, 6):
        for kind in ("images", "labels"):
            (root / kind / f"val/{i}.png").write_bytes((root / kind / "val/0.png").read_bytes())
    path = root / "images/val/1.png"  # not one of the few that are looked at first
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    done = train(*TRAIN, "--data-root", root, "--run-dir", run, "--save-every", 99)
    assert done.returncode == 2, done.stdout
    assert checkpoint.read(run / "last.pth")["step"] == steps(run) == 2
    path.write_bytes(whole)
    done = train("--resume", run)
    assert done.returncode == 0, done.stderr
    assert checkpoint.read(run / "last.pth")["complete"]
    assert run_folder.read_last(run)["epoch"] == 1
