"""Every scripts/*.sh: parsed, its options accepted, its words passed on."""

import argparse
import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CITY, ROOT

from model.losses.label_relaxation import IMAGE_WEIGHTED
from utils.options.training import check_training

SCRIPTS = sorted(path.name for path in (ROOT / "scripts").glob("*.sh"))
RECIPES = [name for name in SCRIPTS if name.startswith("train_")]
STUB = """#!/bin/bash
# Stands for Python: notes the words, lets what checks the environment succeed.
case "$1" in
    -c) [[ "$2" == *device_count* ]] && echo 2
        [[ "$2" == *build_dataset* ]] && echo image.png
        exit 0 ;;
esac
printf '%s\\n' "$@" --end-- >>"$RECORD"
"""


@pytest.fixture
def recorded(tmp_path: Path):
    """Runs a script with a stub for Python; gives the commands that it would have run."""
    python = tmp_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(STUB)
    python.chmod(0o755)
    record = tmp_path / "record"

    def run(name: str, *words: str) -> list[list[str]]:
        record.write_text("")
        env = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "env"), "RECORD": str(record)}
        done = subprocess.run(["bash", str(ROOT / "scripts" / name), *words], env=env,
                              cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        sys.stderr.write(done.stderr)
        return [block.splitlines() for block in record.read_text().split("--end--\n")[:-1]]

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_syntax(name: str) -> None:
    done = subprocess.run(["bash", "-n", str(ROOT / "scripts" / name)], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "cd " not in (ROOT / "scripts" / name).read_text().replace('$(cd "$(dirname', "")


def accepts(command: list[str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the Python script in a command parses its options."""
    place = next(i for i, word in enumerate(command) if word.endswith(".py"))
    script = Path(command[place])
    assert script.parent == ROOT
    monkeypatch.setattr(sys, "argv", command[place:])
    try:
        importlib.import_module(script.stem).parse_args()
    except SystemExit as stop:
        return stop.code == 0
    except FileNotFoundError as error:  # --resume of a run that the stub did not make
        return "resume" in str(error)
    return True


@pytest.mark.parametrize(("name", "words"), [
    *((name, ["--init", "x.pth"]) for name in RECIPES),
    ("evaluate.sh", ["--snapshot", "x.pth"]),
    ("submit.sh", ["--snapshot", "x.pth"]),
])
def test_launchers(name: str, words: list[str], recorded, monkeypatch) -> None:
    (command,) = recorded(name, *words, "--workers", "7")
    assert command[:2] == ["-m", "utils.processes.launcher"]
    assert ("--standalone" in command) == (name != "train_multi_node.sh")
    assert command[command.index("--nproc-per-node") + 1] == "2"
    assert command[-2:] == ["--workers", "7"]
    assert accepts(command, monkeypatch)
    assert not accepts([*command, "--nonsense"], monkeypatch)


@pytest.mark.parametrize("words", [
    ["--standalone"], pytest.param(["--max-restarts", "0"], marks=pytest.mark.slow),
    pytest.param(["--nnodes", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:29577"],
                 marks=pytest.mark.slow)])  # as in the recipes
def test_the_launcher_ends_as_its_processes(words: list, tmp_path: Path) -> None:
    script = tmp_path / "wrong.py"
    script.write_text("import sys\nprint('error: why', file=sys.stderr)\nsys.exit(2)\n")
    done = subprocess.run(
        [sys.executable, "-m", "utils.processes.launcher", *words, "--nproc-per-node", "2",
         script], cwd=ROOT, capture_output=True, text=True, check=False,
        env={key: os.environ[key] for key in os.environ if key != "OMP_NUM_THREADS"})
    assert done.returncode == 2
    assert "error: why" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) < 6, done.stderr


@pytest.mark.parametrize("number", ["x", "0", "-1"])
def test_a_number_of_processes_that_is_none(number: str) -> None:
    done = subprocess.run(
        [ROOT / "scripts/evaluate.sh"], capture_output=True, text=True, check=False,
        env={**os.environ, "VIRTUAL_ENV": sys.prefix, "NPROC": number})
    assert (done.returncode, done.stderr) == (
        2, f"error: NPROC={number}: a number of processes is expected\n")


def chosen(name: str, recorded, monkeypatch) -> argparse.Namespace:
    """What a recipe asks for."""
    (command,) = recorded(name)
    place = next(i for i, word in enumerate(command) if word.endswith("train.py"))
    monkeypatch.setattr(sys, "argv", command[place:])
    return importlib.import_module("train").parse_args()[0]


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("name", RECIPES)
def test_options_of_a_recipe_go_together(name: str, world: int, recorded, monkeypatch) -> None:
    check_training(chosen(name, recorded, monkeypatch), world, True, IMAGE_WEIGHTED)


@pytest.mark.parametrize(("name", "forward", "decay"), [
    ("train_cityscapes_cspsg.sh", 4, 5e-4), ("train_camvid_cspsg.sh", 6, 5.15625e-4),
])
def test_cspsg_has_the_published_step(name: str, forward: int, decay: float, recorded, monkeypatch
                                      ) -> None:
    """Its code adds up the losses of images; a mean needs another rate and weight decay."""
    args = chosen(name, recorded, monkeypatch)
    assert args.batch_size == forward * args.accumulate == forward * round(64 / forward)
    assert args.lr == pytest.approx(0.01 * args.batch_size)
    assert args.weight_decay == pytest.approx(decay / args.batch_size)
    images = {"cityscapes": 2975 + 19998, "camvid": 367}[args.dataset]
    assert args.warmup_steps == 3 * (images // args.batch_size)


@pytest.mark.parametrize(("words", "expected"), [
    (["a b.pth", "my out", "--limit", "3"], ["a b.pth", "my out", "3"]),
    (["a.pth", "--limit", "3"], ["a.pth", "results/submit", "3"]),
    (["--save-dir", "out", "--snapshot", "a.pth"], ["a.pth", "out", "None"]),
    (["a.pth", "out"], ["a.pth", "out", "None"]),
])
def test_submission_with_and_without_option_names(
    words: list[str], expected: list[str], recorded, monkeypatch
) -> None:
    monkeypatch.setenv("NPROC", "1")
    (command,) = recorded("submit.sh", *words)
    monkeypatch.setattr(sys, "argv", command)
    args = importlib.import_module("test").parse_args()
    assert [str(value) for value in (args.snapshot, args.save_dir, args.limit)] == expected
    assert (args.scales, args.flip_average) == ([0.5, 1.0, 2.0], True)
    monkeypatch.setattr(sys, "argv", [*command, "--scales", "1", "--no-flip"])
    args = importlib.import_module("test").parse_args()
    assert (args.scales, args.flip_average) == ([1.0], False)


def test_a_recipe_without_its_first_weights_says_so(recorded, capfd) -> None:
    given = (["--init", "x.pth"], ["--resume=x"], ["--snapshot", "x"])
    for words, said in (*((words, False) for words in given), ([], True)):
        recorded("train_kitti_wide_resnet38.sh", *words)
        err = capfd.readouterr().err
        assert ("starts from --init cityscapes_wide_resnet38.pth" in err) is said


def test_one_process_needs_no_launcher(recorded, monkeypatch) -> None:
    """So that wrong input ends with its own line and exit code."""
    monkeypatch.setenv("NPROC", "1")
    (command,) = recorded("evaluate.sh", "--snapshot", "x.pth")
    assert command == [str(ROOT / "evaluate.py"), "--snapshot", "x.pth"]


def test_nodes_and_processes_from_the_environment(recorded, monkeypatch) -> None:
    monkeypatch.setenv("NPROC", "4")
    monkeypatch.setenv("LAUNCH", "--nnodes 2 --rdzv-endpoint host:29500")
    (command,) = recorded("train_cityscapes.sh")
    assert command[2:8] == [
        "--nproc-per-node", "4", "--nnodes", "2", "--rdzv-endpoint", "host:29500",
    ]


@pytest.mark.parametrize("long", [False, True])
def test_quickstart_trains_scores_shows(long: bool, recorded, monkeypatch) -> None:
    """On the shipped city, at its size; --long sees each of its scenes more often."""
    train, score, demo = recorded("quickstart.sh", "--name", "never", *["--long"] * long)
    assert train[train.index("--run-dir") + 1] == str(ROOT / "runs/never")
    for command in (train, score):
        assert command[command.index("--data-root") + 1] == str(CITY)
    for command in (train, score, demo):
        assert accepts(command, monkeypatch)
        assert "--eval-size" not in command
    steps, batch = (int(train[train.index(name) + 1]) for name in ("--max-steps", "--batch-size"))
    assert (steps * batch > 50_000) is long
    image = Path(demo[demo.index("--demo-image") + 1])
    assert image.is_relative_to(CITY / "leftImg8bit/val")
    assert image.is_file()
    train, *_ = recorded("quickstart.sh", "--name", "never", "--max-steps", "5")
    assert train[-2:] == ["--max-steps", "5"]


def test_quickstart_on_real_data(recorded) -> None:
    commands = recorded("quickstart.sh", "--name", "never", "--dataset", "camvid",
                        "--data-root", "my data")
    assert [Path(command[0]).name for command in commands] == [
        "train.py", "train.py", "evaluate.py", "demo.py",
    ]
    half, full = commands[:2]
    assert half[half.index("--run-dir") + 1] == str(ROOT / "runs/never/half-size")
    assert full[full.index("--init") + 1] == str(ROOT / "runs/never/half-size/best.pth")
    assert "--ema" in full
    assert "--ema" not in half
    for command in commands[:3]:
        assert command[command.index("--data-root") + 1] == "my data"
        assert "--eval-size" not in command
    assert commands[-1][commands[-1].index("--demo-image") + 1] == "image.png"


def test_quickstart_chooses_the_size() -> None:
    for words in (["--eval-size", "256"], ["--eval_size=256"]):
        done = subprocess.run(["bash", str(ROOT / "scripts/quickstart.sh"), *words],
                              capture_output=True, text=True)
        assert done.returncode == 2
        assert "chooses the size" in done.stderr


def test_quickstart_resumes_and_refuses_what_was_trained_otherwise(tmp_path: Path) -> None:
    """Of a copy of the scripts, with a stub for Python: where the runs are is theirs."""
    python = tmp_path / "env" / "bin" / "python"
    for path in (python, tmp_path / "scripts" / "x"):
        path.parent.mkdir(parents=True)
    python.write_text(STUB)
    python.chmod(0o755)
    for name in ("quickstart.sh", "environment.sh"):
        shutil.copy(ROOT / "scripts" / name, tmp_path / "scripts")
    env = {**os.environ, "VIRTUAL_ENV": str(tmp_path / "env"), "RECORD": str(tmp_path / "record")}

    def call(*words: str) -> int:
        return subprocess.run(["bash", str(tmp_path / "scripts/quickstart.sh"), *words], env=env,
                              capture_output=True).returncode

    (tmp_path / "runs/two/half-size").mkdir(parents=True)
    (tmp_path / "runs/one").mkdir()
    (tmp_path / "runs/one/last.pth").touch()
    own = ["--dataset", "camvid", "--data-root", "x"]
    assert [call("--name", name) for name in ("two", "one", "none")] == [2, 0, 0]
    assert [call(*own, "--name", name) for name in ("two", "one", "none")] == [0, 2, 0]
    (tmp_path / "record").unlink()
    assert call("--name", "one") == 0
    train = (tmp_path / "record").read_text().split("--end--\n")[0].splitlines()
    assert train[1:3] == ["--resume", str(tmp_path / "runs/one")]
    assert "--max-steps" in train, "so that another length is refused"


def test_quickstart_refuses_data_without_place(tmp_path: Path) -> None:
    done = subprocess.run(["bash", str(ROOT / "scripts/quickstart.sh"), "--dataset", "camvid"],
                          cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --dataset camvid needs --data-root DIR\n"


def test_run_tests_passes_words_on(recorded) -> None:
    (command,) = recorded("run_tests.sh", "-k", "metrics")
    assert command[:2] == ["-m", "pytest"]
    assert command[-2:] == ["-k", "metrics"]
