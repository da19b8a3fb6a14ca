"""Files that load, and are not what a training or an author writes: one line, and soon."""

import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT

from model import build_model
from model.onnx_export import KEY, ExportedNetwork
from model.snapshot import build_with_weights, from_snapshot, read_snapshot
from utils import checkpoint, stopping
from utils.images import write_png


def content() -> dict[str, Any]:
    network = build_model("cspsg_n", 3)
    return {"format": 1, "model": network.config, "weights": network.state_dict(), "step": 0,
            "dataset": {"name": "folder", "class_names": ["a", "b", "c"],
                        "palette": [[0, 0, 0]] * 3, "train_id_to_id": [7, 3, 200]}}


def replace(place: str, value: object) -> dict[str, Any]:
    """The content with another value at a place as "model.options"; no value takes it away."""
    whole = part = content()
    *outer, last = place.split(".", 2 if place.startswith("model.options.") else 1)
    for key in outer:
        part[key] = dict(part[key])
        part = part[key]
    if value is None:
        del part[last]
    else:
        part[last] = value
    return whole


FIRST = next(iter(content()["weights"]))
SPARSE = torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (4,))


@pytest.mark.parametrize(("place", "value"), [
    ("model", None), ("model", []), ("model.arch", 5), ("model.arch", None),
    ("model.num_classes", 10**8), ("model.num_classes", True), ("model.num_classes", "3"),
    ("model.options", None), ("model.options", []), ("dataset", 3), ("dataset.name", 5),
    ("dataset.class_names", ["a"] * 10**6), ("dataset.class_names", "abc"),
    ("dataset.class_map", {"a": 1}), ("dataset.holdout_fraction", 2.0), ("dataset.cv_split", 3),
    ("dataset.class_names", ["a" * 10**4, "b", "c"]), ("dataset.class_names", [1, 2, 3]),
    ("dataset.palette", [[0, 0, 0]] * 2), ("dataset.palette", [[0, 0, 300]] * 3),
    ("dataset", {"name": "folder", "palette": []}), ("model.num_classes", 5),
    ("model.num_classes", 2), ("dataset.bits", 9), ("dataset.bits", torch.zeros(2)),
    ("dataset.exif", "x"),
    ("dataset.palette", 5), ("dataset.train_id_to_id", [1, 2]),
    ("dataset.train_id_to_id", None), ("dataset.train_id_to_id", [1, 2, -3]),
    ("weights", None), ("weights", [1]), (f"weights.{FIRST}", 5), (f"weights.{FIRST}", SPARSE),
    (f"weights.{FIRST}", torch.empty(3, device="meta")),
    (f"weights.{FIRST}", torch.zeros(1).expand(10**9)),
    ("weights.a\nb", torch.zeros(1)), ("weights." + "a" * 2000, torch.zeros(1)),
    ("model.arch", "a\x1b"), ("model.arch", "a\n" * 10**6), ("dataset.name", "a\nb"),
    ("model.options.a\nb", 1), ("format", torch.zeros(2)), ("format", "a\n" * 10**6),
    ("eval_size", "big"), ("eval_size", 10**9), ("args", "{"), ("args", "[]"), ("args", 3),
])
def test_snapshots_that_load(place: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(replace(place, value), path)
    with pytest.raises(ValueError, match="x.pth: ") as refused:
        read_snapshot(path)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_what_libraries_say_of_a_file_is_one_short_line(tmp_path: Path) -> None:
    header = b'{"a":{"dtype":"' + b"F\x7f" * 1000 + b'","shape":[1],"data_offsets":[0,4]}}'
    (tmp_path / "x.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1234")
    with pytest.raises(ValueError, match="x.safetensors: damaged") as refused:
        read_snapshot(tmp_path / "x.safetensors")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("options", [{"width": 10**9}, {"mean": "x"}, {"mean": 5}])
def test_options_that_build_no_network(options: dict) -> None:
    """Before anything is allocated."""
    whole = content()
    whole["model"] = whole["model"] | {"options": whole["model"]["options"] | options}
    with pytest.raises(ValueError, match="option"):
        from_snapshot(whole)


def test_more_blocks_than_anybody_can_build() -> None:
    whole = content()
    parts = {"parts": {"depths": [10**9, 2, 2, 2]}}
    whole["model"] = whole["model"] | {"arch": "segformer", "options": parts}
    with pytest.raises(ValueError, match="1000000000 blocks in a stage; at most 1000"):
        from_snapshot(whole)


def test_a_larger_network_than_there_are_weights_of() -> None:
    whole = content()
    whole["model"] = whole["model"] | {"arch": "deeplabv3plus_wide_resnet38", "options": {}}
    with pytest.raises(ValueError, match="the weights do not fit the network"):
        from_snapshot(whole)


def test_weights_of_another_network_name_both(tmp_path: Path) -> None:
    """And a number of tensors that is not above that of all."""
    torch.save(content(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"x.pth is of cspsg_n, not of sgcpnet: ") as refused:
        build_with_weights("sgcpnet", 3, str(tmp_path / "x.pth"))
    wrong, everything = re.search(r"(\d+) of (\d+) tensors", str(refused.value)).groups()
    assert int(wrong) <= int(everything)


@pytest.mark.parametrize("kind", ["loop", "tree", "nameless"])
def test_pickled_networks_without_end(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable
) -> None:
    class Network:
        def __init__(self, parameters: dict, modules: dict) -> None:
            self._parameters, self._buffers, self._modules = parameters, {}, modules

    Network.__module__, Network.__qualname__ = "theirs", "Network"
    module: Any = types.ModuleType("theirs")
    module.Network = Network
    monkeypatch.setitem(sys.modules, "theirs", module)
    whole = Network({"w": torch.zeros(2)}, {})
    if kind == "tree":
        for _ in range(24):
            whole = Network({}, {"a": whole, "b": whole})
    else:
        whole._modules["self" if kind == "loop" else ""] = whole
    torch.save(whole, tmp_path / "x.pt")
    done = call("convert_checkpoint.py", tmp_path / "x.pt", tmp_path / "x.pth", "--state-dict")
    assert done.returncode == 2
    assert "x.pt: a network that contains itself, or of more than 20000 parts" in done.stderr


@pytest.mark.parametrize("stored", [
    "[]", "x", "{}", "[" * 10**5, json.dumps({"model": content()["model"]})])
def test_onnx_files_with_hostile_metadata(
    stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meta = SimpleNamespace(custom_metadata_map={KEY: stored})
    session = SimpleNamespace(get_modelmeta=lambda: meta)
    runtime = SimpleNamespace(SessionOptions=SimpleNamespace, get_available_providers=list,
                              InferenceSession=lambda *_: session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x.onnx: ") as refused:
        ExportedNetwork(tmp_path / "x.onnx")
    assert len(str(refused.value)) < 300


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path, call: Callable) -> None:
    """Of a file's name, a class, a tensor; an image without label."""
    whole, code = content(), "\x1b[31mX\n\x9b"
    whole["dataset"]["class_names"] = [code + name for name in "abc"]
    torch.save(whole, tmp_path / "classes.pth")
    torch.save({**whole, "weights": {**whole["weights"], code: torch.zeros(1)}},
               tmp_path / "tensor.pth")
    image = tmp_path / f"a{code}.png"
    write_png(image, np.zeros((32, 32, 3), np.uint8))
    for name, number in (("classes.pth", 0), ("tensor.pth", 2)):
        done = call("demo.py", "--demo-image", image, "--snapshot", tmp_path / name, "--save-dir",
                    tmp_path / "out")
        assert done.returncode == number, done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        assert "\x9b" not in done.stdout + done.stderr
        assert r"\x1b[31mX" in done.stdout + done.stderr


def test_streams_are_given_back(capsys: pytest.CaptureFixture) -> None:
    streams = sys.stdout, sys.stderr
    with pytest.raises(SystemExit):
        stopping.run(lambda: print("a\x1bb\x07", "ü\t汽"))
    assert (sys.stdout, sys.stderr) == streams
    assert capsys.readouterr().out == "a\\x1bb\\x07 ü\t汽\n"


def test_shipped_weights_are_as_they_should_be() -> None:
    for path in (ROOT / "weights").glob("*.pth"):
        checkpoint.check_format(checkpoint.read(path), path)
