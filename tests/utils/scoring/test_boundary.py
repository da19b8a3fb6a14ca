"""Boundary scores against their definitions, one mask at a time."""

import math

import numpy as np
import pytest
from conftest import blobs

from utils.scoring.counts import Scores, boundary_counts, near_boundary
from utils.scoring.summary import error_bands, summarize

LABELS = 5
SIZE = 37, 52


class Label:
    """A row of a class table; the last label is not scored."""

    category, has_instances, color = "", False, (0, 0, 0)

    def __init__(self, number: int) -> None:
        self.name, self.ignored = f"label {number}", number == LABELS - 1


def draw(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """(H, W) uint8 labels, some of them in several places, at the frame, and a pixel small."""
    return blobs(np.random.default_rng(seed), size, list(range(LABELS)))


def eroded(mask: np.ndarray, width: int, outside: bool) -> np.ndarray:
    """The mask after `width` erosions by 3x3; `outside` is what surrounds the image."""
    height, length = mask.shape
    for _ in range(width):
        padded = np.pad(mask, 1, constant_values=outside)
        mask = np.ones_like(mask)
        for dy in range(3):
            for dx in range(3):
                mask &= padded[dy : dy + height, dx : dx + length]
    return mask


def boundary(labels: np.ndarray, number: int, width: int) -> np.ndarray:
    """(H, W) bool: pixels of a label that `width` erosions take away."""
    mask = labels == number
    return mask & ~eroded(mask, width, outside=False)


@pytest.mark.parametrize("width", [1, 2, 5, 40])
@pytest.mark.parametrize("frame", [True, False])
@pytest.mark.parametrize("size", [SIZE, (1, 30), (30, 1), (2, 2)])
def test_near_a_boundary_is_what_erosion_takes(
    width: int, frame: bool, size: tuple[int, int]
) -> None:
    labels = draw(1, size) if min(size) > 2 else np.indices(size).sum(0).astype(np.uint8) // 9
    expected = np.zeros(size, bool)
    for number in np.unique(labels):
        mask = labels == number
        expected |= mask & ~eroded(mask, width, outside=not frame)
    assert (near_boundary(labels, width, frame) == expected).all()


def test_one_label_has_a_boundary_only_at_the_frame() -> None:
    labels = np.full((7, 9), 3, np.uint8)
    assert not near_boundary(labels, 2, frame=False).any()
    inner = np.zeros((7, 9), bool)
    inner[2:-2, 2:-2] = True
    assert (near_boundary(labels, 2, frame=True) == ~inner).all()


def counted(truth: np.ndarray, prediction: np.ndarray, ratio: float = 0.05) -> np.ndarray:
    scored = np.array([not Label(number).ignored for number in range(LABELS)])
    return boundary_counts(truth, prediction, scored, ratio, (1, 3, 5, 9))


@pytest.mark.parametrize("ratio", [0.001, 0.02, 0.08])
def test_boundary_iou_of_each_mask(ratio: float) -> None:
    """Cheng et al., equation 3: the masks' own pixels at most d from their contour."""
    truth, prediction = draw(1), draw(2)
    width = max(1, round(ratio * math.hypot(*SIZE)))
    counts = counted(truth, prediction, ratio)[0]
    valid = truth != LABELS - 1
    for number in range(LABELS):
        own, said = (boundary(labels, number, width) & valid for labels in (truth, prediction))
        assert counts[:, number].tolist() == [(own & said).sum(), (own | said).sum()]


@pytest.mark.parametrize(("size", "ratio", "width"), [
    ((30, 40), 0.055, 3),  # 2.75 pixels
    ((30, 40), 0.045, 2),  # 2.25
    ((30, 40), 0.001, 1),  # 0.05
    ((1024, 2048), 0.02, 46),  # 45.8, of Cityscapes
])
def test_width_of_the_boundary_by_hand(
    size: tuple[int, int], ratio: float, width: int
) -> None:
    """Of two halves side by side: all of each but a rectangle that is `width` from all sides."""
    height, length = size
    truth = np.zeros(size, np.uint8)
    truth[:, length // 2 :] = 1
    pixels = height * length // 2 - (height - 2 * width) * (length // 2 - 2 * width)
    assert counted(truth, truth, ratio)[0, :, :2].tolist() == [[pixels, pixels]] * 2


def test_trimap_iou_of_each_mask() -> None:
    truth, prediction = draw(1), draw(2)
    for row, width in zip(counted(truth, prediction)[1:], (1, 3, 5, 9), strict=True):
        masks = [truth == number for number in range(LABELS)]
        band = np.any([mask & ~eroded(mask, width, outside=True) for mask in masks], axis=0)
        band &= truth != LABELS - 1
        for number in range(LABELS):
            own, said = (truth == number) & band, (prediction == number) & band
            assert row[:, number].tolist() == [(own & said).sum(), (own | said).sum()]


def test_what_is_predicted_where_the_truth_is_ignored_does_not_count() -> None:
    truth, prediction = draw(1), draw(2)
    other = prediction.copy()
    # Far from the rest, where it moves no boundary of a counted pixel.
    hidden = eroded(truth == LABELS - 1, 3, outside=True)
    assert hidden.any()
    other[hidden] = 0
    before, after = counted(truth, prediction, 0.03), counted(truth, other, 0.03)
    assert (before == after).all()
    assert not before[:, 0, LABELS - 1].any()  # no intersection with an ignored label


def test_perfect_and_hopeless() -> None:
    truth = draw(1)
    perfect = counted(truth, truth)
    assert (perfect[:, 0] == perfect[:, 1]).all()
    assert perfect[0, 0].sum() > 0
    assert not counted(truth, ((truth + 1) % (LABELS - 1)).astype(np.uint8))[:, 0].any()


def test_errors_by_distance_from_boundaries() -> None:
    """Counted pixel by pixel over two images; the bands are within each other."""
    scores = Scores([Label(number) for number in range(LABELS)], ratio=0.02)
    expected = {name: [0, 0] for name in ("1", "3", "5", "9", "interior")}
    for i, pair in enumerate([(draw(1), draw(2)), (draw(3, (90, 120)), draw(4, (90, 120)))]):
        scores.add(i, scores.measure(*pair))
        truth, prediction = pair
        for name, row in expected.items():
            band = near_boundary(truth, 9 if name == "interior" else int(name), frame=False)
            band = (~band if name == "interior" else band) & (truth != LABELS - 1)
            row[0] += band.sum()
            row[1] += (band & (truth != prediction)).sum()
    found = error_bands(scores)
    assert found == {name: {"pixels": n, "wrong": wrong} for name, (n, wrong) in expected.items()}
    assert 0 < found["1"]["wrong"] < found["9"]["wrong"]
    assert found["interior"]["wrong"] > 0
    assert summarize(scores)["boundaryErrors"] == found
