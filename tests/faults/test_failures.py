"""What a machine does to a training, in one line: workers, memory, signals."""

import faulthandler
import os
import resource
import signal
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import forks
from torch.utils.data import Subset
from trainings import SGD, Trainings, assert_same, at, step_of

from utils import stopping, workers
from utils.workers import Loader, check_shared_memory, map_in_threads

CPU = torch.device("cpu")


class Slow:
    """A data set on a disk that does not answer, or whose readers are killed."""

    root = "/mnt/gone"

    def __init__(self, kill: int = 0) -> None:
        self.kill = kill

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        if self.kill:
            faulthandler.disable()  # of the tests
            os.kill(os.getpid(), self.kill)
        time.sleep(3)
        return index


def test_a_disk_that_has_gone_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 4 / 3)
    with pytest.raises(RuntimeError, match="/mnt/gone: a process that reads there has not "
                                           "answered for 1 s"):
        list(Loader(Subset(Slow(), range(2)), 1, CPU, batch_size=None))


def said(error: Exception, capsys: pytest.CaptureFixture) -> tuple[int, str]:
    try:
        raise error
    except Exception as raised:
        return stopping.report(raised), capsys.readouterr().err


@pytest.mark.parametrize(("number", "words"), [
    (signal.SIGKILL, "a process that reads images was killed"),
    (signal.SIGSEGV, "a process that reads images was killed"),
    (signal.SIGBUS, "/dev/shm, through which processes hand over images, is full"),
])
def test_a_reader_that_is_killed(number: int, words: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(RuntimeError) as error:
        list(Loader(Slow(kill=number), 1, CPU, batch_size=None))
    assert stopping.report(error.value) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"error: {words}")
    assert "--workers" in err
    assert err.count("\n") == 1


def test_a_reader_of_a_training_that_is_killed(tmp_path: Path) -> None:
    """It costs the steps since the last checkpoint, and nothing else."""
    train, words = Trainings(tmp_path), [*SGD, "--workers", 2]
    fault = at("datasets.base.SegmentationDataset.read_image", 9)  # five are read before, by main
    done = train.start(tmp_path / "run", *words, faults=[fault])
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: a process that reads images was killed")
    assert done.stderr.count("\n") == 1
    assert train.go_on(tmp_path / "run", *words).returncode == 0
    assert_same(tmp_path / "run", train.undisturbed(*words))


OUT_OF_MEMORY = """
import torch, train
from utils.stopping import run
loss_of, calls = train.loss_of, []
def greedy(*words):
    calls.append(words)
    if len(calls) == 4:  # the first one is in the rehearsal
        {what}
    return loss_of(*words)
train.loss_of = greedy
run(train.main)
"""


@pytest.mark.parametrize("what", [
    "torch.empty(1 << 50)", "raise torch.OutOfMemoryError('CUDA out of memory. Tried\\nto')"])
