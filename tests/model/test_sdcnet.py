"""SDCNet2D and SDCNet2DRecon: as published, and as they are trained here."""

import json
from pathlib import Path

import make_weights
import numpy as np
import pytest
import torch
from conftest import FIXTURES
from torch import Tensor

import model
from model import flow
from model.sdcnet import SDCNETS, SDCNet2D, SDCNet2DRecon, load_sdcnet, reconstruction_loss, warp
from model.snapshot import read_snapshot
from utils import checkpoint
from utils.video import flow as optical_flow

KINDS = {"nvidia_SDCNet2D": SDCNet2D, "nvidia_SDCNet2DRecon": SDCNet2DRecon}
LOSSES = {"color": "color", "color_gradient": "gradient", "flow_smoothness": "smoothness",
          "tot": "total"}


def upstream(name: str) -> tuple[dict, dict, dict[str, Tensor]]:
    """What the published network gave, and its state dict."""
    reference = json.loads((FIXTURES / f"{name}.json").read_text())
    weights = make_weights.fill([tuple(row) for row in reference["keys"]], reference["fill_seed"])
    weights["final_flow.weight"] *= reference["final_flow_weight_factor"]
    for key, values in reference["constant_buffers"].items():
        weights[key] = torch.tensor(values).view(1, -1, 1, 1)
    return reference, np.load(FIXTURES / f"{name}.npz"), weights


