"""--precision auto on a CPU: the decision, what is kept of it, who is told, what stays as it is."""

import json
import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_camvid, run_script
from torch import nn

import demo_folder
import model
from datasets import build_dataset, describe
from utils import checkpoint, precision
from utils.images import write_png
from utils.inference.predictor import FEW_IMAGES, Predictor, Workload

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing is kept yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def bf16_takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the seconds of a run in bf16; one in fp32 takes 1."""
    def take(seconds: float) -> None:
        monkeypatch.setattr(precision, "time_by_turns", lambda _: {"fp32": 1.0, "bf16": seconds})

    return take


class Timed(nn.Linear):
    """On a clock of its own, with a first run that takes long."""

    def __init__(self, **seconds: float) -> None:
        super().__init__(1, 1)
        self.config = {"arch": "timed", "options": {"width": 1}}
        self.seconds, self.runs, self.now = seconds, [], 0.0

    def choose(self, forwards: int | None = 20, **about: object) -> str:
        def run(copy: nn.Module, chosen: str) -> None:
            assert copy is not self
            self.now += self.seconds[chosen] + 3 * (not self.runs)
            self.runs.append(chosen)

        self.runs.clear()
        return precision.choose_precision(CPU, "auto", self, about, forwards, run)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch):
    def make(**seconds: float) -> Timed:
        network = Timed(**seconds)
        monkeypatch.setattr(precision, "perf_counter", lambda: network.now)
        return network

    return make


@pytest.mark.parametrize(("seconds", "chosen"), [(1 / 1.04, "fp32"), (1 / 1.06, "bf16")])
@pytest.mark.parametrize("scale", [0.01, 30.0], ids=["quick", "slow"])
def test_decision(seconds: float, scale: float, chosen: str, timed, capsys) -> None:
    network = timed(fp32=scale, bf16=scale * seconds)
    assert network.choose() == chosen
    assert capsys.readouterr().out == (
        f"precision: {chosen}, bf16 is {1 / seconds:.2f} times as fast as fp32 on this CPU\n")
    assert network.runs == ["fp32", *["fp32", "bf16"] * (6 if scale < 1 else 1)]


def test_where_bf16_is_emulated_it_is_seen_soon(timed) -> None:
    network = timed(fp32=0.01, bf16=0.08)
    assert network.choose() == "fp32"
    assert network.runs == ["fp32", *["fp32", "bf16"] * 2]


def test_kept_choice(timed, capsys, monkeypatch: pytest.MonkeyPatch, nothing_kept: Path) -> None:
    network = timed(fp32=1, bf16=0.5)
    assert network.choose(size=[2, 3]) == "bf16"
    network.seconds = {"fp32": 1, "bf16": 2}
    capsys.readouterr()
    for forwards in (None, 20, 1):
        assert network.choose(forwards, size=[2, 3]) == "bf16"
        assert not network.runs
    assert "precision: bf16, as timed before (~/.cache/streetseg" in capsys.readouterr().out

    def elsewhere() -> None:
        assert network.choose(size=[2, 3]) == "fp32"
        assert network.runs
        assert network.choose(size=[2, 3]) == "fp32"
        assert not network.runs

    assert network.choose(size=[3, 2]) == "fp32"
    network.config["options"] = {"width": 2}
    elsewhere()
    monkeypatch.setattr(precision, "processor_facts", lambda: "another")
    elsewhere()
    monkeypatch.setattr(torch, "__version__", "9.9")
    elsewhere()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    elsewhere()
    assert sorted(json.loads((nothing_kept / precision.KEPT).read_text()).values()) == [
        "bf16", *["fp32"] * 5]
    assert [*(nothing_kept / precision.KEPT).parent.iterdir()] == [nothing_kept / precision.KEPT]


@pytest.mark.parametrize("content", [
    b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"timed %s": "fp8", "x": ["fp32"]}'])
def test_damaged_choices_are_made_anew(content: bytes, timed, nothing_kept: Path) -> None:
    network = timed(fp32=1, bf16=0.5)
    network.choose()
    key, = json.loads((nothing_kept / precision.KEPT).read_text())
    (nothing_kept / precision.KEPT).write_bytes(content.replace(b"timed %s", key.encode()))
    assert network.choose() == "bf16"
    assert network.runs
    assert json.loads((nothing_kept / precision.KEPT).read_text()) == {key: "bf16"}


def test_home_that_cannot_be_written(timed, nothing_kept: Path) -> None:
    nothing_kept.write_text("in the way")
    assert timed(fp32=1, bf16=0.5).choose() == "bf16"


def test_few_forwards_are_not_timed(timed, capsys, nothing_kept: Path) -> None:
    network = timed(fp32=1, bf16=0.5)
    assert network.choose(19) == "fp32"
    assert not network.runs
    assert not nothing_kept.exists()
    assert capsys.readouterr().out == (
        "precision: fp32, bf16 is not timed for fewer than 20 forwards\n")
    assert network.choose(20) == "bf16"
    assert network.choose(None, other=1) == "bf16"


def test_what_is_given_is_taken(timed, capsys) -> None:
    network = timed(fp32=1, bf16=0.5)
    for given in ("fp32", "bf16", "fp16"):
        assert precision.choose_precision(CPU, given, network, {}, None, network) == given
    assert not capsys.readouterr().out


def test_ranks_do_as_the_first_says(tmp_path: Path) -> None:
    (tmp_path / "ranks.py").write_text("""
