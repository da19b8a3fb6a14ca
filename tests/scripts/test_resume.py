"""A training that is killed, stopped or starved goes on as if nothing had been, bit for bit."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, draw_cityscapes
from trainings import (
    ADAMW,
    SGD,
    Trainings,
    assert_same,
    at,
    content,
    records,
    step_of,
    wait_until_gone,
)

from utils import checkpoint

CSPSG = [*SGD, "--nesterov", "--warmup-steps", 5, "--warmup-momentum", 0.5, "--schedule", "linear",
         "--ema", 0.9, "--ema-ramp", 3, "--loss", "bce", "--mosaic", 0.5]
KILL, TERM, INT = signal.SIGKILL, signal.SIGTERM, signal.SIGINT


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


@pytest.fixture(scope="module")
def reference(train: Trainings) -> Any:
    """reference(*words): the folder of that training, never disturbed."""
    return train.undisturbed


def test_reference_is_worth_comparing(reference: Any) -> None:
    run = reference(*ADAMW)
    last = checkpoint.read(run / "last.pth")
    assert (last["step"], last["epoch"]) == (4, 2)
    best = checkpoint.read(run / "best.pth")
    assert (best["step"], best["best"]) == (2, last["best"])  # the last validation is worse
    assert last["raw_weights"] is not None
    kinds = [(record["/kind"], record["/step"]) for record in records(run)]
    assert kinds == [("train", 1), ("train", 2), ("val", 2), ("train", 3), ("train", 4),
                     ("val", 4)]
    assert len({record["/loss"] for record in records(run) if record["/kind"] == "train"}) == 4
    different = content(reference(*ADAMW, "--seed", 1) / "last.pth")
    same = [key for key, value in content(run / "last.pth").items()
            if key.startswith("/weights") and value == different[key] and "num_batches" not in key]
    assert same == []


def test_loads_with_plain_torch(reference: Any) -> None:
    for words in (ADAMW, SGD):
        for name in ("last.pth", "last.prev.pth", "best.pth"):
            torch.load(reference(*words) / name, weights_only=True)


def test_workers_change_nothing(train: Trainings, reference: Any, tmp_path: Path) -> None:
    assert train.start(tmp_path, *ADAMW, "--workers", 2).returncode == 0
    assert_same(tmp_path, reference(*ADAMW))
    assert records(tmp_path) == records(reference(*ADAMW))


@pytest.mark.parametrize(("words", "fault"), [
    (ADAMW, at("train.update", 2)),
    (ADAMW, at("os.fsync", 1)),  # in the rehearsal
    (ADAMW, at("os.fsync", 7)),  # best.pth, in the middle of its write
    (ADAMW, at("os.replace", 4)),
    (ADAMW, at("os.link", 3, after=True)),
    (ADAMW, at("train.Run.save_best", 1)),  # between evaluation and save
    (SGD, at("train.update", 1)),  # before there is anything
    (SGD, at("utils.inference.predictor.best_class", 3)),
    ([*SGD, "--save-every", 2], at("os.replace", 3, after=True)),
    ([*SGD, "--save-every", 5], at("train.update", 6)),
    (CSPSG, at("train.update", 4)),  # in the warm-up
], ids=str)
def test_kill_and_resume(words: list, fault: dict, train: Trainings, reference: Any,
                         tmp_path: Path) -> None:
    expected = reference(*words)
    done = train.start(tmp_path, *words, faults=[fault])
    assert done.returncode == -KILL, done.stderr
    done = train.go_on(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, expected)


@pytest.mark.parametrize(("words", "fault", "code", "step"), [
    (ADAMW, at("train.update", 3, TERM), 143, 3),
    (SGD, at("train.update", 4, INT), 130, 4),
    (ADAMW, at("train.seed_step", 1, TERM), 143, 1),
    (ADAMW, at("train.backward", 2, TERM), 143, 1),
    (ADAMW, at("utils.inference.predictor.best_class", 9, TERM), 143, 4),  # in the last validation
    (ADAMW, at("os.fsync", 5, INT), 130, 3),  # while best.pth is written
    (ADAMW, at("train.update", 2, TERM, TERM), 143, 2),  # as launchers repeat it
    ([*ADAMW, "--workers", 2], at("train.backward", 1, TERM, group=True, pause=0.5), 143, 1),
    ([*ADAMW, "--workers", 2], at("train.backward", 4, INT, group=True, pause=0.5), 130, 2),
    ([*ADAMW, "--workers", 2],
     at("utils.inference.predictor.best_class", 2, TERM, group=True, pause=0.5), 143, 2),
], ids=["step", "interrupt", "first", "accumulation", "validation", "save", "repeated",
        "workers", "workers interrupted", "workers in validation"])
def test_stop_and_resume(words: list, fault: dict, code: int, step: int, train: Trainings,
                         reference: Any, tmp_path: Path) -> None:
    expected = reference(*words)
    done = train.start(tmp_path, *words, "--save-every", 100, faults=[fault])
    assert (done.returncode, done.stderr) == (code, "")
    assert f"saved at step {step}; go on with --resume {tmp_path}" in done.stdout
    assert step_of(tmp_path / "last.pth") == step
    wait_until_gone(done.pid)
    done = train("--resume", tmp_path, "--save-every", 1)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, expected)


def test_second_signal_leaves_at_once(train: Trainings, tmp_path: Path) -> None:
    done = train.start(tmp_path, *ADAMW, faults=[at("train.update", 2, TERM, INT, pause=1.1)])
    assert (done.returncode, done.stderr) == (130, "")
    assert step_of(tmp_path / "last.pth") == 1


def test_workers_end_after_a_kill(train: Trainings, tmp_path: Path) -> None:
    words = [*SGD, "--workers", 2]
    done = train.start(tmp_path, *words, faults=[at("train.update", 3)])
    assert done.returncode == -KILL
    assert train.go_on(tmp_path).returncode == 0  # at once: they do not hold the lock
    wait_until_gone(done.pid)


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes())
            for path in sorted(folder.iterdir())}


def test_finished(train: Trainings, reference: Any) -> None:
    run = reference(*ADAMW)
    before = files(run)
    done = train("--resume", run)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{run}: already complete, step 4 of 4\n"
    assert files(run) == before


@pytest.mark.parametrize(("words", "message"), [
    (["--seed", 1], "seed was 0 and is 1"),
    (["--batch-size", 8], "batch was 4 and is 8"),
    (["--epochs", 3], "steps was 4 and is 6"),
    (["--limit", 8], "samples was"),
    (["--optimizer", "sgd"], "optimizer was adamw and is sgd"),
    (["--arch", "deeplabv3_resnet18"], "arch was tiny and is deeplabv3_resnet18"),
])
def test_another_training_is_refused(words: list, message: str, train: Trainings, reference: Any
                                     ) -> None:
    run = reference(*ADAMW)
    before = files(run)
    done = train("--resume", run, *words)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --resume: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert files(run) == before


def test_a_longer_training_is_the_same_as_one_begun_so(
    train: Trainings, reference: Any, tmp_path: Path
) -> None:
    """In the middle of an epoch that --max-steps had cut: the epoch goes on."""
    words = [*SGD, "--schedule", "constant", "--log-every", 1]
    assert train.start(tmp_path, *words, "--max-steps", 2).returncode == 0
    done = train("--resume", tmp_path, "--max-steps", 99)
    assert done.returncode == 0, done.stderr
    assert "note: steps were 2, are 8\n" in done.stdout
    whole, longer = (checkpoint.read(run / "last.pth")
                     for run in (reference(*words), tmp_path))
    assert longer["step"] == whole["step"] == 8
    for name in whole["weights"]:
        assert torch.equal(longer["weights"][name], whole["weights"][name])


def test_another_course_of_the_rate_is_asked_for(
    train: Trainings, reference: Any, tmp_path: Path
) -> None:
    shutil.copytree(reference(*ADAMW), tmp_path / "run")
    done = train("--resume", tmp_path / "run", "--epochs", 3, "--extend")
    assert done.returncode == 0, done.stderr
    last = checkpoint.read(tmp_path / "run/last.pth")
    assert (last["step"], last["epoch"], last["complete"]) == (6, 3, True)
    assert "note: steps were 4, are 6: the learning-rate course is a new one\n" in done.stdout
    assert "extend" not in json.loads(last["args"])


def test_a_launcher_that_starts_again(
    train: Trainings, reference: Any, tmp_path: Path
) -> None:
    """The same command line goes on in its own folder."""
    words = [*ADAMW, "--accumulate", 1]
    env = {"TORCHELASTIC_RUN_ID": "7", "TORCHELASTIC_MAX_RESTARTS": "2"}
    fault = at("train.update", 3, rank=1)
    assert train.start(tmp_path, *words, ranks=2, faults=[fault], env=env).returncode != 0
    done = train.start(tmp_path, *words, ranks=2, env=env)
    assert done.returncode == 0, done.stderr
    assert "step 2 of 4" in done.stdout
    assert_same(tmp_path, reference(*words, ranks=2))
    done = train(*train.base, *words, env=env)
    assert done.returncode == 2
    assert "--max-restarts needs --run-dir" in done.stderr


def test_copied_data_are_the_same_data(train: Trainings, tmp_path: Path) -> None:
    run, copy = tmp_path / "run", tmp_path / "copy"
    assert train.start(run, *SGD, faults=[at("train.update", 3, TERM)]).returncode == 143
    draw_cityscapes(copy, train=9, val=3, size=(48, 80))  # later file times
    done = train("--resume", run, "--data-root", copy)
    assert done.returncode == 0, done.stderr


def test_options_beside_resume_hold(train: Trainings, reference: Any, tmp_path: Path) -> None:
    words = [*SGD, "--log-every", 1, "--schedule", "constant"]
    assert train.start(tmp_path, *words, faults=[at("train.update", 2, TERM)]).returncode == 143
    done = train("--resume", tmp_path, "--lr", 0.5, "--weight-decay", 0.25, "--ema", 0.5)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["lr"] for line in lines if "lr" in line] == [0.01] * 2 + [0.5] * 6
    last = checkpoint.read(tmp_path / "last.pth")
    groups = last["optimizer"]["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.25}
    assert last["raw_weights"]


@pytest.mark.parametrize(("words", "faults", "message"), [
    (["--lr", "1e30"], [], "loss (nan|inf) at step 3"),
    ([], [{"call": "train.update", "n": 1, "poison": float("nan"), "after": True}],
     "loss nan at step 3"),
    (["--save-every", 3], [{"call": "train.update", "n": 1, "poison": float("inf"), "after": True}],
     ".*last.pth: not written: encoder.0.weight is not finite"),
])
def test_non_finite(words: list, faults: list, message: str, train: Trainings, tmp_path: Path
                    ) -> None:
    assert train.start(tmp_path, *SGD, faults=[at("train.update", 2, TERM)]).returncode == 143
    before = (tmp_path / "last.pth").read_bytes()
    done = train("--resume", tmp_path, "--save-every", 4, *words, faults=faults)
    assert done.returncode == 1
    assert re.fullmatch(f"error: {message}.*\n", done.stderr)
    assert (tmp_path / "last.pth").read_bytes() == before
    assert train("--resume", tmp_path).returncode == 0


def test_full_disk(train: Trainings, reference: Any, tmp_path: Path) -> None:
    size = (reference(*SGD) / "last.pth").stat().st_size
    fault = {"call": "train.update", "n": 3, "file_limit": size // 2}
    done = train.start(tmp_path, *SGD, faults=[fault])
    assert done.returncode == 1
    assert done.stderr == (
        f"error: {tmp_path / 'last.pth'}: not written (File too large); it needs 1 MB\n"
    )
    assert step_of(tmp_path / "last.pth") == 2
    assert not list(tmp_path.glob(".*.part"))
    assert train("--resume", tmp_path).returncode == 0
    assert_same(tmp_path, reference(*SGD))


@pytest.mark.parametrize("words", [["--run-dir", "FILE/run"], ["--run-dir", "/proc/run"]])
def test_unwritable_folder(words: list, train: Trainings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    words = [str(word).replace("FILE", str(tmp_path / "file")) for word in words]
    done = train.start(tmp_path, *SGD, *words)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*: cannot be written \(.*\); choose another --run-dir\n",
                        done.stderr)
    assert "step" not in done.stdout


def test_ranks(train: Trainings, reference: Any, tmp_path: Path) -> None:
    words = [*ADAMW, "--accumulate", 1]
    expected = reference(*words, ranks=2)
    assert content(expected / "last.pth") != content(reference(*words) / "last.pth")
    faults = {
        "launcher dies": at("train.update", 2, TERM, parent=True, rank=0),
        "rank dies": at("train.update", 3, rank=1),
        "main dies": at("os.replace", 4),
    }
    for name, fault in faults.items():
        run = tmp_path / name
        done = train.start(run, *words, ranks=2, faults=[fault])
        assert done.returncode != 0
        wait_until_gone(done.pid)
        assert step_of(run / "last.pth") == (1 if name == "main dies" else 2), name
        done = train("--resume", run, ranks=2)
        assert done.returncode == 0, done.stderr
        assert_same(run, expected)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torch.distributed.run", "utils.processes.launcher"])
@pytest.mark.parametrize("number", [TERM, KILL])
def test_launcher_is_signalled(number: int, launcher: str, train: Trainings, reference: Any,
                               tmp_path: Path) -> None:
    words = ["--arch", "deeplabv3_resnet18", "--batch-size", 4, "--epochs", 8]
    launch = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node", 2]
    base = [word for word in train.base if word not in ("--arch", "tiny")]  # known to forks alone
    script = [ROOT / "train.py", *base, "--run-dir", tmp_path, *words]
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen([str(word) for word in (*launch, *script)], stdout=output,
                                   stderr=output, start_new_session=True, cwd=ROOT)
    log = tmp_path / "log.jsonl"
    while not (log.exists() and log.read_text().count("train") >= 3):
        assert process.poll() is None, (tmp_path / "output").read_text()
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(120) != 0
    wait_until_gone(argument=str(tmp_path))  # every rank has a session of its own
    assert "SIGTERM: saved at step" in (tmp_path / "output").read_text()
    assert 3 <= step_of(tmp_path / "last.pth") < 16
    done = train("--resume", tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path, reference(*words, ranks=2))
