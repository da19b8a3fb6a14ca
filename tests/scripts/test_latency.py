"""latency.py says what it measured, and counts right."""

import json
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from torch import nn

import model
from latency import Figures, count_macs, timed
from utils import checkpoint


class Small(nn.Module):
    """One convolution whose cost is known."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, images: torch.Tensor, full_size: bool = True) -> torch.Tensor:
        return self.conv(images.float())


def test_multiply_adds() -> None:
    assert count_macs(Small(), (10, 20)) == 10 * 20 * 3 * 5 * 9


def test_multiply_adds_of_a_published_network() -> None:
    """As its authors' count: 10.9 billion at 1024x2048, with the head at a quarter of the size."""
    network = model.build_model("cspsg_n", 19)
    head = 32 * 19 * (1024 * 2048 - 256 * 512)
    assert count_macs(network, (1024, 2048)) + head == pytest.approx(10.9e9, rel=0.15)


def test_clock_counts_runs_after_the_warm_up() -> None:
    calls = []
    seconds = timed(lambda: calls.append(1), torch.device("cpu"), runs=7, warm_up=3)
    assert (len(calls), len(seconds)) == (10, 7)
    figures = Figures("x", "cpu", "fp32", 1, (2, 2), 1, 1, seconds=[1.0, 2.0, 3.0])
    assert figures.percentile(50) == 2


# Users have "spawn"; a fork has PyTorch imported, and may compute in one thread alone.
@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_table_and_json(
    start: str, tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency.get_context", lambda _: get_context(start))
    network = model.build_model("cspsg_n", 4)
    checkpoint.write(tmp_path / "x.pth", {
        "format": checkpoint.FORMAT, "model": network.config, "weights": network.state_dict(),
        "dataset": {"name": "folder"}})
    words = ["--size", 64, 96, "--batch-sizes", 1, 2, "--runs", 3, "--device", "cpu",
             "--threads", 1, "--json", tmp_path / "out.json"]
    done = call("latency.py", "--arch", "sgcpnet", "--snapshot", tmp_path / "x.pth", *words)
    assert done.returncode == 0, done.stderr
    first, second = json.loads((tmp_path / "out.json").read_text())
    assert (first["name"], first["parameters"]) == ("sgcpnet", 607_826)
    assert second["name"] == str(tmp_path / "x.pth")
    assert second["parameters"] == model.count_parameters(network)
    assert len(first["seconds"]) == 3
    assert first["p50"] <= first["p99"]
    assert set(first["throughput"]) == {"1", "2"}
    assert "96x64" in done.stdout
    assert " ms " in done.stdout


@pytest.mark.parametrize(("words", "message"), [
    ([], "give --arch NAME ... or --snapshot"),
    (["--arch", "resnet"], "unknown network 'resnet'"),
    (["--snapshot", "missing.pth"], "missing.pth: no such checkpoint"),
])
def test_refusals(words: list[str], message: str, call) -> None:
    done = call("latency.py", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
