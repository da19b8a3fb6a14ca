"""export.py: an ONNX file computes what the network does, and runs in the demo."""

import contextlib
import importlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_cityscapes, run_script
from test_prediction import with_statistics

import export
import model
from model import onnx_export
from model.snapshot import read_snapshot
from utils import checkpoint
from utils.images import read_label, write_png

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package)


def store(name: str, path: Path, eval_size: int | None = None) -> Path:
    """A checkpoint of a random network of that name, in which no class wins everywhere."""
    torch.manual_seed(0)
    network = with_statistics(model.build_model(name, 19))
    with torch.no_grad():
        images = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
        network.classifier.bias -= network(images, full_size=False).mean((0, 2, 3))
    checkpoint.write(path, {"format": checkpoint.FORMAT, "model": network.config,
                            "weights": network.state_dict(), "dataset": {"name": "cityscapes"},
                            "eval_size": eval_size})
    return path


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return store("cspsg_n", tmp_path_factory.mktemp("weights") / "x.pth")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i, size in enumerate(((50, 70), (96, 64))):
        write_png(folder / f"{i}.png", generator.integers(0, 256, (*size, 3), np.uint8))
    return folder


def words(snapshot: Path, photos: Path, output: Path) -> list[object]:
    return ["export.py", "--snapshot", snapshot, "--images", photos, "--output", output,
            "--threads", 1]


@pytest.fixture(scope="module")
def written(snapshot: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The snapshot as ONNX."""
    path = tmp_path_factory.mktemp("onnx") / "x.onnx"
    done = run_script(*words(snapshot, photos, path))
    assert done.returncode == 0, done.stderr
    assert "labels agree on 100.000 %" in done.stdout or "labels agree on 99.9" in done.stdout
    return path


@pytest.fixture
def write_again(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To export takes most of a test's time, and gives this."""
    monkeypatch.setattr(export, "write_onnx", lambda network, about, path, labels:
                        shutil.copy(written, path))


def masks_of(weights: Path, photos: Path, folder: Path, call) -> np.ndarray:
    """The demo's id mask."""
    done = call("demo.py", "--demo-image", photos / "0.png", "--snapshot", weights,
                "--save-dir", folder / weights.suffix, "--precision", "fp32", "--threads", 1)
    assert done.returncode == 0, done.stderr
    return read_label(folder / weights.suffix / "0_id_mask.png")


@pytest.mark.parametrize(("name", "options"), [
    ("tiny", ["--labels"]), pytest.param("cspsg_n", [], marks=pytest.mark.slow),
    pytest.param("cspsg_n", ["--labels"], marks=pytest.mark.slow),
    pytest.param("deeplabv3plus_efficientnet_lite0", ["--labels"], marks=pytest.mark.slow),
], ids=str)
def test_exported_network_in_the_demo(
    name: str, options: list[str], snapshot: Path, photos: Path, tmp_path: Path, call,
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(model.MODELS, "tiny", "tiny")
    if options:
        snapshot, output = store(name, tmp_path / "x.pth", 70), tmp_path / "x.onnx"
        done = call(*words(snapshot, photos, output), *options)
        assert done.returncode == 0, done.stderr
        assert "labels agree on 100.000 %" in done.stdout or "labels agree on 99.9" in done.stdout
        assert read_snapshot(output)["eval_size"] == 70
    else:
        output = request.getfixturevalue("written")
    masks = [masks_of(weights, photos, tmp_path, call) for weights in (snapshot, output)]
    assert (masks[0] == masks[1]).mean() > 0.999
    assert len(np.unique(masks[0])) > 1


def test_axes_are_named(written: Path) -> None:
    """Also of the logits, which are computed larger and cut."""
    graph = importlib.import_module("onnx").load(str(written)).graph
    axes = [[place.dim_param or place.dim_value for place in each.type.tensor_type.shape.dim]
            for each in (graph.input[0], graph.output[0])]
    assert axes == [["batch", 3, "height", "width"], ["batch", 19, "height", "width"]]


@pytest.mark.usefixtures("write_again")
def test_int8_says_what_it_costs(snapshot: Path, photos: Path, tmp_path: Path, call) -> None:
    output = tmp_path / "x.onnx"
    done = call(*words(snapshot, photos, output), "--int8")
    assert done.returncode == 0, done.stderr
    assert "int8: labels agree on" in done.stdout
    eight = onnx_export.ExportedNetwork(output)
    assert eight.config["arch"] == "cspsg_n"
    assert output.stat().st_size < 0.5 * snapshot.stat().st_size


@pytest.mark.usefixtures("write_again")
def test_what_computes_something_else_is_not_written(
    snapshot: Path, photos: Path, tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = export.Agreement(0.1, 0.9)
    monkeypatch.setattr(export, "compare", lambda *args: bad)
    done = call(*words(snapshot, photos, tmp_path / "x.onnx"))
    assert done.returncode != 0
    assert "computes something else" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ValueError, match="pip install onnx onnxscript onnxruntime"):
        onnx_export.ExportedNetwork("x.onnx")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("x.onnx", b"nonsense", "damaged, or no ONNX file"),
    ("missing.onnx", None, "no such checkpoint"),
])
def test_bad_onnx_files(
    name: str, content: bytes | None, message: str, photos: Path, tmp_path: Path, call
) -> None:
    if content:
        (tmp_path / name).write_bytes(content)
    done = call("demo.py", "--demo-image", photos / "0.png", "--snapshot", tmp_path / name)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("command", [
    ["train.py", "--init"], ["train.py", "--pretrained-encoder"],
    ["export.py", "--images", ".", "--output", "y.onnx", "--snapshot"],
    ["latency.py", "--snapshot"],
])
def test_where_weights_are_needed(
    command: list[object], photos: Path, tmp_path: Path, call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    monkeypatch.setenv("CITYSCAPES_DATASET", str(draw_cityscapes(tmp_path / "city", train=8)))
    (tmp_path / "x.onnx").write_bytes(b"anything")
    done = call(*command, tmp_path / "x.onnx")
    assert done.returncode == 2
    assert "an ONNX file only predicts" in done.stderr
    assert not (tmp_path / "y.onnx").exists()


def test_other_peoples_onnx_files(tmp_path: Path) -> None:
    onnx = importlib.import_module("onnx")
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1])
              for name in ("a", "b")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["a"], ["b"])], "x",
                                   values[:1], values[1:])
    content = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)],
                                     ir_version=10)
    onnx.save(content, str(tmp_path / "x.onnx"))
    with pytest.raises(ValueError, match="not written by export.py"):
        read_snapshot(tmp_path / "x.onnx")


