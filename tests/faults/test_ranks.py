"""Ranks that differ, die or wait: one line that names the rank, never a wrong result."""

import re
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from conftest import run_script, start_script
from trainings import Trainings, at

from datasets.sampling.epoch_lists import AllImages
from datasets.sampling.sampler import TrainSampler
from utils import checkpoint, distributed
from utils.processes import peers
from utils.processes.peers import Peers, meet

WORDS = ["--optimizer", "sgd", "--batch-size", 4]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    return Trainings(tmp_path_factory.mktemp("trainings"))


def other_for_rank_1(tmp_path: Path, option: str, value: object) -> Path:
    """A script that is train.py, on rank 1 with another value of an option."""
    script = tmp_path / "other.py"
    script.write_text(
        "import os, sys, train\nfrom utils.stopping import run\n"
        f"if os.environ['RANK'] == '1':\n    sys.argv[sys.argv.index({option!r}) + 1] = "
        f"{str(value)!r}\nrun(train.main)\n")
    return script


def test_other_images(train: Trainings, tmp_path: Path) -> None:
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(train.base[3], root)
    for path in [*root.rglob("aachen_000000*")]:
        path.rename(path.with_name(path.name.replace("000000", "000099", 1)))
    words = [*train.base, "--run-dir", run, *WORDS]
    done = run_script(other_for_rank_1(tmp_path, "--data-root", root), *words, ranks=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: data differ: rank 1 on ")
    assert "has another list of training images than rank 0 on " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not run.exists()


def test_other_checkpoints(train: Trainings, tmp_path: Path) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    done = train.start(run, *WORDS, ranks=2, faults=[at("train.update", 1, 15, rank=0)])
    assert done.returncode == 143, done.stderr
    shutil.copytree(run, other)
    content = checkpoint.read(run / "last.pth")
    next(iter(content["weights"].values())).add_(0.25)
    checkpoint.write(other / "last.pth", content)
    script = other_for_rank_1(tmp_path, "--resume", other)
    done = run_script(script, "--resume", run, ranks=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: checkpoints to resume from differ: rank 1 on ")
    assert done.stderr.count("\n") == 1


def test_weights_that_drift_apart(train: Trainings, tmp_path: Path) -> None:
    drift = {"call": "train.update", "n": 1, "after": True, "poison": 0.5, "rank": 1}
    done = train.start(tmp_path, *WORDS, ranks=2, faults=[drift])
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: weights at step 1 differ: rank 1 on ")
    assert "has another encoder.0.weight than rank 0" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "last.pth").exists()


@pytest.mark.parametrize("how", [
    at("train.update", 2, rank=1), at("train.update", 2, rank=0), pytest.param(
        {"call": "train.update", "n": 2, "exit": 0, "rank": 1}, marks=pytest.mark.slow),
], ids=["killed", "main rank killed", "left as if done"])
def test_a_rank_that_is_gone(how: dict, train: Trainings, tmp_path: Path) -> None:
    done = train.start(tmp_path, *WORDS, ranks=2, faults=[how])
    assert done.returncode != 0
    *_, last = done.stderr.splitlines()  # behind what PyTorch says of its lost store
    assert last.startswith("error: rank 1")
    cause = "ended without a word" if how["rank"] else "rank 0 ended, which the other ranks need"
    assert cause in last
    assert last.endswith(f"; go on with --resume {tmp_path}")
    assert done.stderr.count("error: ") == 1
    assert checkpoint.read(tmp_path / "last.pth")["step"] == 1


@pytest.mark.parametrize("call", ["utils.distributed.dist.new_group", "utils.distributed.gather"])
def test_a_rank_that_is_gone_before_all_are_there(
    call: str, train: Trainings, tmp_path: Path
) -> None:
    words = [*WORDS, "--patience", 3]
    done = train.start(tmp_path / "run", *words, ranks=2, faults=[at(call, 1, rank=1)])
    assert done.returncode != 0
    assert "error: the ranks have not come together: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_an_image_that_one_rank_cannot_read(train: Trainings, tmp_path: Path) -> None:
    """The other has lost it and waits in vain, but the file is what there is to say."""
    root, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(train.base[3], root)
    for path in root.rglob("aachen*leftImg8bit.png"):
        path.write_bytes(path.read_bytes()[:-20])  # sizes can be read
    words = [*train.base, "--run-dir", run, *WORDS]
    done = run_script(other_for_rank_1(tmp_path, "--data-root", root), *words, ranks=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: rank 1: {root}/leftImg8bit/train/aachen/aachen_")
    assert "truncated or damaged PNG" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("option", "value"), [
    ("--epochs", 3), ("--batch-size", 8), ("--save-every", 2), ("--seed", 5), ("--lr", 0.5),
])
def test_other_options(option: str, value: object, train: Trainings, tmp_path: Path) -> None:
    """Two hosts, two command lines: one of them would wait at the end, or train something else."""
    run = tmp_path / "run"
    words = [*train.base, "--run-dir", run, *WORDS, "--lr", 0.01, "--seed", 0]
    done = run_script(other_for_rank_1(tmp_path, option, value), *words, ranks=2)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: options differ: rank 1 on ")
    assert f"has another {option} than rank 0 on " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not run.exists()


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("images", range(24, 31))
def test_ranks_have_as_many_batches(images: int, accumulate: int) -> None:
    lists = AllImages((images, images))
    samplers = [TrainSampler(lists, 3, (accumulate, 3, 2), rank) for rank in range(3)]
    batches = [[[key.position for key in batch] for batch in sampler] for sampler in samplers]
    assert len({*map(len, batches), *map(len, samplers)}) == 1
    assert all(len(batch) == 2 for rank in batches for batch in rank)


def test_a_rank_that_hangs(train: Trainings, tmp_path: Path) -> None:
    """The other ends and says which; the launcher of users then ends the one that hangs."""
    hang = at("train.update", 2, 0, rank=1, pause=9)
    done = train.start(tmp_path, *WORDS, "--patience", 3, ranks=2, faults=[hang])
    assert done.returncode != 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: rank 1 (process ")
    assert "has not answered: it hangs, was killed, or its network is cut" in first
    assert first.endswith(f"; go on with --resume {tmp_path}")


def test_a_rank_that_fails_says_it_alone(train: Trainings, tmp_path: Path) -> None:
    """Loss not finite on rank 1: the other waits for it, and has nothing to add."""
    poison = {"call": "train.update", "n": 1, "after": True, "poison": float("nan"), "rank": 1}
    done = train.start(tmp_path, *WORDS, "--save-every", 99, ranks=2, faults=[poison])
    assert done.returncode == 1
    assert done.stderr.startswith("error: rank 1: loss nan at step 1")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("given", [
    {"RANK": "0"}, {"WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a"},
    {"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    {"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"},
    {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "99999"},
    {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1", "LOCAL_RANK": "x"},
    {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1",
     "LOCAL_WORLD_SIZE": ""},
    {"LOCAL_RANK": "x"}, {"LOCAL_WORLD_SIZE": "0"},
])
def test_half_a_launcher(given: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in distributed.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="start with python -m torch.distributed.run, or unset"):
        distributed.start("cpu")


def test_a_launcher_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MASTER_ADDR", "127.0.0.1"), ("MASTER_PORT", "1"),
                        ("TORCHELASTIC_USE_AGENT_STORE", "True")):
        monkeypatch.setenv(name, value)
    with pytest.raises(RuntimeError, match="the launcher at 127.0.0.1:1 has ended"):
        distributed.join(torch.device("cpu"), timedelta(seconds=1))


def test_each_start_has_a_name_of_its_own() -> None:
    """On one store, whatever the ranks of the starts before have left there."""
    store, patience = dist.TCPStore("127.0.0.1", 0, is_master=True), timedelta(seconds=20)
    with ThreadPoolExecutor() as pool:
        def start(*ranks: int, patience: timedelta = patience) -> list[Future]:
            began = []
            for rank in ranks:
                own = dist.TCPStore("127.0.0.1", store.port, is_master=False, timeout=patience)
                began.append(pool.submit(meet, own, rank, 3, patience))
                time.sleep(0.15)  # the first sees what is old alone
            return began

        names = [{future.result() for future in start(*order)} for order in
                 [(0, 1, 2), (0, 1, 2), (2, 1, 0)]]
        for future in start(1, 2, patience=timedelta(seconds=0.5)):  # and rank 0 is killed
            with pytest.raises(dist.DistStoreError):
                future.result()
        alone = start(0, 1, patience=timedelta(seconds=1))
        with pytest.raises(RuntimeError, match="rank 2 has not come"):
            alone[0].result()
        names += [{future.result() for future in start(0, 2, 1)}, {alone[1].result()}]
    assert [len(several) for several in names] == [1] * 5
    assert len(set.union(*names)) == 5


RESTARTS = """
import os
import signal
import time
import torch
import torch.distributed as dist
from utils import distributed
again = os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
if again and os.environ["RANK"] == "0":
    time.sleep(2)  # until the other has looked for its address
distributed.start("cpu", 1, patience=60)
if not again and distributed.rank() == 1:
    os.kill(os.getpid(), signal.SIGKILL)
distributed.sum_over_ranks(torch.ones(()))
distributed.stop()
"""


def test_ranks_started_again_do_not_look_for_the_ones_before(tmp_path: Path) -> None:
    (tmp_path / "restarts.py").write_text(RESTARTS)
    done = start_script(tmp_path / "restarts.py", ranks=2, env={"PET_MAX_RESTARTS": "1"})
    assert done.returncode == 0, done.stderr


WAITS = """
import threading
import time
from utils import distributed
distributed.start("cpu", 1, patience=1)
with distributed.main_first():
    if distributed.rank() == 0:
        time.sleep(3)
distributed.stop()
assert threading.active_count() == 1  # none that PyTorch could be in while Python ends
print("done\\n", end="", flush=True)  # a line in one piece, beside the other rank
"""


def test_what_rank_0_prepares_may_take_long(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text(WAITS)
    done = run_script(tmp_path / "waits.py", ranks=2)
    assert (done.returncode, done.stdout.count("done\n")) == (0, 2), done.stderr


SILENT = """
import sys
import time
from utils import distributed
from utils.processes.peers import Peers
from utils.stopping import run
silent, slow = map(int, sys.argv[1:])
def main():
    distributed.start("cpu", 1, patience=1)
    if distributed.rank() == slow == 1:
        time.sleep(6)
    with distributed.main_first():
        if distributed.rank() == slow == 0:
            time.sleep(6)
beat = Peers._beat
Peers._beat = lambda peers: None if peers.rank == silent else beat(peers)
run(main)
"""


@pytest.mark.parametrize("silent", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_rank_falls_silent_while_it_prepares(silent: int, tmp_path: Path) -> None:
    (tmp_path / "silent.py").write_text(SILENT)
    done = run_script(tmp_path / "silent.py", silent, silent, ranks=2)
    assert done.returncode == 1
    said = f"rank {silent} \\(process \\d+ on .+\\) has not answered: it hangs, was killed, or"
    assert re.search(f"^error: (rank 1: )?{said}", done.stderr, re.M), done.stderr


@pytest.mark.parametrize("words", [  # of gloo, with the place in its source and without
    "[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 8000ms",
    "Application timeout caused pair closure", "Connection closed by peer [10.9.0.2]:4711",
])
def test_a_store_that_does_not_answer(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of a host whose network is cut: who asks it waits until the kernel gives up."""
    hangs = SimpleNamespace(set=lambda *_: time.sleep(9))
    monkeypatch.setattr(peers, "ROLL_CALL", 0.1)
    lost = SimpleNamespace(processes=[("there", 7), ("here", 8)], rank=1, world=2, store=hangs)
    lost._call, lost._describe = partial(Peers._call, lost), partial(Peers._describe, lost)
    assert Peers.blame(lost, RuntimeError(words)) == (
        "rank 0 (process 7 on there) has not answered: it hangs, was killed, or its network is cut")
    assert Peers.blame(lost, RuntimeError("a fault of one's own")) is None


def test_ranks_agree_or_every_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [("here", {"a": 1, "b": 2}), ("there", {"a": 1, "b": 3})]
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "gather", lambda *_: parts)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        with pytest.raises(ValueError, match="x differ: rank 1 on there has another b than rank 0 "
                                             "on here; mend it") as error:
            distributed.agree("x", {}, ValueError, "mend it")
        assert error.value.told == bool(rank)
    parts[1] = parts[0]
    distributed.agree("x", {}, ValueError, "mend it")


