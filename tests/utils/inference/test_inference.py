"""Averages over scales, mirror images and windows, against definitions and published numbers."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import make_weights
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import FIXTURES, ROOT
from PIL import Image
from torch import Tensor, nn

import model
from model.layers import IMAGENET_MEAN, IMAGENET_STD, Normalize, resize
from utils.images import resize_image
from utils.inference import multiscale, predictor
from utils.inference.label_map import best_class
from utils.inference.multiscale import as_input, mean_scores, starts
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference

REFERENCE = np.load(FIXTURES / "inference/sliding.npz")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Images are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Toy(nn.Module):
    """The convolution that the published numbers are of, and logits at `stride`."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
        self.toy = nn.Conv2d(3, 19, 3, padding=4, dilation=4)
        keys = [("toy.weight", (19, 3, 3, 3), "float32"), ("toy.bias", (19,), "float32")]
        self.load_state_dict(make_weights.fill(keys, int(REFERENCE["seed"])))
        self.stride = stride
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        self.seen.append(tuple(images.shape))
        logits = self.toy(self.normalize(images))
        coarse = F.avg_pool2d(logits, self.stride, ceil_mode=True)
        return self.upsample(coarse, images.shape[-2:]) if full_size else coarse

    def upsample(
        self, coarse: Tensor, size: tuple[int, int], rows: slice | None = None
    ) -> Tensor:
        return resize(coarse, size, rows=rows)


class Pointwise(Toy):
    """Whole numbers that depend on the color of a pixel alone."""

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        return torch.cat([images.float()[:, c % 3, None] * (c + 1) % 251 for c in range(19)], 1)


PHOTO = torch.from_numpy(make_weights.photo(300, 400, int(REFERENCE["seed"])))


def photo(height: int, width: int) -> Tensor:
    return PHOTO[:height, :width]


def pil_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return np.array(Image.fromarray(image).resize(size[::-1], Image.Resampling.BILINEAR))


@torch.inference_mode()
def scores(network: Toy, image: Tensor, size: tuple[int, int] | None = None, **how) -> Tensor:
    def forward(images: Tensor) -> Tensor:
        return network(images, full_size=False)

    size = size or tuple(image.shape[:2])
    return mean_scores(forward, network.upsample, image, size, Inference(**how))


@torch.inference_mode()
def defined(network: Toy, image: Tensor, size: tuple[int, int] | None = None, **how) -> Tensor:
    """What `scores` gives, by its definition: float64, everything at full size, means of lists."""
    settings, parts = Inference(**how), []
    height, width = image.shape[:2]
    for scale, mirrored in product(settings.scales, {False, settings.flip}):
        h, w = max(1, int(height * scale)), max(1, int(width * scale))
        seen = torch.from_numpy(resize_image(image.numpy(), (h, w)))
        images = as_input(seen.flip(1) if mirrored else seen)
        side = int((settings.window or 10**6) * max(scale, 1))
        total, count = torch.zeros(1, 19, *images.shape[-2:], dtype=torch.float64), 0.0
        for y, x in product(*(starts(n, side, settings.overlap) for n in images.shape[-2:])):
            tile = (..., slice(y, y + side), slice(x, x + side))
            answer = network(images[tile]).double()
            total[tile] += answer.softmax(1) if settings.average == "probabilities" else answer
            count = count + F.pad(torch.ones_like(answer[:, :1]), (
                x, images.shape[-1] - x - answer.shape[-1],
                y, images.shape[-2] - y - answer.shape[-2]))
        mean = (total / count)[..., :h, :w]
        mean = F.interpolate(mean, size or (height, width), mode="bilinear", align_corners=False)
        parts.append(mean[0].flip(-1) if mirrored else mean[0])
    return torch.stack(parts).mean(0)


