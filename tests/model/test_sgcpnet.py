"""SGCPNet: its published checkpoints, and those of its encoder."""

from pathlib import Path

import torch
from test_model import upstream_weights

from model.published import recognize
from model.snapshot import build_with_weights, from_snapshot, read_snapshot


def mobilenet_classifier() -> dict[str, torch.Tensor]:
    """An ImageNet file of SGCPNet's encoder, in its own words."""
    upstream, names = upstream_weights("sgcpnet_19"), {"l1.0": "conv1", "l1.1": "bn1"}
    places = ["l2", "l3.0", "l3.1", *(f"l4.{i}" for i in range(5)), *(f"l5.{i}" for i in range(3))]
    names |= {place: f"bneck.{i}" for i, place in enumerate(places)}
    weights = {
        f"module.{new}.{key.removeprefix(old + '.')}": tensor
        for old, new in names.items() for key, tensor in upstream.items()
        if key.startswith(f"{old}.")
    }
    rest = ("conv2.weight", "bn2.weight", "linear3.weight", "bn3.weight", "linear4.bias")
    return weights | {f"module.{key}": torch.zeros(1) for key in rest}


def test_published_mobilenet_fills_the_encoder_of_sgcpnet(tmp_path: Path) -> None:
    torch.save({"state_dict": mobilenet_classifier()}, tmp_path / "mbv3_small.pth.tar")
    network, notes = build_with_weights("sgcpnet", 7, encoder=tmp_path / "mbv3_small.pth.tar")
    whole = recognize(upstream_weights("sgcpnet_19"), "x.pth")["weights"]
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, whole[f"encoder.{name}"]), name
    assert f"{len(network.encoder.state_dict())} tensors" in notes[0]


def test_published_sgcpnet_in_its_wrapper(tmp_path: Path) -> None:
    weights = {f"module.{key}": tensor for key, tensor in upstream_weights("sgcpnet_11").items()}
    torch.save({"segmenter": weights, "epoch_start": 350}, tmp_path / "x.pth.tar")
    snapshot = read_snapshot(tmp_path / "x.pth.tar")
    assert snapshot["dataset"] == {"name": "camvid"}
    assert from_snapshot(snapshot).classifier.out_channels == 11