def test_memory_that_is_out(what: str, tmp_path: Path) -> None:
    train, run = Trainings(tmp_path), tmp_path / "run"
    (tmp_path / "greedy.py").write_text(OUT_OF_MEMORY.format(what=what))
    done = forks()(tmp_path / "greedy.py", *train.base, "--run-dir", run, *SGD)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: out of memory (")
    assert "it was --batch-size 2 of --crop-size 32 48; go on with --resume" in done.stderr
    assert done.stderr.count("\n") == 1
    assert step_of(run / "last.pth") == 2
    assert train("--resume", run).returncode == 0
    assert_same(run, train.undisturbed(*SGD))


class Large:
    """Images for which there is no room any more in the memory that processes share."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        return torch.zeros(10**6)


@pytest.mark.parametrize("size", [None, 2])
def test_shared_memory_that_fills_up(size: int | None, monkeypatch: pytest.MonkeyPatch,
                                     capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(workers, "PATIENCE", 20)
    with pytest.raises((RuntimeError, OSError)) as error:
        list(Loader(Large(), 1, CPU, batch_size=size))
    assert stopping.report(error.value) == 1
    *_, last = capfd.readouterr().err.replace("\0", "").splitlines()  # PyTorch says it too
    assert last.startswith("error: /dev/shm, through which processes hand over images, is full")


@pytest.mark.parametrize(("error", "words"), [
    (torch.OutOfMemoryError("CUDA out of memory. Tried\nto"), "out of memory (CUDA out of memory."),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you"), "--batch"),
    (MemoryError(), "--batch-size"),
    (RuntimeError("unable to write to file </torch_1>: No space left on device"), "/dev/shm"),
    (RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."), "/dev/shm"),
    (RuntimeError("DataLoader worker (pid 3) is killed by signal: Killed."), "--workers"),
    (RuntimeError("The server socket: EADDRINUSE"), "--master-port"),
])
def test_known(error: Exception, words: str, capsys: pytest.CaptureFixture) -> None:
    error.add_note("go on with --resume runs/a")
    assert stopping.explain(error)
    code, line = said(error, capsys)
    assert code == 1
    assert words in line
    assert line.endswith("; go on with --resume runs/a\n")


@pytest.mark.parametrize("where", ["/dev/shm/run", "/data/torch_1/run", "shared memory"])
def test_names_of_shared_memory_in_other_faults(where: str) -> None:
    assert stopping.explain(RuntimeError(f"{where}: weights differ")) is None


def test_unknown(capsys: pytest.CaptureFixture) -> None:
    assert stopping.explain(KeyError("a")) is None
    code, text = said(KeyError("a"), capsys)
    assert code == 1
    assert "Traceback" in text


def test_too_little_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: SimpleNamespace(free=64_000_000))
    check_shared_memory(2, 32_000_000)
    check_shared_memory(0, 10**12)
    with pytest.raises(OSError, match=r"/dev/shm: 64.0 MB are free.* up to 66.0 MB; give --work"):
        check_shared_memory(2, 33_000_000)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(OSError, match="/dev/shm"):
        check_shared_memory(2, 32_000_000)


def test_who_leaves_does_not_wait_for_a_slow_disk() -> None:
    jobs = map_in_threads(lambda _: time.sleep(3), range(9), 2)
    before = time.monotonic()
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    with pytest.raises(KeyboardInterrupt):
        list(jobs)
    assert time.monotonic() - before < 2


def test_who_leaves_meanwhile_has_said_all(tmp_path: Path) -> None:
    """What was printed is not lost in a buffer."""
    (tmp_path / "slow.py").write_text(
        "import sys, threading\nfrom utils.stopping import run\n\ndef main():\n    print('said')\n"
        "    threading.Thread(target=threading.Event().wait, name='ThreadPoolExecutor',\n"
        "                     daemon=True).start()\n    raise KeyboardInterrupt\n\n"
        "sys.stdout = open(1, 'w', closefd=False)  # with a buffer\nrun(main)\n")
    done = forks()(tmp_path / "slow.py")
    assert (done.returncode, done.stdout) == (130, "said\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -15)])
def test_signals_while_there_is_nothing_to_save(number: int, code: int, tmp_path: Path) -> None:
    train = Trainings(tmp_path)
    fault = at("datasets.base.read_size", 1, number)
    done = train.start(tmp_path / "run", faults=[fault])
    assert (done.returncode, done.stderr) == (code, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="of Linux")
def test_the_launcher_dies_while_pytorch_is_imported(tmp_path: Path) -> None:
    """The first lines of the scripts, before their imports."""
    for name in ("train.py", "train_sdcnet.py"):
        head = (Path(stopping.ROOT) / name).read_text().partition("import argparse")[0]
        assert "end_with_launcher()" in head
        assert "import torch" not in head
    (tmp_path / "waits.py").write_text(
        "import os, time\nfrom utils.stopping import end_with_launcher\n"
        "if not os.fork():\n    end_with_launcher()\n    open('ready', 'w').close()\n"
        "    time.sleep(9)\n    open('late', 'w').close()\n"
        "while not os.path.exists('ready'):\n    time.sleep(0.01)\nos._exit(0)\n")
    done = forks()(tmp_path / "waits.py", cwd=tmp_path, env={"RANK": "0"})
    assert done.returncode == 0
    assert (tmp_path / "ready").exists()
    assert done.seconds < 8
