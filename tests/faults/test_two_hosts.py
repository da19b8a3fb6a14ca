"""Two hosts with a shared file system, as network namespaces with a cable between them."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import draw_cityscapes
from trainings import assert_same

ROOT = Path(__file__).parents[2]
TOOLS = ("ip", "unshare", "nsenter")
NAMES = {"hosta": "10.9.0.1", "hostb": "10.9.0.2"}
PATIENCE, WAIT = 8, 40  # seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0 or not all(
        map(shutil.which, TOOLS)), reason="network namespaces need Linux, root, ip and unshare"),
]


class Hosts:
    """A network, a name and /etc/hosts of its own for each of two."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.launched = folder, dict[str, subprocess.Popen]()
        table = folder / "hosts"
        table.write_text("127.0.0.1 localhost\n" + "".join(
            f"{address} {name}\n" for name, address in NAMES.items()))
        self.keepers = {name: subprocess.Popen([
            "unshare", "--net", "--uts", "--mount", "sh", "-c", f"hostname {name} && mount --bind "
            f"{table} /etc/hosts && echo up && exec sleep 10000"], stdout=subprocess.PIPE)
            for name in NAMES}
        if any(keeper.stdout.readline() != b"up\n" for keeper in self.keepers.values()):
            self.end()
            pytest.skip("no network namespaces here")
        first, second = (str(keeper.pid) for keeper in self.keepers.values())
        self.network("link", "add", "eth0", "netns", first, "type", "veth", "peer", "name", "eth0",
                     "netns", second)
        for name, address in NAMES.items():
            self.network("addr", "add", f"{address}/24", "dev", "eth0", host=name)
            for device in ("lo", "eth0"):
                self.network("link", "set", device, "up", host=name)

    def network(self, *words: str, host: str = "") -> None:
        inside = ["nsenter", "-t", str(self.keepers[host].pid), "-n"] if host else []
        subprocess.run([*inside, "ip", *words], check=True)

    def cable(self, state: str) -> None:
        self.network("link", "set", "eth0", state, host="hosta")

    def launch(self, name: str, *words: object) -> None:
        env = {**os.environ, "VIRTUAL_ENV": sys.prefix, "NODES": "2", "HEAD": "hosta:29500",
               "NPROC": "1", "JOB": "1", "WAIT": str(WAIT), "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{name}.txt").open("a") as output:
            self.launched[name] = subprocess.Popen(
                ["nsenter", "-t", str(self.keepers[name].pid), "-n", "-u", "-m", f"--wdns={ROOT}",
                 "scripts/train_multi_node.sh", *map(str, words)],
                cwd=ROOT, env=env, stdout=output, stderr=output, start_new_session=True)

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.txt").read_text()

    def end(self) -> None:
        for process in self.launched.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        for keeper in self.keepers.values():
            keeper.kill()
            keeper.wait()


class Run:
    """A training on both hosts."""

    def __init__(self, folder: Path, data: Path) -> None:
        folder.mkdir()
        self.folder, self.hosts = folder / "run", Hosts(folder)
        self.words = ["--device", "cpu", "--dataset", "cityscapes", "--data-root", data, "--arch",
                      "sgcpnet", "--crop-size", 32, 48, "--batch-size", 4, "--epochs", 20,
                      "--val-every", 10, "--save-every", 1, "--log-every", 1, "--workers", 0,
                      "--threads", 1, "--precision", "fp32", "--run-dir", self.folder,
                      "--patience", PATIENCE]
        for name in NAMES:
            self.launch(name)

    def launch(self, name: str) -> None:
        self.hosts.launch(name, *self.words)

    def under_way(self) -> None:
        log = self.folder / "log.jsonl"
        until(lambda: log.exists() and log.read_text().count("\n") >= 10, 120)

    def codes(self, seconds: float) -> list[int]:
        """Of the launchers, that have to end within so long."""
        end = time.monotonic() + seconds
        return [process.wait(max(0, end - time.monotonic()))
                for process in self.hosts.launched.values()]


def until(happened: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw_cityscapes(folder, train=24, val=3, size=(48, 80))
    return folder


@pytest.fixture(scope="module")
def reference(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbs."""
    run = Run(tmp_path_factory.mktemp("reference") / "hosts", data)
    try:
        assert run.codes(180) == [0, 0], run.hosts.said("hosta") + run.hosts.said("hostb")
    finally:
        run.hosts.end()
    return run.folder


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Iterator[Run]:
    run = Run(tmp_path / "hosts", data)
    yield run
    run.hosts.end()


@pytest.mark.parametrize("seconds", [3, PATIENCE + 6])
def test_a_cable_that_is_out_for_a_while(seconds: int, run: Run, reference: Path) -> None:
    run.under_way()
    run.hosts.cable("down")
    time.sleep(seconds)
    run.hosts.cable("up")
    assert run.codes(180) == [0, 0], run.hosts.said("hosta") + run.hosts.said("hostb")
    assert_same(run.folder, reference)


@pytest.mark.parametrize("name", NAMES)
def test_a_launcher_that_is_killed_and_started_again(
    name: str, run: Run, reference: Path
) -> None:
    run.under_way()
    run.hosts.launched[name].kill()
    time.sleep(1)
    run.launch(name)
    if name == "hosta":  # where the others would meet: they end, and are started again too
        run.hosts.launched["hostb"].wait(WAIT + 30)
        run.launch("hostb")
    assert run.codes(180) == [0, 0], run.hosts.said("hosta") + run.hosts.said("hostb")
    assert_same(run.folder, reference)


def test_a_cable_that_stays_out(run: Run) -> None:
    run.under_way()
    run.hosts.cable("down")
    assert run.codes(PATIENCE + WAIT + 40) == [1, 1]
    for name, other in (("hosta", "hostb"), ("hostb", "hosta")):
        lines = [line for line in run.hosts.said(name).splitlines() if line.startswith("error: ")]
        assert f"on {other}) has not answered: it hangs, was killed" in lines[0]
        assert lines[-1].startswith(f"error: {name}: ")
        assert "Traceback" not in run.hosts.said(name)