@pytest.mark.parametrize(("scales", "flip", "name"), [
    ((0.5, 1, 2), True, "flip_mean"), ((0.5, 1, 2), False, "noflip_mean"),
    ((0.5,), True, "flip_scale0.5"), ((1,), True, "flip_scale1.0"), ((2,), True, "flip_scale2.0"),
])
def test_published_sliding_mode(
    scales: tuple, flip: bool, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, limit = REFERENCE["stride"], 1e-5 * REFERENCE[f"{name.partition('_')[0]}_abs_max"]
    monkeypatch.setattr(multiscale, "resize_image", pil_bilinear)  # as published
    found = scores(Toy(), photo(300, 400), scales=scales, flip=flip, window=128)
    assert np.abs(found[:, ::step, ::step].numpy() - REFERENCE[name]).max() <= limit
    if name == "flip_mean":
        assert (best_class(found).numpy() == REFERENCE["flip_argmax"]).mean() >= 0.999


def test_own_filter_is_close_to_the_published_one() -> None:
    found = scores(Toy(), photo(300, 400), scales=(0.5, 1, 2), flip=True, window=128)
    assert (best_class(found).numpy() == REFERENCE["flip_argmax"]).mean() >= 0.99


@pytest.mark.parametrize(("length", "side", "overlap", "expected"), [
    (2048, 1024, 1 / 3, [0, 683, 1024]), (4096, 2048, 1 / 3, [0, 1366, 2048]),
    (100, 50, 0, [0, 50]), (101, 50, 0, [0, 50, 51]), (40, 50, 0.5, [0]), (50, 50, 0.5, [0]),
    (36, 32, 0.99, [0, 1, 2, 3, 4]),
])
def test_window_positions(length: int, side: int, overlap: float, expected: list[int]) -> None:
    assert starts(length, side, overlap) == expected


CASES = [
    {"scales": (0.5, 1.0, 1.7), "flip": True, "window": 40},
    {"scales": (0.5, 1.0, 1.7), "flip": True, "window": 40, "average": "probabilities"},
    {"scales": (2.0,), "window": 33, "overlap": 0.55, "average": "probabilities"},
    {"scales": (0.3, 1.25), "flip": True},
    {"window": 32, "overlap": 0.0, "batch": 3},
    {"average": "probabilities"},
]


@pytest.mark.parametrize("how", CASES, ids=str)
@pytest.mark.parametrize("stride", [1, 4])
def test_definition(how: dict, stride: int) -> None:
    """Odd, portrait, smaller than a window, than the smallest input, and a single pixel."""
    network = Toy(stride=stride)
    for image, size in ((photo(53, 70), None), (photo(75, 45), (60, 31)), (photo(35, 36), None),
                        (photo(7, 100), None), (photo(1, 1), (2, 3))):
        found, expected = (f(network, image, size, **how) for f in (scores, defined))
        torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-5)


