"""convert_checkpoint.py: the tensors of whole pickled networks, and nothing that runs."""

import json
import os
import re
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_script
from safetensors.torch import save_file
from test_checkpoint import Payload, rezipped, saved
from test_model import upstream_weights
from torch import nn

import model
from model.snapshot import from_snapshot, load_model
from utils import checkpoint
from utils.untrusted import load_inert, tensors_of


@pytest.fixture
def author(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, torch.Tensor]], nn.Module]:
    """Makes networks of a class that only the author of a checkpoint has."""
    module = types.ModuleType("models_of_the_author")
    monkeypatch.setitem(sys.modules, "models_of_the_author", module)

    class Part(nn.Module):
        __module__, __qualname__ = "models_of_the_author", "Part"

    module.Part = Part

    def make(weights: dict[str, torch.Tensor]) -> nn.Module:
        network = Part()
        network.names, network.act, network.stride = ["road"], nn.SiLU(), np.float32(4)
        for name, tensor in weights.items():
            *path, last = name.split(".")
            part = network
            for step in path:
                if step not in part._modules:
                    part.add_module(step, Part())
                part = part._modules[step]
            if last.startswith(("running", "num")):
                part.register_buffer(last, tensor)
            else:
                part.register_parameter(last, nn.Parameter(tensor, requires_grad=False))
        network.register_buffer("volatile", torch.zeros(1), persistent=False)
        return network

    return make


def test_whole_network(author, tmp_path: Path) -> None:
    """Without the author's classes: the command runs in a process that has none."""
    weights = upstream_weights("cspsg_yolov5n-4")
    source, target = tmp_path / "best.pt", tmp_path / "ours.pth"
    torch.save(author(weights), source)
    with pytest.raises(ValueError, match=r"python convert_checkpoint\.py .*best\.pt OUT\.pth"):
        checkpoint.read(source)
    done = run_script("convert_checkpoint.py", source, target)
    assert done.returncode == 0, done.stderr
    assert f"cspsg_n, cityscapes, {len(weights)} tensors" in done.stdout
    assert checkpoint.read(target)["dataset"]["class_names"][0] == "road"
    expected = from_snapshot(model.published.recognize(weights, "x.pth")).state_dict()
    ours = load_model(target).state_dict()
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_one_of_several(author, tmp_path: Path, call) -> None:
    first, second = {"a.weight": torch.rand(3, 2)}, {"a.weight": torch.rand(3, 2)}
    content = {"epoch": 7, "model": author(first), "ema": author(second), "opt": {"lr": 0.1}}
    torch.save(content, tmp_path / "x.pt")
    for key, weights in ((None, first), ("ema", second)):
        out = tmp_path / f"{key}.pth"
        words = ["--state-dict", *(["--key", key] if key else [])]
        done = call("convert_checkpoint.py", tmp_path / "x.pt", out, *words)
        assert done.returncode == 0, done.stderr
        assert (key or "also there: ema") in done.stdout
        assert torch.equal(checkpoint.read(out)["a.weight"], weights["a.weight"])
    done = call("convert_checkpoint.py", tmp_path / "x.pt", tmp_path / "y.pth", "--key", "net")
    assert done.returncode == 2
    assert "no network net, it has: model, ema" in done.stderr


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
def test_whole_network_of_an_old_torch(author, tmp_path: Path, call) -> None:
    source = tmp_path / "old.pt"
    torch.save(author({"a": torch.rand(2)}), source, _use_new_zipfile_serialization=False)
    done = call("convert_checkpoint.py", source, tmp_path / "new.pth")
    assert done.returncode == 2
    assert "old.pt: pickles a whole network as torch before 1.6 did; save its sta" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "new.pth").exists()


def test_views_half_precision_and_strides(tmp_path: Path) -> None:
    base = torch.arange(24, dtype=torch.bfloat16).reshape(4, 6)
    tensors = {"t": base.T, "row": base[2], "half": torch.rand(3).half(), "none": torch.empty(0, 4),
               "n": torch.tensor(5)}
    for legacy in (False, True):
        path = tmp_path / f"{legacy}.pth"
        torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
        content = load_inert(path)
        for name, tensor in tensors.items():
            assert content[name].dtype == tensor.dtype
            assert torch.equal(content[name], tensor), name


@pytest.mark.parametrize("content", [b"", b"1234"])
def test_tensors_stay_within_their_bytes(content: bytes, author, tmp_path: Path, call) -> None:
    source, target = tmp_path / "x.pt", tmp_path / "y.pth"
    whole = saved(author({"a": torch.rand(8)}))
    source.write_bytes(rezipped(whole, **{"0": content}))
    done = call("convert_checkpoint.py", source, target, "--state-dict")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert not target.exists()


def test_nothing_runs(author, tmp_path: Path, call) -> None:
    """Calls of any function give inert objects, whether they are known to be evil or not."""
    marker = tmp_path / "ran"
    harmless = author({"a": torch.rand(2)})
    harmless.extra = Payload(tempfile.mkdtemp, "", "ran", str(tmp_path))
    torch.save(harmless, tmp_path / "x.pt")
    assert dict(tensors_of(load_inert(tmp_path / "x.pt"), tmp_path / "x.pt")).keys() == {"a"}
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]
    harmless.extra = Payload(os.system, f"touch {marker}")
    torch.save(harmless, tmp_path / "y.pt")
    done = call("convert_checkpoint.py", tmp_path / "y.pt", tmp_path / "z.pth")
    assert done.returncode == 2
    assert "looks malicious" in done.stderr
    assert not marker.exists()
    assert not (tmp_path / "z.pth").exists()


