"""The fast way from images to labels computes what the plain way does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NETWORKS
from test_model import LIGHT, with_statistics
from torch import nn

import model
from model.fusion import fuse
from model.layers import resize
from model.snapshot import open_predictor
from utils.inference import label_map
from utils.inference.label_map import best_class, largest_between
from utils.inference.predictor import BLOCK, Predictor

BEHIND_SUMS = {"deeplabv3plus_wide_resnet38": 17}  # batch norms that no convolution precedes


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow) if "wide" in str(name) else name
    for name in NETWORKS])
@torch.no_grad()
def test_fused_networks_compute_the_same(name: str) -> None:
    torch.manual_seed(0)
    network = with_statistics(model.build_model(name, 5)).double()
    images = torch.rand(1, 3, 64, 96, dtype=torch.float64) * 255
    expected = network(images, full_size=False)
    fused = fuse(network)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
    assert left == BEHIND_SUMS.get(name, 0)
    found = fused(images, full_size=False)
    assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
    assert torch.equal(network(images, full_size=False), expected)  # which is left as it was


class Uses(nn.Module):
    """A convolution and a batch norm on its output, which something else may take too."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, images: torch.Tensor, full_size: bool = True) -> torch.Tensor:
        features = self.convolution(images.to(self.convolution.weight.dtype))
        if self.kind == "twice":
            features = self.convolution(features)
        result = self.norm(features)
        return result + features if self.kind == "shared" else result


@pytest.mark.parametrize(("kind", "norms"), [("alone", 0), ("shared", 1), ("twice", 1)])
@torch.no_grad()
def test_only_what_a_norm_alone_takes_is_fused(kind: str, norms: int) -> None:
    torch.manual_seed(0)
    network = with_statistics(Uses(kind)).double()
    images = torch.rand(1, 3, 8, 8, dtype=torch.float64)
    fused = fuse(network)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == norms
    torch.testing.assert_close(fused(images), network(images))


class Activated(nn.Module):
    """A batch norm whose output an activation takes, and something else, or nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.convolution, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.activation = nn.Hardswish()

    def forward(self, images: torch.Tensor, full_size: bool = True) -> torch.Tensor:
        features = self.norm(self.convolution(images.to(self.convolution.weight.dtype)))
        if self.kind == "image":
            return self.activation(images.double()) + self.activation(features)[:, :3]
        if self.kind == "part":
            return self.activation(features[:, :2]) + features[:, 1:3]
        if self.kind == "named":
            return self.activation(input=features)
        result = self.activation(features)
        return result + features if self.kind == "shared" else result


@pytest.mark.parametrize(("kind", "in_place"), [("alone", True), ("shared", False),
                                                ("image", False), ("part", False),
                                                ("named", False)])
@torch.no_grad()
def test_only_what_an_activation_alone_takes_is_overwritten(kind: str, in_place: bool) -> None:
    torch.manual_seed(0)
    network = with_statistics(Activated(kind)).double()
    images = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    fused, before = fuse(network), images.clone()
    assert fused.activation.inplace is in_place
    assert not network.activation.inplace
    torch.testing.assert_close(fused(images), network(images))
    assert torch.equal(images, before)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("coarse", "size"), [((5, 7), (40, 56)), ((5, 7), (37, 50)),
                                              ((9, 4), (9, 31)), ((1, 3), (20, 20))])
def test_rows_of_an_enlargement(
    coarse: tuple[int, int], size: tuple[int, int], align_corners: bool
) -> None:
    features = torch.randn(2, 3, *coarse)
    whole = resize(features, size, align_corners)
    for rows in (slice(0, 4), slice(3, 9), slice(size[0] - 5, size[0])):
        part = resize(features, size, align_corners, rows)
        torch.testing.assert_close(part, whole[:, :, rows], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 19, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_first_of_the_largest(
    channels: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where several are equal, and in more rows than are judged at a time."""
    monkeypatch.setitem(label_map.PART, "cpu", 1000)
    scores = torch.randint(-2, 3, (channels, 37, 21), generator=torch.Generator().manual_seed(0))
    found = best_class(scores.to(dtype))
    assert found.dtype == torch.uint8
    assert np.array_equal(found.numpy(), scores.numpy().argmax(0))


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (90, 70)])
def test_labels_between_coarse_logits(side: int, shape: tuple[int, int]) -> None:
    """Of noise, whose cells are all mixed and more than one chunk, and of smooth surfaces."""
    generator = torch.Generator().manual_seed(2)
    noise = torch.randn(7, *shape, generator=generator, dtype=torch.float64)
    smooth = resize(torch.randn(1, 7, 3, 3, generator=generator, dtype=torch.float64), shape)[0]
    flat = torch.arange(7.0).view(7, 1, 1).expand(7, *shape)
    for coarse in (noise, smooth, flat):
        size = [side * n for n in shape]
        expected = best_class(resize(coarse[None], size)[0])
        assert torch.equal(largest_between(coarse, side), expected)


