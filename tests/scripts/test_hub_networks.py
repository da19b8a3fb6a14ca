"""Folders of the model hub, of both packages, go through every script."""

import json
from pathlib import Path

import pytest
import torch
from conftest import draw_camvid, run_script
from test_hub import small, write

from model import hub
from utils import checkpoint


def save_of_transformers(folder: Path) -> str:
    """A small SegFormer as transformers saves it; the network's name here."""
    write(folder, *small(11))
    return "segformer"


def save_of_smp(folder: Path) -> str:
    """A network of segmentation_models_pytorch as that saves it; its name here."""
    smp = pytest.importorskip("segmentation_models_pytorch")
    network = smp.Unet("timm-mobilenetv3_small_minimal_100", encoder_weights=None, classes=11,
                       decoder_channels=(32, 16, 16, 8, 8))
    network.save_pretrained(str(folder))
    return "smp:unet:timm-mobilenetv3_small_minimal_100"


@pytest.mark.parametrize("save", [save_of_transformers, save_of_smp])
def test_a_folder_goes_through_every_script(save, tmp_path: Path) -> None:
    torch.manual_seed(0)
    root, folder = draw_camvid(tmp_path / "camvid", (64, 96)), tmp_path / "network"
    folder.mkdir()
    arch = save(folder)
    data = ["--dataset", "camvid", "--data-root", root, "--workers", 0, "--threads", 1,
            "--precision", "fp32"]
    image = next((root / "test").glob("*.png"))

    def start(*words: object) -> str:
        done = run_script(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    start("demo.py", "--demo-image", image, "--snapshot", folder, "--dataset", "camvid",
          "--save-dir", tmp_path / "demo")
    assert len(list((tmp_path / "demo").iterdir())) == 3
    start("evaluate.py", "--snapshot", folder, *data, "--json", tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text())["images"] == 2
    start("train.py", "--arch", arch, "--init", folder, *data, "--run-dir", tmp_path / "run",
          "--crop-size", 32, 32, "--batch-size", 2, "--epochs", 1, "--optimizer", "adamw",
          "--lr", 0)
    weights = checkpoint.read(tmp_path / "run" / "best.pth")["weights"]
    given = hub.read_folder(folder)["weights"]
    assert all(torch.equal(weights[key], given[key]) for key in given if "running" not in key
               and "num_batches" not in key)


@pytest.mark.slow
@pytest.mark.parametrize("save", [save_of_transformers, save_of_smp])
def test_a_folder_is_exported(save, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    root, folder = draw_camvid(tmp_path / "camvid", (64, 96)), tmp_path / "network"
    folder.mkdir()
    save(folder)
    done = run_script("export.py", "--snapshot", folder, "--output", tmp_path / "x.onnx",
                      "--images", root / "test", "--dataset", "camvid", "--threads", 1)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.onnx").exists()
