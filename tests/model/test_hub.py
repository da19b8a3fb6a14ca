"""Folders of the model hub, of both packages: parity, names of classes, what is refused."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import make_weights
import numpy as np
import pytest
import torch
from conftest import FIXTURES, run_script
from safetensors.torch import save_file

import model
from datasets import cityscapes_labels, dataset_of
from model import hub
from model.layers import IMAGENET_MEAN, IMAGENET_STD
from model.snapshot import from_snapshot, load_model, read_snapshot
from utils.images import write_png

REFERENCES = sorted(path.stem for path in FIXTURES.glob("*segformer*.npz"))
SMALL = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1],
         "num_attention_heads": [1, 2, 3, 4],
         "sr_ratios": [8, 4, 2, 1], "mlp_ratios": [2, 2, 2, 2], "decoder_hidden_size": 16,
         "model_type": "segformer", "architectures": ["SegformerForSemanticSegmentation"]}


def fill(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    told = json.loads((FIXTURES / f"{name}.json").read_text())
    return told, make_weights.fill([tuple(row) for row in told["keys"]], told["fill_seed"])


def write(folder: Path, config: dict, weights: dict, file: str = "model.safetensors") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {key: tensor.contiguous() for key, tensor in weights.items()}
    if file.endswith(".safetensors"):
        save_file(weights, folder / file)
    else:
        torch.save(weights, folder / file)
    return folder


def small(classes: int, labels: list[str] | None = None) -> tuple[dict, dict[str, torch.Tensor]]:
    """A SegFormer of transformers that is no published size."""
    torch.manual_seed(0)
    form = {"widths": (8, 16, 24, 32), "depths": (1, 2, 1, 1), "heads": (1, 2, 3, 4),
            "ratios": (2, 2, 2, 2), "decoder": 16}
    ours = model.build_model("segformer", classes, parts=form).state_dict()
    theirs: dict[str, torch.Tensor] = {}
    for key, tensor in ours.items():
        if ".attn.kv." not in key:
            theirs[transformers_name(key)] = tensor
            continue
        for part, half in zip(("key", "value"), tensor.chunk(2), strict=True):
            theirs[transformers_name(key.replace(".kv.", f".{part}."))] = half.clone()
    names = labels or [f"LABEL_{number}" for number in range(classes)]
    return SMALL | {"id2label": {str(i): name for i, name in enumerate(names)}}, theirs


def transformers_name(key: str) -> str:
    """Ours -> theirs, written without the table that is tested."""
    kind, _, rest = key.partition(".")
    if kind == "classifier":
        return f"decode_head.{key}"
    if kind == "decoder":
        place, _, last = rest.partition(".")
        if place == "mlp_stage":
            number, _, last = last.partition(".")
            return f"decode_head.linear_c.{3 - int(number)}.{last.replace('linear', 'proj')}"
        last = last.replace("0.", "linear_fuse.", 1).replace("1.", "batch_norm.", 1)
        return f"decode_head.{last}"
    name, _, rest = rest.partition(".")
    stage = int(name[-1]) - 1
    if name.startswith("patch_embed"):
        return f"segformer.encoder.patch_embeddings.{stage}." + rest.replace("norm", "layer_norm")
    if name.startswith("norm"):
        return f"segformer.encoder.layer_norm.{stage}.{rest}"
    block, _, rest = rest.partition(".")
    for ours, theirs in (("attn.q.", "attention.self.query."),
                         ("attn.key.", "attention.self.key."),
                         ("attn.value.", "attention.self.value."),
                         ("attn.sr.", "attention.self.sr."),
                         ("attn.norm.", "attention.self.layer_norm."),
                         ("attn.proj.", "attention.output.dense."), ("norm1.", "layer_norm_1."),
                         ("norm2.", "layer_norm_2."), ("fc1.", "dense1."), ("fc2.", "dense2.")):
        rest = rest.replace(ours, theirs)
    return f"segformer.encoder.block.{stage}.{block}.{rest}"


@pytest.mark.parametrize("file", hub.WEIGHTS)
@pytest.mark.parametrize("name", REFERENCES)
def test_parity(name: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    if name.endswith("b2") and file != "model.safetensors":
        pytest.skip("one file of the larger network says enough")
    told, weights = fill(name)
    snapshot = read_snapshot(write(tmp_path / "net", told["config"], weights, file))
    assert capsys.readouterr().out.count("taken for those of Cityscapes") == 1
    assert snapshot["dataset"] == {"name": "cityscapes", "guessed": True}
    assert snapshot["model"]["arch"] == f"segformer_{name[-2:]}"
    network = from_snapshot(snapshot).double()
    assert model.count_parameters(network) == told["param_count"]
    outputs = np.load(FIXTURES / f"{name}.npz")
    for i in (0, 1):
        height, width, seed = (int(n) for n in outputs[f"in{i}"])
        normalized = make_weights.image(height, width, seed).double()
        images = normalized * network.normalize.std + network.normalize.mean
        with torch.no_grad():
            logits = network(images, full_size=not name.startswith("hf"))
        stride = int(outputs[f"out{i}_stride"])
        assert logits.shape == tuple(outputs[f"out{i}_shape"])
        difference = logits[:, :, ::stride, ::stride].numpy() - outputs[f"out{i}"]
        assert np.abs(difference).max() <= 1e-5 * outputs[f"out{i}_stats"][2]
        assert (logits.argmax(1)[0].numpy() == outputs[f"out{i}_argmax"]).mean() >= 0.9999


def test_enlargement_is_the_package_s(tmp_path: Path) -> None:
    theirs = load_model(write(tmp_path / "hf", *small(19)))
    told, weights = fill("smp_hub_segformer_b0")
    ours = load_model(write(tmp_path / "smp", told["config"], weights))
    assert (theirs.align_corners, ours.align_corners) == (False, True)


def test_any_size_of_transformers_network(tmp_path: Path) -> None:
    config, weights = small(5, ["road", "tree", "car", "sky", "rest"])
    snapshot = read_snapshot(write(tmp_path / "net", config, weights))
    assert snapshot["model"]["arch"] == "segformer"
    network = from_snapshot(snapshot)
    assert network.encoder.block2[1].mlp.fc1.weight.shape == (32, 16)
    assert network(torch.zeros(1, 3, 50, 70, dtype=torch.uint8)).shape == (1, 5, 50, 70)
    described = dataset_of(snapshot)
    assert described["class_names"] == ["road", "tree", "car", "sky", "rest"]
    assert described["palette"][:3] == [[128, 0, 0], [0, 128, 0], [128, 128, 0]]


def test_names_of_cityscapes_are_cityscapes(tmp_path: Path) -> None:
    names = cityscapes_labels.TABLE.class_names
    described = dataset_of(read_snapshot(write(tmp_path / "net", *small(19, names))))
    assert described["name"] == "cityscapes"
    assert described["train_id_to_id"] == cityscapes_labels.TABLE.train_id_to_id


def test_classes_without_names_are_asked_for(tmp_path: Path) -> None:
    snapshot = read_snapshot(write(tmp_path / "net", *small(11)))
    with pytest.raises(ValueError, match="the 11 classes .* give --dataset NAME"):
        dataset_of(snapshot)
    assert dataset_of(snapshot, {"name": "camvid"})["class_names"][0] == "sky"
    with pytest.raises(ValueError, match="it has 19 classes, this network 11"):
        dataset_of(snapshot, {"name": "cityscapes"})


def test_pixels_are_normalized_as_the_files_beside_say(tmp_path: Path) -> None:
    config, weights = small(19)
    folder = write(tmp_path / "net", config, weights)
    assert load_model(folder).normalize.constants == (IMAGENET_MEAN, IMAGENET_STD)
    (folder / "preprocessor_config.json").write_text(json.dumps(
        {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.25, 0.5, 1.0], "do_resize": True}))
    assert load_model(folder).normalize.constants == ((127.5,) * 3, (63.75, 127.5, 255.0))
    file = folder / "albumentations_config_eval.json"
    file.write_text(json.dumps({"transform": {"transforms": [
        {"__class_fullname__": "Resize", "height": 1024},
        {"__class_fullname__": "Normalize", "mean": [123.675, 116.28, 103.53],
         "std": [58.395, 57.12, 57.375], "max_pixel_value": 1.0}]}}))
    assert load_model(folder).normalize.constants == (IMAGENET_MEAN, IMAGENET_STD)


def test_other_networks_of_the_package(tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    theirs = smp.Unet("resnet18", encoder_weights=None, classes=4, decoder_channels=(64, 32, 16, 16,
                                                                                    8)).eval()
    theirs.save_pretrained(str(tmp_path / "unet"))
    snapshot = read_snapshot(tmp_path / "unet")
    network = from_snapshot(snapshot)
    assert network.config["arch"] == "smp:unet:resnet18"
    images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        expected = theirs(network.normalize(images))
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
    assert snapshot["dataset"] == {"name": None}


@pytest.mark.parametrize(("change", "message"), [
    ({"model_type": "mask2former"}, "config.json: of mask2former; .* SegFormer .* are read"),
    ({"depths": None}, "config.json: not as its package writes it"),
    ({"patch_sizes": [3, 3, 3, 3]}, "patch_sizes .* is expected"),
    ({"depths": [1, 1, 1, 1]}, "do not fit the network"),
])
def test_refusals(change: dict, message: str, tmp_path: Path) -> None:
    config, weights = small(19)
    with pytest.raises(ValueError, match=message):
        load_model(write(tmp_path / "net", config | change, weights))


def test_folders_that_are_no_network(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty: a folder without best.pth .* and without config"):
        read_snapshot(tmp_path / "empty")
    config, weights = small(19)
    folder = write(tmp_path / "net", config, weights)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors or pytorch_model.bin"):
        read_snapshot(folder)
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{\"damaged")
    with pytest.raises(ValueError, match="model.safetensors: damaged"):
        read_snapshot(folder)
    (folder / "config.json").write_text("[1]")
    with pytest.raises(ValueError, match="config.json: holds no JSON object"):
        read_snapshot(folder)


def test_a_training_s_folder_stands_for_its_best(tmp_path: Path) -> None:
    network = model.build_model("sgcpnet", 3)
    torch.save({"format": 1, "model": network.config, "dataset": {"name": "folder"},
                "weights": network.state_dict()}, tmp_path / "best.pth")
    assert read_snapshot(tmp_path)["model"]["arch"] == "sgcpnet"


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hub on this machine that has one network, nvidia/tiny, and a cache for what it gives."""
    folder = write(tmp_path / "served", *small(19))

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.do_GET(body=False)

        def do_GET(self, body: bool = True) -> None:
            prefix = "/nvidia/tiny/resolve/main/"
            path = folder / self.path.removeprefix(prefix)
            there = self.path.startswith(prefix)
            content = path.read_bytes() if there and path.is_file() else b""
            self.send_response(200 if content else 404)
            if not content:
                self.send_header("X-Error-Code", "EntryNotFound" if there else "RepoNotFound")
            self.send_header("ETag", f'"{path.name}-{len(content)}"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
           "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1"}
    server.shutdown()