@pytest.mark.parametrize(("change", "message"), [
    ({"--images": "missing"}, "no such folder"),
    ({"--output": "x.pb"}, "ends in .onnx"),
    ({"--snapshot": "missing.pth"}, "no such checkpoint"),
])
def test_refusals(
    change: dict[str, str], message: str, snapshot: Path, photos: Path, tmp_path: Path, call
) -> None:
    command = words(snapshot, photos, tmp_path / "x.onnx")
    for option, value in change.items():
        command[command.index(option) + 1] = value
    done = call(*command)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_size_of_the_training_is_kept(
    snapshot: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call
) -> None:
    checkpoint.write(tmp_path / "x.pth", checkpoint.read(snapshot) | {"eval_size": 60})
    seen = []
    monkeypatch.setattr(export, "write_onnx", lambda network, about, path, labels: seen.append(
        about["eval_size"]))
    monkeypatch.setattr(export, "ExportedNetwork", lambda path: None)
    monkeypatch.setattr(export, "compare", lambda network, exported, images: seen.extend(
        image.shape for image in images) or export.Agreement(1.0, 0.0))
    done = call(*words(tmp_path / "x.pth", photos, tmp_path / "x.onnx"))
    assert seen == [60, (1, 3, 43, 60), (1, 3, 60, 40)]
    assert "photos are seen with 60 pixels on their longer side" in done.stdout
    del seen[:]
    done = call(*words(tmp_path / "x.pth", photos, tmp_path / "x.onnx"), "--size", 32, 64)
    assert seen == [60, (1, 3, 32, 64), (1, 3, 32, 64)]
    assert "photos are seen" not in done.stdout


@pytest.mark.parametrize(("channels", "weight", "said"), [
    (3, 0.1, ""), (5, 0.1, "logits of shape (1, 5, 48, 64), it says that it has 3 classes"),
    (2, 0.1, "logits of shape (1, 2, 48, 64), it says that it has 3 classes"),
    (3, float("nan"), None), (3, 3e38, None),
])
def test_graphs_that_are_not_what_they_say(channels: int, weight: float, said: str | None,
                                           tmp_path: Path, call) -> None:
    from onnx import TensorProto, helper, save

    layers = [helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
              helper.make_node("Conv", ["x", "w"], ["logits"], kernel_shape=[1, 1])]
    kernel = helper.make_tensor("w", TensorProto.FLOAT, [channels, 3, 1, 1],
                                [weight * (1 + i) for i in range(3 * channels)])
    graph = helper.make_graph(
        layers, "g",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["N", 3, "H", "W"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", channels, "H", "W"])],
        [kernel])
    content = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    entry = content.metadata_props.add()
    entry.key, entry.value = onnx_export.KEY, json.dumps({
        "model": {"arch": "x", "num_classes": 3, "options": {}},
        "dataset": {"name": "folder", "class_names": ["a", "b", "c"], "train_id_to_id": [0, 1, 2],
                    "palette": [[0, 0, 1], [0, 0, 2], [0, 0, 3]]}})
    save(content, str(tmp_path / "x.onnx"))
    write_png(tmp_path / "x.png", np.full((48, 64, 3), 99, np.uint8))
    words = ["--demo-image", tmp_path / "x.png", "--snapshot", tmp_path / "x.onnx"]
    finite = contextlib.nullcontext() if said is not None else pytest.warns(
        UserWarning, match="logits that are not finite")
    with finite:
        done = call("demo.py", *words, "--save-dir", tmp_path / "out")
    assert done.returncode == (2 if said else 0), done.stderr
    assert (said or "") in done.stderr
