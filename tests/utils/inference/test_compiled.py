"""Compiled forwards: when they pay, what is kept and of whom, and that they say the same."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from conftest import draw_camvid, run_script
from torch import Tensor, nn

import model
from datasets import build_dataset, describe
from utils import checkpoint
from utils.inference import compiled
from utils.inference.compiled import CompiledForwards
from utils.inference.predictor import FEW_IMAGES, Predictor, Workload
from utils.inference.settings import Inference

SIZE = (40, 64)
SHAPE = (1, 3, *SIZE)
MANY = Workload(SIZE, 1000)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home in which nothing is kept yet."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class Compiler:
    """In place of the compiler: a file of the network's own forward, that is `gain` times as fast.

    An eager image takes `seconds`.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gain, self.seconds, self.classes, self.made, self.loaded = 1.5, 1.0, 3, 0, 0
        monkeypatch.setattr(CompiledForwards, "_compile", self.make)
        monkeypatch.setattr(compiled, "_load", self.load)
        monkeypatch.setattr(compiled, "time_by_turns", self.time)

    def make(self, shape: tuple[int, ...], path: Path) -> Callable[[Tensor], Tensor]:
        path.write_bytes(b"forward")
        self.made += 1
        return self.fast

    def load(self, path: Path) -> Callable[[Tensor], Tensor]:
        if path.read_bytes() != b"forward":
            raise RuntimeError("damaged")
        self.loaded += 1
        return self.fast

    def fast(self, images: Tensor) -> Tensor:
        return torch.ones(1, self.classes, 10, 16)

    def time(self, works: dict[str, Callable]) -> dict[str, float]:
        return {"eager": self.seconds, "compiled": self.seconds / self.gain}


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    return Compiler(monkeypatch)


class Tiny(nn.Module):
    """A network with cells of 4x4 pixels."""

    config = {"arch": "tiny", "num_classes": 3, "options": {}}

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 4, stride=4)

    def forward(self, images: Tensor, full_size: bool = False) -> Tensor:
        return self.layer(images.float())

    def upsample(self, coarse: Tensor, size: tuple[int, int], rows: slice = slice(None)) -> Tensor:
        return F.interpolate(coarse, size)[:, :, rows]


def build(wanted: bool | None = None, workload: Workload = MANY, seed: int = 0,
          inference: Inference | None = None) -> Predictor:
    torch.manual_seed(seed)
    predictor = Predictor(Tiny().eval(), inference=inference or Inference())
    return compiled.compile_where_it_pays(predictor, wanted, workload)


def kept(home: Path) -> list[Path]:
    return sorted(home.rglob("*.pt2"))


def test_many_images_pay_and_what_is_compiled_is_kept(
    compiler: Compiler, home: Path, capsys: pytest.CaptureFixture
) -> None:
    predictor = build()
    assert predictor.forward is not None
    assert predictor.forward(torch.zeros(SHAPE)).eq(1).all()
    out = capsys.readouterr().out
    assert f"compiled for {SIZE[1]}x{SIZE[0]} in " in out
    assert "1.50 times as fast" in out
    folder = kept(home)[0].parent
    assert folder.stat().st_mode & 0o777 == 0o700
    compiler.seconds = 1e-6  # so that it would not pay any more
    assert build().forward
    assert (compiler.made, compiler.loaded) == (1, 1)
    build(seed=1)  # other weights, which take no time now
    assert compiler.made == 1
    compiler.seconds = 1.0
    assert build(seed=1).forward
    assert compiler.made == 2
    assert len(kept(home)) == 2


@pytest.mark.parametrize("workload", [FEW_IMAGES, Workload(SIZE, None), Workload(SIZE, 199)])
def test_few_images_do_not_pay(
    compiler: Compiler, home: Path, workload: Workload, capsys: pytest.CaptureFixture
) -> None:
    build()  # kept, as it may be
    capsys.readouterr()
    assert build(workload=workload).forward is None
    assert not capsys.readouterr().out


def test_says_from_how_many_images_it_pays(
    compiler: Compiler, home: Path, capsys: pytest.CaptureFixture
) -> None:
    compiler.seconds = 0.1
    assert build().forward is None
    assert not kept(home)
    assert "not compiled: with 100 ms an image it pays from 3,000 images" in capsys.readouterr().out
    assert build(workload=Workload(SIZE, 3000)).forward


def test_none_where_it_is_not_faster_now(compiler: Compiler) -> None:
    compiler.gain = 1.0
    assert build().forward is None
    compiler.gain = 1.2  # another time, when the machine has less to do
    assert build().forward
    assert compiler.made == 1


