"""What only a GPU or a compiler shows; skipped or slow elsewhere."""

from pathlib import Path

import pytest
import torch
from conftest import draw_camvid, run_script
from torch import nn

from utils import checkpoint, distributed

WORDS = ["--dataset", "camvid", "--crop-size", 64, 64, "--batch-size", 4, "--max-steps", 3,
         "--workers", 0]


def losses(folder: Path, root: Path, *words: object, ranks: int = 0) -> dict:
    done = run_script("train.py", "--data-root", root, "--run-dir", folder, *WORDS, *words,
                      ranks=ranks)
    assert done.returncode == 0, done.stderr
    return checkpoint.read(folder / "last.pth")


@pytest.mark.slow
def test_compiled_training(tmp_path: Path) -> None:
    """The compiler's network is the plain one, up to rounding."""
    root = draw_camvid(tmp_path / "camvid")
    words = ["--precision", "fp32", "--threads", 1, "--max-steps", 1, "--lr", 1e-3]
    plain = losses(tmp_path / "plain", root, *words)["weights"]
    compiled = losses(tmp_path / "compiled", root, *words, "--compile")["weights"]
    assert list(plain) == list(compiled)
    for name in plain:
        torch.testing.assert_close(compiled[name], plain[name], rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_cuda(precision: str, tmp_path: Path) -> None:
    root = draw_camvid(tmp_path / "camvid")
    last = losses(tmp_path / "run", root, "--device", "cuda", "--precision", precision, "--ema",
                  0.9)
    assert last["step"] == 3
    assert bool(last["scaler"]) == (precision == "fp16")


@pytest.mark.gpu
def test_nccl_and_sync_bn(tmp_path: Path) -> None:
    root = draw_camvid(tmp_path / "camvid")
    last = losses(tmp_path / "run", root, "--device", "cuda", "--sync-bn", ranks=1)
    assert last["step"] == 3


@pytest.mark.gpu
def test_sync_bn_is_converted() -> None:
    network = distributed.synchronize_batch_norm(nn.BatchNorm2d(3), torch.device("cuda"))
    assert isinstance(network, nn.SyncBatchNorm)


def test_sync_bn_elsewhere_says_so(capsys: pytest.CaptureFixture) -> None:
    network = nn.BatchNorm2d(3)
    assert distributed.synchronize_batch_norm(network, torch.device("cpu")) is network
    assert "not on cpu" in capsys.readouterr().out