def test_cells_are_those_of_the_enlargement() -> None:
    for name, side, size in (("sgcpnet", 8, (64, 96)), ("cspsg_n", 4, (50, 70))):
        network = with_statistics(model.build_model(name, 6))
        images = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            coarse = network(images, full_size=False)
            assert network.cell_side(coarse, size) == side
            full = network.upsample(coarse, size)
        whole = resize(coarse, [side * n for n in coarse.shape[-2:]])
        assert torch.equal(full, whole[:, :, : size[0], : size[1]])
    coarse = torch.empty(1, 6, 7, 9)
    assert model.build_model("sgcpnet", 6).cell_side(coarse, (50, 70)) is None


@pytest.mark.parametrize("name", LIGHT)
@torch.no_grad()
def test_labels_by_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal to the largest of the full-size logits, also where an image is small."""
    torch.manual_seed(1)
    network = with_statistics(model.build_model(name, 6))
    for size in ((96, 70), (33, 47), (20, 40)):
        image = torch.randint(0, 256, (*size, 3), dtype=torch.uint8)
        padded = nn.functional.pad(image.permute(2, 0, 1)[None].float(),
                                   (0, max(0, 32 - size[1]), 0, max(0, 32 - size[0])),
                                   mode="replicate")
        expected = best_class(network(padded)[0])[: size[0], : size[1]]
        for values in (1, 5000, 1 << 20):  # rows a time: one, some, all
            monkeypatch.setitem(BLOCK, "cpu", values)
            found = Predictor(network)(image)
            assert (found == expected).double().mean() > 0.999


def test_batches_are_image_by_image() -> None:
    network = with_statistics(model.build_model("sgcpnet", 6))
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 3, 40, 64), np.uint8))
    maps = Predictor(network).label_maps(images)
    assert maps.shape == (3, 40, 64)
    for image, labels in zip(images, maps, strict=True):
        assert (Predictor(network)(image.permute(1, 2, 0)) == labels).double().mean() > 0.999


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "alike"), [("fp32", 0.999), ("bf16", 0.97)])
def test_compiled_networks_find_the_same_labels(
    precision: str, alike: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    torch.manual_seed(0)
    network = with_statistics(model.build_model("sgcpnet", 6)).eval()
    images = [torch.randint(0, 256, (*size, 3), dtype=torch.uint8) for size in ((64, 96), (50, 70))]
    with torch.no_grad():  # so that no class is the largest everywhere
        logits = network(images[0].permute(2, 0, 1)[None])
        next(each for each in network.modules() if getattr(each, "out_channels", 0) == 6
             ).bias -= logits.mean((0, 2, 3))
    snapshot = {"model": network.config, "weights": network.state_dict()}
    plain, compiled, again = (open_predictor(snapshot, "cpu", precision, compiled=how)
                              for how in (False, True, True))
    for image in images:  # the second is compiled anew
        assert len(plain(image).unique()) > 1
        assert (plain(image) == compiled(image)).double().mean() > alike
    files = {path: path.stat().st_ino for path in tmp_path.rglob("*.pt2")}
    assert len(files) == 2
    assert again(images[0]).equal(compiled(images[0]))  # as it is kept
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*.pt2")} == files


@pytest.mark.parametrize("pixels", [
    np.random.default_rng(0).random((40, 48, 3), np.float32), np.zeros((3, 40, 48), np.uint8),
    np.zeros((40, 48), np.uint8), np.zeros((40, 48, 3), np.int64),
])
@pytest.mark.parametrize("seen", [None, (64, 64)])
def test_pixels_of_another_kind_are_refused(pixels: np.ndarray, seen: tuple | None) -> None:
    """Floats in 0..1 would be seen as black, and all of it be one class."""
    predictor = Predictor(model.build_model("sgcpnet", 3).eval())
    if seen and (pixels.dtype == np.int64 or pixels.shape != (40, 48, 3)):
        return  # cannot be resized
    with pytest.raises(ValueError, match=r"expected uint8 \(H, W, 3\), RGB in 0..255"):
        predictor.label_map(pixels, seen)