def test_groups_of_windows_and_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores of windows wait in at most the memory of the result; blocks of classes are as one."""
    image, how, groups, add = photo(90, 110), {"window": 40, "overlap": 0.5}, [], multiscale._add

    def spy(mean: Tensor, held: multiscale.Held, *rest: object) -> None:
        groups.append(sum(part.nbytes for _, part in held))
        add(mean, held, *rest)

    monkeypatch.setattr(multiscale, "_add", spy)
    coarse, fine = (scores(Toy(stride), image, **how) for stride in (4, 1))
    tile = 4 * 19 * 40 * 40
    assert groups == [20 * tile // 16, *[6 * tile] * 3, 2 * tile]  # six fit, 5 rows of 4 windows
    for block in (1, 30_000):
        monkeypatch.setattr(multiscale, "BLOCK", block)
        torch.testing.assert_close(scores(Toy(4), image, **how), coarse, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(scores(Toy(1), image, **how), fine, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(64, 160), (160, 64), (37, 101)])
def test_windows_are_invisible_without_context(size: tuple[int, int]) -> None:
    """Of a network that sees single pixels, every mean over windows is the logits themselves."""
    network, image = Pointwise(), photo(*size)
    whole = scores(network, image)
    assert torch.equal(whole, network(as_input(image))[0])
    for window, overlap in product((32, 45, 64, 200), (0, 1 / 3, 0.5, 0.8)):
        found = scores(network, image, window=window, overlap=overlap)
        counts = {len([s for s in starts(n, window, overlap) if s <= i < s + window])
                  for n in size for i in range(n)}
        if counts <= {1, 2, 4}:
            assert torch.equal(found, whole)  # such divisions are exact
        torch.testing.assert_close(found, whole, rtol=1e-6, atol=0)


@pytest.mark.parametrize("window", [None, 40])
def test_mirrored_image_gives_the_mirrored_answer(window: int | None) -> None:
    network, image = Toy(), photo(50, 77)
    for flip in (True, False):
        plain, mirrored = (
            scores(network, pixels, window=window, flip=flip) for pixels in (image, image.flip(1))
        )
        assert torch.allclose(plain, mirrored.flip(-1), rtol=1e-5, atol=1e-5) == flip


def test_probabilities_are_another_average() -> None:
    """A sure window outweighs by logits, not by probabilities."""
    network, image = Toy(), photo(90, 110)
    by_logits, by_probability = (
        scores(network, image, scales=(0.5, 1), window=40, average=average)
        for average in ("logits", "probabilities")
    )
    torch.testing.assert_close(by_probability.sum(0), torch.ones(90, 110))
    differ = best_class(by_logits) != best_class(by_probability)
    assert 0 < differ.float().mean() < 0.2


def test_batches_of_windows() -> None:
    network, image = Toy(), photo(80, 100)
    one, two, five = (scores(network, image, window=48, batch=batch) for batch in (1, 2, 5))
    assert [shape[0] for shape in network.seen] == [1] * 6 + [2] * 3 + [5, 1]
    torch.testing.assert_close(two, one)
    torch.testing.assert_close(five, one)


def test_nothing_asked_is_one_plain_forward() -> None:
    network, image = Toy(stride=4), photo(61, 83)
    found = Predictor(network)(image)
    assert network.seen == [(1, 3, 61, 83)]
    assert torch.equal(found, network(as_input(image)).argmax(1)[0].to(torch.uint8))
    assert torch.equal(found, best_class(scores(network, image)))


def test_scores_are_resized_with_their_pixels_as_squares() -> None:
    """Not from corner to corner: the first quarter of each half keeps its value."""
    found = predictor.resize(torch.tensor([[[[0.0, 8.0]]]]), (1, 4))
    assert found.flatten().tolist() == [0, 2, 6, 8]
    image, network = photo(40, 60), Toy(stride=4)
    logits = network(as_input(image))
    for size in ((60, 31), (20, 30)):
        expected = F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1)[0]
        assert torch.equal(Predictor(network)(image, size), expected.to(torch.uint8))


def test_best_class_is_the_first_of_equal_ones() -> None:
    equal = torch.randint(0, 3, (19, 300, 50)).float()
    assert torch.equal(best_class(equal), equal.argmax(0).to(torch.uint8))
    assert best_class(equal).dtype == torch.uint8


def test_table_after_averaging() -> None:
    network, image, how = Toy(), photo(40, 60), Inference((0.5, 1.0), flip=True)
    table = np.arange(255, -1, -1, dtype=np.uint8)
    found = Predictor(network, table=table, inference=how)(image, (20, 30))
    assert torch.equal(found, 255 - Predictor(network, inference=how)(image, (20, 30)))


@pytest.mark.parametrize("name", [  # one of each class of networks
    "deeplabv3_resnet18", "deeplabv3plus_resnet50", "deeplabv3plus_efficientnet_lite0", "sgcpnet",
    "cspsg_n", "segformer"])
def test_networks_upsample_each_class_by_itself(name: str) -> None:
    """Averaging takes classes apart to save memory."""
    with torch.device("meta"):
        network = model.build_model(name, 5)
        coarse_size = network(torch.empty(2, 3, 70, 100), full_size=False).shape[-2:]
    coarse = torch.randn(1, 5, *coarse_size)
    parts = [network.upsample(coarse[:, c : c + 1], (70, 100)) for c in range(5)]
    torch.testing.assert_close(torch.cat(parts, 1), network.upsample(coarse, (70, 100)))


MEMORY = """
import sys, torch
from benchmarks.multiscale import StandIn
from benchmarks.timing import resident
from utils.inference.predictor import Inference, Predictor
torch.set_num_threads(1)
image = torch.randint(0, 256, (512, 1024, 3), dtype=torch.uint8)
network = StandIn().eval()
for how in (Inference((0.5, 1, 2), True, 512),
            Inference((0.5, 1, 2), True, 512, average="probabilities")):
    predictor = Predictor(network, inference=how)
    predictor(image[:64, :64])
    start = resident("VmRSS")
    predictor(image)
    print(resident("VmHWM") - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_memory_is_bounded() -> None:
    """19 classes; a quarter of the pixels of Cityscapes, a quarter of 1.2 GB.

    The logits of all classes at scale 2 alone would be 160 MB, their sums in float64 320 MB.
    """
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits, probabilities = map(int, done.stdout.split())
    assert 40e6 < logits < 180e6
    assert 40e6 < probabilities < 300e6


def test_settings_are_checked() -> None:
    for wrong in ({"scales": ()}, {"batch": 0}, {"average": "votes"},
                  {"overlap": -0.1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Inference(**wrong)