import os
import torch
from utils import distributed, precision
device = distributed.start("cpu", 1)
rank = distributed.rank()
precision.time_by_turns = lambda works: {"fp32": 1.0, "bf16": (0.5, 2.0)[rank]}
network = torch.nn.Linear(1, 1)
network.config = {"arch": "x"}
chosen = precision.choose_precision(device, "auto", network, {}, None, print)
open(f"{os.environ['HOME']}/{rank}", "w").write(chosen)
distributed.stop()
""")
    done = run_script(tmp_path / "ranks.py", ranks=2, env={"HOME": str(tmp_path)})
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["bf16", "bf16"]
    assert done.stdout.count("precision: bf16") == 1


def streams() -> list[object]:
    legacy = np.random.get_state()  # noqa: NPY002, it is what must not be drawn from
    return [torch.get_rng_state().tolist(), legacy[1].tolist(), random.getstate()]


@pytest.mark.parametrize("name", ["tiny", "cspsg_n", "sgcpnet"])
def test_training_is_untouched(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, statistics, gradients, modes and random streams; it is timed for real."""
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    monkeypatch.setattr(precision, "ROUNDS", 1)
    network = model.build_model(name, 5).train()
    for module in list(network.modules())[::3]:
        module.training = False
    before = deepcopy(network.state_dict())
    modes, streams_before = [m.training for m in network.modules()], streams()
    images = (torch.zeros(2, 48, 48, 3, dtype=torch.uint8).permute(0, 3, 1, 2),)
    precision.choose_for_training(CPU, "auto", network, images, 20)
    assert streams() == streams_before
    assert [m.training for m in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_predictor_is_untouched() -> None:
    network = model.build_model("sgcpnet", 5).eval()
    before, streams_before = deepcopy(network.state_dict()), streams()
    predictor = Predictor(network).with_precision("auto", Workload((40, 64), None))
    assert predictor.network is network
    assert streams() == streams_before
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_predictor_is_timed_as_it_runs(bf16_takes, capsys) -> None:
    network = model.build_model("sgcpnet", 5).eval()
    bf16_takes(0.5)
    assert Predictor(network).with_precision("auto", FEW_IMAGES).precision == "fp32"
    assert Predictor(network).with_precision("auto", Workload((40, 64), 20)).precision == "bf16"
    assert Predictor(network).with_precision("auto", Workload((64, 40), 19)).precision == "fp32"
    exported = nn.Module()
    exported.place = nn.Parameter(torch.empty(0))
    assert Predictor(exported).with_precision("auto", Workload((40, 64), None)).precision == "fp32"


@pytest.fixture
def train(call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Trains 22 steps in this process; gives the folder."""
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    root = draw_camvid(tmp_path / "camvid")

    def start(name: str, *words: object) -> Path:
        done = call("train.py", "--dataset", "camvid", "--data-root", root, "--arch", "tiny",
                    "--run-dir", tmp_path / name, "--crop-size", 32, 32, "--batch-size", 2,
                    "--epochs", 11, "--save-every", 7, "--workers", 0, "--threads", 1,
                    "--val-every", 99, *words)
        assert done.returncode == 0, done.stderr
        return tmp_path / name

    return start


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path)["weights"]


def same(first: Path, second: Path) -> bool:
    pairs = zip(weights(first).values(), weights(second).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("chosen", ["fp32", "bf16"])
def test_timed_training_is_the_one_of_that_precision(
    chosen: str, train, call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Bit for bit; a checkpoint says which, and what continues it takes that, not another."""
    monkeypatch.setattr(precision, "GAIN", {"fp32": 1e9, "bf16": 0}[chosen])  # timed for real
    write, before = checkpoint.write, tmp_path / "before.pth"

    def keep(path: Path, content: dict) -> None:
        write(path, content)
        if content["step"] == 21:
            before.write_bytes(path.read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write", keep)
        auto = train("auto")
    given = train("given", "--precision", chosen)
    other = train("other", "--precision", {"fp32": "bf16", "bf16": "fp32"}[chosen])
    assert same(auto / "last.pth", given / "last.pth")
    assert not same(auto / "last.pth", other / "last.pth")
    for name in ("last.pth", "best.pth"):
        assert json.loads(checkpoint.read(auto / name)["args"])["precision"] == chosen
    monkeypatch.setattr(precision, "_choose_on_cpu", lambda *_: 1 / 0)
    for words in ([], ["--precision", "auto"]):
        (auto / "last.pth").write_bytes(before.read_bytes())
        done = call("train.py", "--resume", auto, *words)
        assert done.returncode == 0, done.stderr
        assert f"step 21 of 22, {chosen} on cpu" in done.stdout
        assert same(auto / "last.pth", given / "last.pth")


@pytest.fixture
def words(tmp_path: Path, data_roots: dict[str, Path]) -> list[object]:
    """Of scripts that predict drawn Cityscapes."""
    network = model.build_model("cspsg_n", 19)
    known = describe(build_dataset("cityscapes", data_roots["cityscapes"], "val"), "cityscapes")
    checkpoint.write(tmp_path / "x.pth", {
        "format": checkpoint.FORMAT, "dataset": known, "weights": network.state_dict(),
        "model": network.config})
    return ["--snapshot", tmp_path / "x.pth", "--data-root", data_roots["cityscapes"],
            "--workers", 0, "--threads", 1]


def test_scores_say_it(words, call, bf16_takes, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(precision, "FEW", 3)
    bf16_takes(0.5)
    scores = []
    for name, more in (("auto", []), ("given", ["--precision", "bf16"]), ("few", ["--limit", 2])):
        done = call("evaluate.py", *words, "--json", tmp_path / name, "--scales", 0.5, 1, *more)
        assert done.returncode == 0, done.stderr
        scores.append(json.loads((tmp_path / name).read_text()))
        assert ("precision: " in done.stdout) == (name != "given")
    assert [score["settings"]["precision"] for score in scores] == ["bf16", "bf16", "bf16"]
    assert scores[0]["confMatrix"] == scores[1]["confMatrix"]


def test_predictions_keep_theirs(
    words, call, bf16_takes, monkeypatch, nothing_kept: Path, tmp_path: Path
) -> None:
    """A rerun with auto goes on as it began, whatever would be chosen now."""
    monkeypatch.setattr(precision, "FEW", 2)
    bf16_takes(0.5)
    out = tmp_path / "out"
    words = ["test.py", *words, "--save-dir", out]
    done = call(*words)
    assert done.returncode == 0, done.stderr
    bf16_takes(2)
    (nothing_kept / precision.KEPT).unlink()
    predictions = sorted((out / "pred").iterdir())
    before = [path.read_bytes() for path in predictions]
    predictions[0].unlink()
    done = call(*words, "--skip-done")
    assert done.returncode == 0, done.stderr
    assert f"precision: bf16, as of the predictions in {out}" in done.stdout
    assert [path.read_bytes() for path in predictions] == before
    for name in ("test.json", "settings.json"):
        assert json.loads((out / name).read_text())["precision"] == "bf16"
    done = call(*words, "--skip-done", "--precision", "fp32")
    assert done.returncode == 2
    assert "were made with another precision" in done.stderr
    record = json.loads((out / "settings.json").read_text())
    for unknown in ("auto", None):
        (out / "settings.json").write_text(json.dumps({**record, "precision": unknown}))
        done = call(*words, "--skip-done", "--precision", "auto")
        assert done.returncode == 2
        assert "were made with another precision" in done.stderr


def test_look_ahead(tmp_path: Path, capsys) -> None:
    for name, size in (("a", (40, 60)), ("b", (20, 20))):
        write_png(tmp_path / f"{name}.png", np.zeros((*size, 3), np.uint8))
    (tmp_path / "0.png").write_bytes(b"damaged")
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    workload, items = demo_folder.look_ahead(iter(paths), demo_folder.read_image, 2, None)
    assert workload == ((40, 60), 2)
    assert list(items) == paths
    assert demo_folder.look_ahead(paths, demo_folder.read_image, 2, [30])[0].size == (20, 30)
    damaged = [tmp_path / "0.png", *paths]
    workload, items = demo_folder.look_ahead(damaged, demo_folder.read_image, None, None)
    assert workload == FEW_IMAGES
    assert list(items) == damaged
    assert demo_folder.look_ahead([], demo_folder.read_image, None, None)[0] == FEW_IMAGES


@pytest.mark.parametrize("source", ["--demo-folder", "--video"])
def test_folders_and_videos(
    source: str, words, call, bf16_takes, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(precision, "FEW", 3)
    bf16_takes(0.5)
    for i in range(3):
        write_png(tmp_path / f"in/{i}.png", np.full((40, 50, 3), 60 * i, np.uint8))
    words = ["demo_folder.py", *words[:2], "--threads", 1, source, tmp_path / "in"]
    for limit, chosen in ((2, "fp32"), (3, "bf16")):
        done = call(*words, "--save-dir", tmp_path / chosen, "--limit", limit)
        assert done.returncode == 0, done.stderr
        assert f"precision: {chosen}" in done.stdout