@pytest.mark.slow  # huggingface_hub tries for 24 s
def test_a_hub_that_is_not_reached(endpoint: dict, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    write_png(tmp_path / "street.png", np.full((64, 96, 3), 90, np.uint8))
    done = run_script("demo.py", "--demo-image", tmp_path / "street.png", "--snapshot",
                      "nvidia/new", cwd=tmp_path,
                      env=endpoint | {"HF_ENDPOINT": "http://127.0.0.1:9"})
    assert done.returncode == 2
    (error,) = done.stderr.strip().splitlines()
    assert error.startswith("error: nvidia/new: no such file or folder, and not found on the")


def test_a_name_of_the_hub_is_fetched_once(endpoint: dict, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    write_png(tmp_path / "street.png", np.full((64, 96, 3), 90, np.uint8))

    def demo(name: str, **environment: str):
        return run_script("demo.py", "--demo-image", tmp_path / "street.png", "--snapshot", name,
                          "--save-dir", tmp_path / "out", cwd=tmp_path, env=endpoint | environment)

    done = demo("nvidia/tiny")
    assert done.returncode == 0, done.stderr
    assert "taken for those of Cityscapes" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) >= 3
    assert demo("nvidia/tiny", HF_HUB_OFFLINE="1").returncode == 0  # out of the cache
    for name, environment in (("nvidia/other", {}), ("nvidia/new", {"HF_HUB_OFFLINE": "1"})):
        done = demo(name, **environment)
        assert done.returncode == 2
        error, = done.stderr.strip().splitlines()[-1:]
        assert error.startswith(f"error: {name}: no such file or folder, and not found on the")
    os.symlink(tmp_path / "served", tmp_path / "nvidia")
    done = demo("nvidia/..", HF_HUB_OFFLINE="1")  # a path that exists comes before a hub's name
    assert "not found on the model hub" not in done.stderr