def clip(height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
    """(1, 3, 3, H, W) BGR frames and (1, 2, 2, H, W) flows that the published networks saw."""
    frames = [make_weights.photo(height, width, seed + t) for t in range(3)]
    flows = [3 * make_weights.normals(f"flow{i}", (2, height // 8, width // 8), seed)
             for i in range(2)]
    enlarged = np.repeat(np.repeat(np.stack(flows), 8, -2), 8, -1)
    return (torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)[None],
            torch.from_numpy(enlarged)[None])


def write_published(path: Path, weights: dict[str, Tensor]) -> Path:
    """A file as the project's training leaves it."""
    weights = {**weights, "flownet2.flownetc.conv1.0.weight": torch.zeros(1)}
    torch.save({"epoch": 400, "arch": "SDCNet2DRecon", "optimizer": {"state": {}},
                "state_dict": {f"module.{key}": tensor for key, tensor in weights.items()}}, path)
    return path


@pytest.mark.parametrize("name", KINDS)
def test_published_network(name: str, tmp_path: Path) -> None:
    """Displacement, warped frame and label, and losses; through a file, in RGB instead of BGR."""
    reference, expected, weights = upstream(name)
    network = load_sdcnet(write_published(tmp_path / "sdc.pth.tar", weights)).double()
    assert type(network) is KINDS[name]
    assert not network.training
    assert model.count_parameters(network) == reference["param_count"]
    bgr, flows = clip(*(int(n) for n in (*expected["hw"], expected["image_seed"])))
    rgb, count = bgr.flip(2), network.FRAMES
    vectors = network.displacement(rgb[:, :count], flows[:, : count - 1].double())
    stride = int(expected["stride"])
    close(vectors[..., ::stride, ::stride], expected["flow_prediction"])
    made = warp(rgb[:, 1].double(), vectors)
    close(made.flip(1)[..., ::stride, ::stride], expected["image_prediction"])
    flow = vectors[0].permute(1, 2, 0).float().numpy()
    label = optical_flow.warp(expected["label"], flow, nearest=True)  # as --upstream
    assert label.dtype == np.uint8
    assert (label == expected["label_prediction"]).mean() >= 0.999
    losses = reconstruction_loss(made, rgb[:, 2].double(), vectors)
    for theirs, ours in LOSSES.items():
        assert losses[ours].item() == pytest.approx(reference["losses"][theirs], rel=1e-5)


def close(values: Tensor, expected: np.ndarray) -> None:
    """Within 1e-6 of the largest."""
    assert np.abs(values.numpy() - expected).max() <= 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize(("name", "parameters", "frames", "source"), [
    ("sdcnet2d", 9_690_490, 2, -1), ("sdcnet2d_recon", 9_698_420, 3, -2),
])
def test_names_are_frozen(name: str, parameters: int, frames: int, source: int) -> None:
    """They are the published ones; constants are not among them."""
    with torch.device("meta"):
        network = SDCNETS[name]()
    published = json.loads((FIXTURES / "nvidia_SDCNet2D.json").read_text())["keys"]
    assert list(network.state_dict()) == [row[0] for row in published[3:]]
    assert model.count_parameters(network) == parameters
    sees, samples = network.FRAMES, network.SOURCE
    assert (sees, samples) == (frames, source)


@pytest.mark.parametrize("kind", SDCNETS.values())
def test_untrained_answers_with_the_last_flow(kind: type[SDCNet2D]) -> None:
    """Of any size, from whole numbers, and in half precision as exactly."""
    frames = torch.randint(0, 256, (2, kind.FRAMES, 3, 70, 33), dtype=torch.uint8)
    flows = 9 * torch.randn(2, kind.FRAMES - 1, 2, 70, 33)
    network = kind()
    torch.testing.assert_close(network.displacement(frames, flows), flows[:, -1])
    with torch.autocast("cpu", torch.bfloat16):
        vectors = network(frames, flows)
    torch.testing.assert_close(vectors, flows[:, -1])
    assert vectors.requires_grad
    assert not network.displacement(frames, flows).requires_grad


def test_other_sizes_are_mirrored_to_whole_cells() -> None:
    """Pictures and flow; what is mirrored moves the other way."""
    network = SDCNet2DRecon().double()
    torch.nn.init.normal_(network.final_flow.weight, std=0.1)
    frames, flows = 255 * torch.rand(1, 3, 3, 70, 100).double(), torch.randn(1, 2, 2, 70, 100)
    flows = flows.double()
    y = torch.tensor([*range(70), *range(68, 10, -1)])
    x = torch.tensor([*range(100), *range(98, 70, -1)])
    whole_frames, whole_flows = (part[..., y, :][..., x] for part in (frames, flows))
    whole_flows[:, :, 0, :, 100:] *= -1
    whole_flows[:, :, 1, 70:] *= -1
    expected = network.displacement(whole_frames, whole_flows)
    assert expected.shape == (1, 2, 128, 128)
    torch.testing.assert_close(network.displacement(frames, flows), expected[..., :70, :100])


def test_every_parameter_learns() -> None:
    network = SDCNet2DRecon()
    torch.nn.init.normal_(network.final_flow.weight, std=0.1)
    vectors = network(torch.rand(1, 3, 3, 64, 64) * 255, torch.randn(1, 2, 2, 64, 64))
    vectors.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize(("frames", "flows", "message"), [
    ((1, 2, 3, 64, 64), (1, 2, 2, 64, 64), r"takes \(1, 3, 3, 64, 64\)"),
    ((1, 3, 3, 64, 64), (1, 1, 2, 64, 64), r"and \(1, 2, 2, 64, 64\)"),
    ((1, 3, 3, 32, 64), (1, 2, 2, 32, 64), "at least 33 pixels"),
])
def test_wrong_inputs(frames: tuple, flows: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SDCNet2DRecon().displacement(torch.zeros(frames), torch.zeros(flows))


def test_warping_clamps() -> None:
    image = torch.arange(12.0).view(1, 1, 3, 4)
    moved = torch.zeros(1, 2, 3, 4)
    moved[0, 0], moved[0, 1] = 1.25, -7
    assert warp(image, moved)[0, 0].tolist() == [[1.25, 2.25, 3, 3]] * 3


def test_own_checkpoints(tmp_path: Path) -> None:
    network = SDCNet2D(flow_mean=(1.0, 2.0), flow_std=(3.0, 4.0))
    path = tmp_path / "best.pth"
    checkpoint.write(path, {"format": checkpoint.FORMAT, "model": network.config, "dataset": {},
                            "weights": network.state_dict()})
    again = load_sdcnet(path)
    assert again.config == network.config
    frames, flows = torch.rand(1, 2, 3, 64, 64) * 255, torch.randn(1, 1, 2, 64, 64)
    assert torch.equal(again.displacement(frames, flows), network.displacement(frames, flows))


def test_other_checkpoints(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    other = model.build_model("sgcpnet", 19)
    checkpoint.write(path, {"format": checkpoint.FORMAT, "model": other.config, "dataset": {},
                            "weights": other.state_dict()})
    with pytest.raises(ValueError, match="x.pth: a network sgcpnet; one of train_sdcnet.py"):
        load_sdcnet(path)
    torch.save(other.state_dict(), path)
    with pytest.raises(ValueError, match="not the tensors of an SDCNet"):
        load_sdcnet(path)
    _, _, weights = upstream("nvidia_SDCNet2D")
    del weights["conv3_1.0.bias"]
    with pytest.raises(ValueError, match="published SDCNet, but .*conv3_1.0.bias missing"):
        load_sdcnet(write_published(path, weights))
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_sdcnet(tmp_path / "nowhere.pth")


def test_it_is_no_network_for_labels(tmp_path: Path) -> None:
    network = SDCNet2DRecon()
    checkpoint.write(tmp_path / "best.pth", {"format": checkpoint.FORMAT, "model": network.config,
                                             "dataset": {}, "weights": {}})
    with pytest.raises(ValueError, match="a network sdcnet2d_recon, which labels no images"):
        read_snapshot(tmp_path / "best.pth")


def test_it_corrects_the_flow_it_was_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build_still(weights: None, device: torch.device) -> optical_flow.Motion:
        return lambda target, source, before: np.full((*target.shape[:2], 2), 3, np.float32)

    monkeypatch.setitem(flow.MOTIONS, "still", build_still)
    network = SDCNet2DRecon()
    for name, expected in (("still", 3), (None, 0)):
        dataset = {"motion": name} if name else {}
        checkpoint.write(tmp_path / "best.pth", {
            "format": checkpoint.FORMAT, "model": network.config, "dataset": dataset,
            "weights": network.state_dict()})
        motion = flow.MOTIONS["sdcnet"](str(tmp_path / "best.pth"), torch.device("cpu"))
        frame = make_weights.photo(64, 64, 0)
        for before in (lambda: make_weights.photo(64, 64, 0), None):
            assert motion(frame, frame, before) == pytest.approx(expected, abs=1e-2)


@pytest.mark.parametrize("kind", SDCNETS.values())
def test_it_sees_frames_in_the_order_of_time(
    kind: type[SDCNet2D], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before, the source and the target, and the flow from each to the one before it."""
    before, source, target = (np.full((40, 48, 3), value, np.uint8) for value in (10, 20, 30))
    network, seen = kind(), []

    def displacement(frames: Tensor, flows: Tensor) -> Tensor:
        seen.extend((frames[0, :, :, 0, 0].tolist(), flows[0, :, :, 0, 0].tolist()))
        return flows[:, -1] + 1

    def pair(target: np.ndarray, source: np.ndarray, before: None) -> np.ndarray:
        return np.full((*target.shape[:2], 2), (target[0, 0, 0], source[0, 0, 0]), np.float32)

    monkeypatch.setattr(network, "displacement", displacement)
    motion = flow.Reconstruction(network, pair, torch.device("cpu"))
    vectors = motion(target, source, lambda: before)
    assert seen[0] == [[10] * 3, [20] * 3, [30] * 3][: kind.FRAMES]
    assert seen[1] == [[20, 10], [30, 20]][: kind.FRAMES - 1]
    assert vectors.shape == (40, 48, 2)
    assert vectors[0, 0].tolist() == [value + 1 for value in seen[1][-1]]
