"""Folders of the model hub, of both packages, go through every script."""

import json
from pathlib import Path

import pytest
import torch
from conftest import draw_camvid, run_script
from safetensors.torch import save_file

from model import build_model, hub
from model.published import rename
from utils import checkpoint

FORM = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 2, 3, 4], "sr_ratios": [8, 4, 2, 1],
        "mlp_ratios": [2, 2, 2, 2], "decoder_hidden_size": 16}


def save_of_transformers(folder: Path) -> str:
    """A small SegFormer as transformers saves it; the network's name here."""
    form = {"widths": (8, 16, 24, 32), "depths": (1, 1, 1, 1), "heads": (1, 2, 3, 4),
            "ratios": (2, 2, 2, 2), "decoder": 16}
    weights = build_model("segformer", 11, parts=form).state_dict()
    back = {}
    for key, tensor in weights.items():
        halves = zip(("key", "value"), tensor.chunk(2), strict=True) if ".attn.kv." in key else ()
        for part, half in halves:
            back[key.replace(".attn.kv.", f".attention.self.{part}.")] = half.clone()
        if ".attn.kv." not in key:
            back[key] = tensor
    turned = (  # of the tables that read such names
        (r"encoder\.patch_embed(\d)\.proj", lambda m: f"segformer.encoder.patch_embeddings."
                                                      f"{int(m[1]) - 1}.proj"),
        (r"encoder\.patch_embed(\d)\.norm", lambda m: f"segformer.encoder.patch_embeddings."
                                                      f"{int(m[1]) - 1}.layer_norm"),
        (r"encoder\.norm(\d)", lambda m: f"segformer.encoder.layer_norm.{int(m[1]) - 1}"),
        (r"encoder\.block(\d)", lambda m: f"segformer.encoder.block.{int(m[1]) - 1}"),
        (r"decoder\.mlp_stage\.(\d)\.linear", lambda m: f"decode_head.linear_c."
                                                          f"{3 - int(m[1])}.proj"),
        (r"decoder\.fuse_stage\.0", "decode_head.linear_fuse"),
        (r"decoder\.fuse_stage\.1", "decode_head.batch_norm"),
        (r"classifier", "decode_head.classifier"),
    )
    within = tuple((rf"(segformer.*)\.{ours}\.", rf"\1.{theirs}.") for ours, theirs in (
        ("norm1", "layer_norm_1"), ("norm2", "layer_norm_2"), ("attn.q", "attention.self.query"),
        ("attn.sr", "attention.self.sr"), ("attn.norm", "attention.self.layer_norm"),
        ("attn.proj", "attention.output.dense"), ("mlp.fc1", "mlp.dense1"),
        ("mlp.fc2", "mlp.dense2")))
    save_file(rename(rename(back, turned), within), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(FORM | {"model_type": "segformer"}))
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