def test_never_against_the_users_word(compiler: Compiler, home: Path) -> None:
    assert build(False).forward is None
    assert not home.exists()


def test_other_sizes_run_as_they_are_unless_all_are_wanted(compiler: Compiler) -> None:
    other = torch.zeros(1, 3, 50, 70, dtype=torch.uint8)
    with torch.inference_mode():
        assert not build().forward(other).eq(1).all()
        assert compiler.made == 1
        every = build(True)
        assert compiler.made == 1  # sizes are compiled when they come
        assert every.forward(other).eq(1).all()
        assert compiler.made == 2


def test_every_size_of_several_scales(compiler: Compiler, home: Path) -> None:
    build(inference=Inference((0.8, 1.0), window=32), workload=Workload((64, 64), 10_000))
    assert compiler.made == len(kept(home)) == 1  # windows are of one size
    build(inference=Inference((0.75, 1.0)), workload=Workload((64, 64), 10_000))
    assert compiler.made == len(kept(home)) == 3


@pytest.mark.parametrize("wanted", [None, True])
def test_without_a_compiler_it_runs_as_it_is(
    wanted: bool | None, monkeypatch: pytest.MonkeyPatch, home: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(compiled, "find_compiler", lambda: None)
    monkeypatch.setattr(compiled, "time_by_turns", lambda _: {"eager": 1.0})
    predictor, image = build(wanted), torch.zeros(*SIZE, 3, dtype=torch.uint8)
    assert predictor(image).equal(build(False)(image))
    out = capsys.readouterr().out
    assert out == "not compiled: there is no C++ compiler (g++ or clang++)\n"


@pytest.mark.parametrize(("precision", "noise", "good"), [
    ("fp32", 1e-4, True), ("fp32", 1e-3, False), ("fp32", float("nan"), False),
    *(("bf16", sign * noise, noise < 0.04) for noise in (0.036, 0.043) for sign in (1, -1))])
def test_a_compiled_forward_is_compared_with_the_one_that_is_not(
    precision: str, noise: float, good: bool, monkeypatch: pytest.MonkeyPatch, home: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    """In bf16 it may be off by 1.3 of what that is from float32, of 0.03 here."""
    network = Tiny().eval()
    with torch.no_grad():
        network.layer.weight.copy_(torch.eye(3)[:, :, None, None])
    rounds = torch.linspace(-1, 1, 3 * 160).reshape(1, 3, 10, 16)

    def far(images: Tensor, share: float) -> Tensor:
        exact = network(images)
        return exact + rounds * share * exact.abs().max()

    class Rounding(compiled.Eager):
        def forward(self, images: Tensor) -> Tensor:
            return far(images, 0.06 * (self.precision == "bf16"))

    def write(program: object, package_path: str, **_: object) -> str:
        Path(package_path).touch()
        return package_path

    monkeypatch.setattr(compiled, "Eager", Rounding)
    monkeypatch.setattr(torch.export, "export", lambda *_: None)
    monkeypatch.setitem(vars(torch), "_inductor", SimpleNamespace(aoti_compile_and_package=write))
    monkeypatch.setattr(compiled, "_load", lambda _: lambda images: far(
        images, 0.06 * (precision == "bf16") + 2 * noise))
    forwards = CompiledForwards(network, precision)
    fault = forwards.prepare(SHAPE)
    assert fault == "" if good else "not compiled: the compiled forward differs by" in fault
    assert len(kept(home)) == len(forwards.known) == good


def test_what_other_code_was_compiled_from_is_not_taken(
    compiler: Compiler, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "NETWORKS", tmp_path)
    for code in ("x = 1", "x = 2", "x = 1"):
        (tmp_path / "network.py").write_text(code)
        assert build().forward
    assert compiler.made == 2
    assert len(kept(home)) == 2


def test_what_is_damaged_is_made_anew(compiler: Compiler, home: Path) -> None:
    build()
    kept(home)[0].write_bytes(b"for")
    assert build().forward
    assert compiler.made == 2
    assert kept(home)[0].read_bytes() == b"forward"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners of files")
def test_code_that_others_could_have_written_is_not_run(
    compiler: Compiler, home: Path, capsys: pytest.CaptureFixture
) -> None:
    build()
    kept(home)[0].parent.chmod(0o777)
    capsys.readouterr()
    assert build().forward is None
    assert compiler.loaded == 0
    assert "not yours alone" in capsys.readouterr().out
    every = build(True)
    with torch.inference_mode():
        assert not every.forward(torch.zeros(SHAPE, dtype=torch.uint8)).eq(1).all()
    assert "not yours alone" in capsys.readouterr().out


def test_a_link_in_place_of_the_folder_is_not_followed(compiler: Compiler, home: Path) -> None:
    place = home / compiled.FOLDER
    place.parent.mkdir(parents=True)
    (home / "theirs").mkdir(mode=0o777)
    (home / "theirs").chmod(0o777)
    place.symlink_to(home / "theirs")
    assert build().forward is None
    assert not list((home / "theirs").iterdir())


def test_what_was_used_longest_ago_makes_room(
    compiler: Compiler, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "ROOM", 15)  # bytes, two of these files
    for seed in range(2):
        build(seed=seed)
        os.utime(kept(home)[-1])
    first, second = kept(home)
    os.utime(first, (1, 1))
    build(seed=2)
    assert len(kept(home)) == 2
    assert second in kept(home)


def test_what_killed_processes_left_goes(compiler: Compiler, home: Path) -> None:
    build()
    old, new = (kept(home)[0].with_name(f".making-{name}") for name in ("old", "new"))
    for folder in (old, new):
        folder.mkdir()
        (folder / "code.cpp").touch()
    os.utime(old, (1, 1))
    build(seed=1)
    assert (old.exists(), new.exists()) == (False, True)


def test_few_images_do_not_have_weights_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "CompiledForwards", None)  # which digests them
    assert build(workload=Workload(SIZE, compiled.FEWEST - 1)).forward is None


def test_onnx_files_and_half_precision_stay_as_they_are(compiler: Compiler) -> None:
    predictor = replace(build(False), precision="fp16")
    assert compiled.compile_where_it_pays(predictor, None, MANY) is predictor
    network = torch.nn.Module()
    network.register_parameter("place", torch.nn.Parameter(torch.empty(0)))
    exported = Predictor(network)
    assert compiled.compile_where_it_pays(exported, None, MANY) is exported
    with pytest.raises(ValueError, match="--compile: an ONNX file"):
        compiled.compile_where_it_pays(exported, True, MANY)


def test_scores_and_packages_say_what_was_decided(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable
) -> None:
    root = draw_camvid(tmp_path / "camvid", size=SIZE)
    network = model.build_model("sgcpnet", 11)
    dataset = describe(build_dataset("camvid", root, "val"), "camvid")
    checkpoint.save(tmp_path / "n.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "dataset": dataset,
        "weights": network.state_dict()})
    monkeypatch.setattr(compiled, "FEWEST", 1)
    monkeypatch.setattr(compiled, "PAYS", 0.0)
    compiler.classes = 11
    words = ["--snapshot", tmp_path / "n.pth", "--data-root", root, "--precision", "fp32",
             "--workers", "0", "--threads", "1"]
    for decided, more in ((True, []), (False, ["--no-compile"])):
        scores = tmp_path / f"{decided}.json"
        assert not (done := call("evaluate.py", *words, "--json", scores, *more)).returncode, done
        assert json.loads(scores.read_text())["settings"]["compiled"] is decided
        folder = tmp_path / f"results_{decided}"
        call("test.py", *words, "--split", "val", "--save-dir", folder, *more)
        assert json.loads((folder / "test.json").read_text())["compile"] is decided
        call("test.py", *words, "--split", "val", "--save-dir", folder, "--skip-done")
        assert json.loads((folder / "settings.json").read_text())["compile"] is decided


@pytest.mark.slow
def test_two_processes_and_one_say_the_same(tmp_path: Path, home: Path) -> None:
    """The main rank compiles, the other one loads."""
    (tmp_path / "ranks.py").write_text("""
import sys; sys.path[:0] = ["tests", "tests/utils/inference"]
import torch
from utils import distributed
from utils.inference import compiled
from test_compiled import build, Workload, SIZE
compiled.PAYS, compiled.GAIN = 0.0, 0.0
distributed.start("cpu", 1)
predictor = build(workload=Workload(SIZE, 1000))
image = torch.zeros(*SIZE, 3, dtype=torch.uint8)
parts = distributed.gather((bool(predictor.forward), predictor(image).sum().item()))
distributed.say(f"all {len(set(parts))} {parts[0][0]}")
distributed.stop()
""")
    done = run_script(tmp_path / "ranks.py", ranks=2, env={"HOME": str(home)})
    assert "all 1 True" in done.stdout
    assert done.stdout.count("compiled for") == 1