@pytest.mark.parametrize(("content", "message"), [
    (None, "no such checkpoint"),
    (b"<html>", "a web page"),
    (b"cats\n", "cannot be read as a pickle of PyTorch"),
    ({"epoch": 3}, "no network, it has: none"),
    ({"strange.weight": torch.zeros(2)}, "--state-dict writes its tensors as they are"),
    ({"format": 1, "weights": {}}, "is one of train.py's already"),
])
def test_refusals(content: object, message: str, tmp_path: Path, call) -> None:
    source, target = tmp_path / "x.pt", tmp_path / "y.pth"
    if isinstance(content, bytes):
        source.write_bytes(content)
    elif content is not None:
        torch.save(content, source)
    done = call("convert_checkpoint.py", source, target)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not target.exists()


def test_nothing_is_overwritten(tmp_path: Path, call) -> None:
    (tmp_path / "y.pth").write_text("mine")
    done = call("convert_checkpoint.py", tmp_path / "x.pt", tmp_path / "y.pth")
    assert done.returncode == 2
    assert "exists" in done.stderr
    assert (tmp_path / "y.pth").read_text() == "mine"


@pytest.fixture
def best(tmp_path: Path) -> Path:
    """A training's best checkpoint."""
    network = model.build_model("sgcpnet", 3)
    args = {"data_root": "/home/me/data", "run_dir": "secret", "init": "/home/me/b0.pth",
            "teacher": r"C:\me\b5.pth", "lr": 0.1, "dataset": "folder"}
    folder = tmp_path / "run"
    folder.mkdir()
    checkpoint.write(folder / "best.pth", {
        "format": 1, "model": network.config, "weights": network.state_dict(), "step": 7,
        "dataset": {"name": "folder", "class_names": list("abc")}, "best": 0.5, "eval_size": 720,
        "optimizer": {}, "args": json.dumps(args)})
    return folder / "best.pth"


def scores_of(snapshot: Path, dataset: str = "folder") -> dict[str, object]:
    return {"snapshot": str(snapshot), "dataset": dataset, "split": "val", "images": 3,
            "settings": {"class_map": "/home/me/map.txt", "limit": None}, "pixelAccuracy": 0.9,
            "averageScoreClasses": 0.5, "classScores": {"a": 0.5}, "private": 1}


def test_half(best: Path, tmp_path: Path, call) -> None:
    target, results = tmp_path / "half.pth", tmp_path / "scores.json"
    results.write_text(json.dumps(scores_of(best)))
    done = call("convert_checkpoint.py", "--half", "--results", results, best.parent, target)
    assert done.returncode == 0, done.stderr
    assert f"{target}: sgcpnet, folder" in done.stdout
    whole, half = checkpoint.read(best), checkpoint.read(target)
    assert half.keys() == whole.keys() - {"optimizer"} | {"results"}
    for name, tensor in half["weights"].items():
        halved = tensor.is_floating_point() and "running_" not in name
        assert tensor.dtype == (torch.float16 if halved else whole["weights"][name].dtype)
        assert torch.equal(tensor, whole["weights"][name].to(tensor.dtype))
    assert json.loads(half["args"]) == {"init": "b0.pth", "teacher": "b5.pth", "lr": 0.1,
                                        "dataset": "folder"}
    told = json.loads(half["results"])
    assert told["settings"] == {"class_map": "map.txt", "limit": None}
    assert told["averageScoreClasses"] == 0.5
    assert "private" not in told
    assert load_model(target)(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).dtype == torch.float32


def test_what_half_precision_cannot_hold(best: Path, tmp_path: Path, call) -> None:
    content = checkpoint.read(best)
    content["weights"]["classifier.bias"][1] = -1e6
    checkpoint.write(best, content)
    done = call("convert_checkpoint.py", "--half", best, tmp_path / "half.pth")
    assert done.returncode == 2
    assert "best.pth: classifier.bias reaches 1e+06, half precision only 65504" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "half.pth").exists()


@pytest.mark.parametrize(("scores", "message"), [
    (scores_of(Path("run/best.pth"), "camvid"), "scores on camvid, .*best.pth is of folder"),
    (scores_of(Path("/home/me/other.pth")), "scores of /home/me/other.pth, not of .*best.pth"),
    (scores_of(Path(__file__)), "scores of .*, not of .*best.pth"),
])
def test_scores_of_something_else(
    scores: dict, message: str, best: Path, tmp_path: Path, call
) -> None:
    (tmp_path / "scores.json").write_text(json.dumps(scores))
    done = call("convert_checkpoint.py", "--half", "--results", tmp_path / "scores.json", best,
                tmp_path / "half.pth")
    assert done.returncode == 2
    assert re.search(message, done.stderr)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("words", [
    ("--half", "--key", "ema"), ("--half", "--state-dict"), ("--half", "--dataset", "camvid"),
    ("--results", "scores.json"),
])
def test_options_that_do_not_go_together(
    words: tuple[str, ...], best: Path, tmp_path: Path, call
) -> None:
    done = call("convert_checkpoint.py", *words, best, tmp_path / "half.pth")
    assert done.returncode == 2
    assert re.search(r"--(half: leave out|results: has no effect without --half)", done.stderr)
    assert not (tmp_path / "half.pth").exists()


@pytest.mark.parametrize("name", ["model.bin", "model.safetensors"])
def test_a_file_is_what_it_begins_with(name: str, tmp_path: Path) -> None:
    """Whatever its name ends in."""
    weights = {"a.weight": torch.rand(3, 2)}
    for write in (save_file, torch.save):
        write(weights, tmp_path / name)
        assert torch.equal(load_inert(tmp_path / name)["a.weight"], weights["a.weight"])
        assert torch.equal(checkpoint.read(tmp_path / name)["a.weight"], weights["a.weight"])
