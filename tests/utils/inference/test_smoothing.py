"""Labels of a video that hold still: averages along the motion, through every kind of inference."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import blobs, paint
from test_demo_folder import DATASET
from torch import Tensor, nn

import demo_folder
from model import build_model
from utils.images import write_png
from utils.inference import smoothing
from utils.inference.predictor import Predictor
from utils.inference.settings import Inference
from utils.inference.smoothing import Smoother, follow
from utils.pictures import Painter
from utils.video.reader import open_file

SIZE = 96, 128
SHIFT = 8  # pixels to the right that the camera moves between frames
CLASSES = 6


def clip(frames: int, shift: int = SHIFT) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images and labels of a camera that moves over a painted canvas."""
    rng = np.random.default_rng(3)
    canvas = blobs(rng, (SIZE[0], SIZE[1] + frames * shift), list(range(CLASSES)))
    painted = cv2.GaussianBlur(paint(rng, canvas), (0, 0), 1.5)
    windows = [slice(i * shift, i * shift + SIZE[1]) for i in range(frames)]
    return ([np.ascontiguousarray(painted[:, window]) for window in windows],
            [np.ascontiguousarray(canvas[:, window]) for window in windows])


def as_batch(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


class Cells(nn.Module):
    """The way of a network from cells to pixels: of some stride, aligned or padded."""

    def __init__(self, stride: int, aligned: bool, padding: int = 0) -> None:
        super().__init__()
        self.stride, self.aligned, self.padding = stride, aligned, padding

    def upsample(self, coarse: Tensor, size: Sequence[int]) -> Tensor:
        height, width = (side + self.padding for side in size)
        full = nn.functional.interpolate(coarse, (height, width), mode="bilinear",
                                         align_corners=self.aligned)
        return full[..., : size[0], : size[1]]

    def coarse(self, size: tuple[int, int]) -> tuple[int, int]:
        extra = int(self.aligned)
        return tuple((side + self.padding) // self.stride + extra for side in size)


@pytest.mark.parametrize("cells", [
    Cells(4, False), Cells(8, False), Cells(8, True), Cells(1, False), Cells(8, False, 32),
], ids=["4", "8", "aligned", "full", "padded"])
def test_scores_move_with_the_picture(cells: Cells) -> None:
    """A smooth pattern that is fixed to the scene is found where the scene moved to."""
    images, _ = clip(2)
    h, w = cells.coarse(SIZE)
    ramp = cells.upsample(torch.arange(w).float().expand(1, 1, h, w), SIZE)[0, 0, 0]
    pixels = torch.from_numpy(np.interp(np.arange(w), ramp.numpy(), np.arange(SIZE[1])))
    pattern = [torch.sin((pixels + i * SHIFT) / 15).float().expand(1, 2, h, w) for i in (0, 1)]
    smoother = Smoother(0.75)
    assert torch.equal(smoother(pattern[0], cells.upsample, as_batch(images[0])), pattern[0])
    found = smoother(torch.zeros_like(pattern[1]), cells.upsample, as_batch(images[1]))
    left, right = 16 // cells.stride, (SIZE[1] - SHIFT - 16) // cells.stride
    inner = slice(left, right)
    errors = (found - 0.75 * pattern[1])[0, :, h // 4 : h // 2, inner].abs()
    assert errors.median() < 0.02
    standing = (0.75 * (pattern[0] - pattern[1]))[0, :, h // 4 : h // 2, inner].abs()
    assert standing.median() > 0.15, "or not to move them would do"
    new = found[..., (SIZE[1] - SHIFT // 2) // cells.stride + 1 : SIZE[1] // cells.stride]
    assert (new == 0).all(), "what comes into view has no past"


def test_shares_of_cells_that_are_wider_than_high(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of 32x64 in 8x8 cells of 4x8 pixels; a cell's share is that of its own pixels.

    A cell's center lies between two pixels: its share is the mean of two squares, of which the
    cell below the edge has 1 and 0 of 4 rows trusted, the cell right of it 1 and 0 of 8 columns.
    """
    trusted, image = np.zeros((32, 64), bool), np.zeros((32, 64, 3), np.uint8)
    monkeypatch.setattr(smoothing, "follow", lambda *_: (np.zeros((32, 64, 2), np.float32),
                                                         trusted))
    monkeypatch.setattr(smoothing, "CUT", 0)

    def shares() -> np.ndarray:
        smoother = Smoother(0.5)
        for scores in (torch.ones(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)):
            found = smoother(scores, Cells(4, False).upsample, as_batch(image))
        return 2 * found[0, 0].numpy()

    trusted[:16] = True
    expected = np.repeat([1, 1, 1, 1, 1 / 8, 0, 0, 0], 8).reshape(8, 8)
    np.testing.assert_allclose(shares(), expected, atol=1e-5)
    trusted[:] = False
    trusted[:, :32] = True
    expected = np.tile([1, 1, 1, 1, 1 / 16, 0, 0, 0], (8, 1))
    np.testing.assert_allclose(shares(), expected, atol=1e-5)


def test_averages_reach_back_and_forget() -> None:
    """Of a scene at rest: an exponential average of all that was said."""
    image = clip(1)[0][0]
    smoother = Smoother(0.5)
    said = [torch.full((1, 2, 24, 32), value) for value in (8.0, 0.0, 4.0)]
    found = [smoother(scores, Cells(4, False).upsample, as_batch(image)) for scores in said]
    assert [scores[0, 0, 12, 16].item() for scores in found] == pytest.approx([8, 4, 4])
    cut = 255 - image  # another scene
    now = torch.full((1, 2, 24, 32), -3.0)
    found = smoother(now, Cells(4, False).upsample, as_batch(cut))
    assert (found == now).float().mean() > 0.8


@pytest.mark.parametrize(("size", "cells"), [((48, 64), (24, 32)), (SIZE, (12, 16))],
                         ids=["frames", "scores"])
def test_nothing_is_carried_to_another_size(size: tuple, cells: tuple) -> None:
    """Of the same scene; the motion between its frames would be trusted."""
    image = clip(1)[0][0]
    smoother, upsample = Smoother(0.5), Cells(4, False).upsample
    smoother(torch.ones(1, 2, 24, 32), upsample, as_batch(image))
    scores = torch.zeros(1, 2, *cells)
    other = as_batch(cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA))
    assert torch.equal(smoother(scores, upsample, other), scores)
    again = smoother(scores + 1, upsample, other)
    assert again.mean() < 0.6, "from there on it averages"


class Reader(nn.Module):
    """Its logits are the red and the green of cells of 4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        return nn.functional.avg_pool2d(images[:, :2].float(), 4)

    def upsample(
        self, coarse: Tensor, size: Sequence[int], rows: slice | None = None
    ) -> Tensor:
        full = nn.functional.interpolate(coarse, tuple(size), mode="bilinear")
        return full[..., rows or slice(None), :]


@pytest.mark.parametrize("inference", [Inference(), Inference(flip=True)], ids=["plain", "mean"])
@pytest.mark.parametrize("size", [None, (40, 128)], ids=["as it is", "of a size"])
def test_scores_lie_on_the_frame_that_comes_with_them(
    inference: Inference, size: tuple | None
) -> None:
    """Of frames that are lower than networks take, too: some scores are of padded ones."""
    image, seen = np.zeros((20, 64, 3), np.uint8), []
    image[..., 0] = 12 * np.arange(20)[:, None]

    def look(scores: Tensor, upsample: Callable, images: Tensor) -> Tensor:
        seen.append(upsample(scores, images.shape[-2:])[0, 0] - images[0, 0])
        return scores

    predictor = Predictor(Reader(), inference=inference, smoother=look)
    predictor(torch.from_numpy(image), size)
    assert seen[0].abs().max() < 2 * 12


def test_trust_and_large_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = clip(2)
    flow, trusted = follow(images[1], images[0])
    assert np.median(flow, axis=(0, 1)) == pytest.approx((SHIFT, 0), abs=0.1)
    assert not trusted[:, -SHIFT + 1 :].any()
    assert trusted[:, : -2 * SHIFT].mean() > 0.9
    monkeypatch.setattr(smoothing, "SEARCHED", 64)
    half, trusted = follow(images[1], images[0])
    assert half.shape == flow.shape
    assert np.median(half, axis=(0, 1)) == pytest.approx((SHIFT, 0), abs=0.5)
    flow, trusted = follow(images[1][:9], images[0][:9])  # too low to find motion in
    assert not trusted.any()
    assert not flow.any()


class Noisy(nn.Module):
    """Says of every pixel what it is, and every time some are wrong."""

    def __init__(self, labels: list[np.ndarray]) -> None:
        super().__init__()
        self.labels, self.count = labels, 0
        self.weight = nn.Parameter(torch.zeros(1))
        self.draw = torch.Generator().manual_seed(0)

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        truth = torch.from_numpy(self.labels[self.count // 2]).long()[None]
        self.count += 1
        logits = 2.0 * nn.functional.one_hot(truth, CLASSES).permute(0, 3, 1, 2)
        return logits + torch.randn(logits.shape, generator=self.draw)

    def upsample(
        self, coarse: Tensor, size: Sequence[int], rows: slice | None = None
    ) -> Tensor:
        full = nn.functional.interpolate(coarse, tuple(size), mode="bilinear")
        return full[..., rows or slice(None), :]


@pytest.mark.parametrize(("size", "inference"), [
    (None, Inference()), (SIZE, Inference()), (None, Inference(average="probabilities")),
], ids=["plain", "of a size", "averaged"])
def test_smoothed_predictions_are_better(size: tuple | None, inference: Inference) -> None:
    images, labels = clip(5, 2)
    right = []
    for smoother in (None, Smoother(0.7)):
        twice = [label for label in labels for _ in range(2)]
        network = Noisy([label for label in twice for _ in range(2)])
        predictor = Predictor(network, inference=inference, smoother=smoother)
        found = [predictor(torch.from_numpy(image), size).numpy() for image in images for _ in "ab"]
        right.append(np.mean([a == b for a, b in zip(found[4:], twice[4:], strict=True)]))
    assert right[1] > right[0] + 0.05


def test_nothing_is_carried_across_a_cut() -> None:
    rng = np.random.default_rng(0)
    smoother = Smoother(0.9)
    for _ in range(3):
        image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), SIZE[::-1])
        scores = torch.randn(1, CLASSES, *SIZE)
        found = smoother(scores, lambda coarse, size: coarse,
                         torch.from_numpy(image).permute(2, 0, 1)[None])
        assert torch.equal(found, scores)


def test_weight_zero_changes_nothing() -> None:
    torch.manual_seed(0)
    network = build_model("cspsg_n", CLASSES).eval()
    images, _ = clip(3)
    for image in images:
        once = Predictor(network).label_map(image)
        again = Predictor(network, smoother=Smoother(0)).label_map(image)
        assert torch.equal(once, again)


def test_demo_smooths_a_video(call: Callable, tmp_path: Path, monkeypatch) -> None:
    """A noisy network on a scene at rest: its masks flicker less."""
    images, labels = clip(1)
    for i in range(6):
        write_png(tmp_path / f"frames/{i}.png", images[0])
    monkeypatch.setattr(demo_folder, "read_network", lambda _: {})
    monkeypatch.setattr(demo_folder, "open_network", lambda *_: (
        Predictor(Noisy([labels[0]] * 3)), Painter(DATASET)))
    words = ["demo_folder.py", "--snapshot", "x", "--threads", 1, "--show", "mask"]
    changes = []
    for smooth in (0, 0.8):
        out = tmp_path / str(smooth)
        done = call(*words, "--video", tmp_path / "frames", "--save-dir", out, "--smooth", smooth)
        assert done.returncode == 0, done.stderr
        video = open_file(next(out.iterdir()))
        masks = np.stack([video.read(item) for item in video.items]).astype(int)
        changes.append(np.abs(np.diff(masks, axis=0)).mean())
    assert 0 < changes[1] < 0.8 * changes[0]
    for message, options in (
        ("--smooth: of a video", ["--demo-folder", tmp_path / "frames", "--smooth", 0.5]),
        ("'1' is not a number from 0, below 1", ["--video", tmp_path / "frames", "--smooth", 1]),
    ):
        done = call(*words[:-2], *options)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
