"""Augmentation: stateless, paired, in the ranges that the options state."""

import cv2
import numpy as np
import pytest

from datasets.sampling.epoch_lists import AllImages
from datasets.sampling.sampler import TrainSampler
from datasets.transforms import (
    PADDING,
    EvalTransform,
    TrainTransform,
    color_jitter,
    cut,
)
from utils.images import resize_image
from utils.labels import IGNORE

PLAIN = {"flip": 0, "jitter": 0, "hue": 0, "blur": 0}


def picture(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Red is the row, green the column, blue and the label a function of both."""
    y, x = np.mgrid[:height, :width]
    image = np.stack([y, x, (y // 8 + x // 8) % 2 * 200], -1).astype(np.uint8)
    return image, ((y // 8 + x // 8) % 2).astype(np.uint8)


def test_same_key_same_result_other_key_other() -> None:
    image, ids = picture(100, 120)
    transform = TrainTransform((64, 64), seed=5)
    first, again = transform(image, ids, 2, 7), transform(image, ids, 2, 7)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for other in (transform(image, ids, 3, 7), transform(image, ids, 2, 8),
                  TrainTransform((64, 64), seed=6)(image, ids, 2, 7)):
        assert not np.array_equal(first[0], other[0])


def test_global_generators_are_not_touched() -> None:
    image, ids = picture(64, 64)
    np.random.seed(0)  # noqa: NPY002
    expected = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    TrainTransform((32, 32))(image, ids, 0, 0)
    assert np.random.random() == expected  # noqa: NPY002


def test_plain_crop_is_a_piece_of_the_image() -> None:
    image, ids = picture(100, 120)
    transform = TrainTransform((40, 50), scale=(1, 1), **PLAIN)
    for position in range(20):
        crop, label = transform(image, ids, 0, position)
        y, x = crop[0, 0, :2]
        assert np.array_equal(crop, image[y : y + 40, x : x + 50])
        assert np.array_equal(label, ids[y : y + 40, x : x + 50])


def test_crops_reach_every_corner() -> None:
    image, ids = picture(60, 70)
    transform = TrainTransform((40, 50), scale=(1, 1), **PLAIN)
    starts = np.array([transform(image, ids, 0, p)[0][0, 0, :2] for p in range(400)])
    assert starts.min(0).tolist() == [0, 0]
    assert starts.max(0).tolist() == [20, 20]


@pytest.mark.parametrize("size", [(20, 30), (10, 200), (200, 10)])
def test_small_images_are_padded(size: tuple[int, int]) -> None:
    image, ids = picture(*size)
    transform = TrainTransform((64, 64), scale=(1, 1), **PLAIN)
    for position in range(10):
        crop, label = transform(image, ids, 0, position)
        assert crop.shape == (64, 64, 3)
        padded = label == IGNORE
        assert (crop[padded] == PADDING).all()
        assert (~padded).sum() == min(64, size[0]) * min(64, size[1])


def test_scale_is_in_its_range() -> None:
    transform = TrainTransform((64, 64), scale=(0.5, 2.0))
    rng = np.random.default_rng(0)
    windows = [transform.draw_window(rng, (500, 500), None)[2] for _ in range(500)]
    assert 32 <= min(windows) <= 33
    assert 120 <= max(windows) <= 128


@pytest.mark.parametrize(("pre_size", "window"), [(None, 40), (200, 40), (100, 80), (400, 20)])
def test_the_longer_side_before_the_crop(pre_size: int | None, window: int) -> None:
    """Of an image of 100x200, and of one that is higher than wide."""
    transform = TrainTransform((40, 40), scale=(1, 1), pre_size=pre_size)
    for size in ((100, 200), (200, 100)):
        draw = transform.draw(size, 0, 0, None)
        assert draw.window[2:] == (window, window)


def test_crops_are_averaged_where_they_shrink() -> None:
    """Stripes of a pixel become gray at half the size, and stay stripes at double; labels stay."""
    stripes = np.tile(np.uint8([0, 200]), (8, 4))
    image, window = np.stack([stripes] * 3, axis=-1), (0, 0, 8, 8)
    assert (cut(image, window, (4, 4), PADDING) == 100).all()
    assert (cut(np.tile(np.uint8([[[0], [200], [200], [200]]]), (8, 2, 3)), window, (2, 2),
                PADDING) == 150).all(), "of all four, not of the two in the middle"
    double = cut(image, window, (16, 16), PADDING)
    assert double[0, :4, 0].tolist() == [0, 50, 150, 150]
    assert cut(stripes, window, (16, 16), IGNORE)[0, :4].tolist() == [0, 0, 200, 200]
    ids = np.arange(6, dtype=np.uint8)[None].repeat(6, axis=0)
    assert cut(ids, (0, 0, 6, 6), (2, 2), IGNORE)[0].tolist() == [1, 4], "the pixel in the middle"


def test_center_is_in_the_crop() -> None:
    transform = TrainTransform((40, 40), scale=(0.5, 2.0))
    rng = np.random.default_rng(0)
    for center in ((0, 0), (119, 99), (60, 50), (3, 97)):
        for _ in range(50):
            top, left, height, width = transform.draw_window(rng, (100, 120), center)
            assert left <= center[0] < left + width
            assert top <= center[1] < top + height


def test_image_and_label_are_resized_alike() -> None:
    """Where the checkerboard's blue is clear, the label agrees, at any scale."""
    image, ids = picture(160, 160)
    transform = TrainTransform((96, 96), scale=(0.5, 2.0), jitter=0, hue=0, blur=0)
    for position in range(30):
        crop, label = transform(image, ids, 0, position)
        blue = crop[..., 2].astype(int)
        clear = (label != IGNORE) & ((blue < 20) | (blue > 180))
        assert ((blue[clear] > 100) == (label[clear] == 1)).mean() > 0.98


def test_labels_are_never_mixed() -> None:
    ids = np.array([[0, 200], [200, 0]], np.uint8).repeat(20, 0).repeat(20, 1)
    label = cut(ids, (3, 5, 21, 17), (64, 64), IGNORE)
    assert set(np.unique(label)) == {0, 200}


def test_flip_mirrors_both() -> None:
    image, ids = picture(32, 32)
    always = TrainTransform((32, 32), scale=(1, 1), **{**PLAIN, "flip": 1})
    crop, label = always(image, ids, 0, 0)
    assert np.array_equal(crop, image[:, ::-1])
    assert np.array_equal(label, ids[:, ::-1])
    half = TrainTransform((32, 32), scale=(1, 1), **{**PLAIN, "flip": 0.5})
    flips = sum(half(image, ids, 0, p)[0][0, 0, 1] > 0 for p in range(200))
    assert 70 < flips < 130


@pytest.mark.parametrize(("option", "places"), [
    ("jitter", [0, 1, 2]), ("hue", [3]), ("blur", []),
])
def test_colors_change_and_labels_do_not(option: str, places: list[int]) -> None:
    """Each by its own draw and no other; a blur of some images."""
    image, ids = picture(64, 64)
    transform = TrainTransform((64, 64), scale=(1, 1), **{**PLAIN, option: 0.5})
    blurred = changed = 0
    for position in range(16):
        crop, label = transform(image, ids, 0, position)
        draw = transform.draw((64, 64), 0, position, None)
        assert np.flatnonzero(draw.change).tolist() == places
        expected = color_jitter(image, draw.change)
        if draw.sigma:
            expected = cv2.GaussianBlur(expected, (0, 0), draw.sigma)
            blurred += 1
        assert np.array_equal(crop, expected)
        changed += not np.array_equal(crop, image)
        assert np.array_equal(label, ids)
    assert (0 < blurred < 16) == (option == "blur")
    assert changed >= 3


def test_color_jitter_by_hand() -> None:
    gray = np.full((16, 16, 3), 100, np.uint8)
    assert (color_jitter(gray, np.array([0.2, 0, 0, 0])) == 120).all()
    assert np.abs(color_jitter(gray, np.array([0, 0, 0.9, 0.3])).astype(int) - 100).max() <= 1
    two = np.concatenate([np.full((8, 8, 3), 90, np.uint8), np.full((8, 8, 3), 110, np.uint8)])
    assert set(np.unique(color_jitter(two, np.array([0, 0.5, 0, 0])))) == {85, 115}
    color = np.full((8, 8, 3), (120, 100, 80), np.uint8)
    grayer = color_jitter(color, np.array([0, 0, -1.0, 0]))
    assert np.ptp(grayer[0, 0].astype(int)) <= 1


def test_contrast_keeps_the_mean_of_the_brighter_image() -> None:
    """Of 40 and 80 made half brighter, 60 and 120: they move away from 90."""
    two = np.concatenate([np.full((8, 8, 3), 40, np.uint8), np.full((8, 8, 3), 80, np.uint8)])
    changed = color_jitter(two, np.array([0.5, 0.5, 0, 0]))
    assert changed[[0, 8], 0].tolist() == [[45] * 3, [135] * 3]


@pytest.mark.parametrize(("saturation", "turns", "expected"), [
    (0, 0.25, (123, 98, 177)), (0, 0.5, (80, 130, 130)), (0, -0.25, (106, 131, 53)),
    (0, 1.0, (150, 100, 100)), (0.5, 0, (168, 93, 93)), (0.5, 0.5, (62, 137, 137)),
])
def test_a_color_turned_in_yiq(
    saturation: float, turns: float, expected: tuple[int, int, int]
) -> None:
    """(150, 100, 100) has Y 114.95, I 29.8 and Q 10.55; a quarter turn makes it I -10.55, Q 29.8.

    From there, R is Y + 0.956 I + 0.621 Q, G is Y - 0.272 I - 0.647 Q, B is Y - 1.106 I + 1.703 Q.
    """
    color = np.full((8, 8, 3), (150, 100, 100), np.uint8)
    turned = color_jitter(color, np.array([0, 0, saturation, turns]))
    assert np.abs(turned.astype(int) - expected).max() <= 1


def test_blurs_always_with_sigmas_in_range() -> None:
    low, high = 0.15, 1.3
    transform = TrainTransform((64, 64), blur=1)
    sigmas = [transform.draw((64, 64), 0, position, None).sigma for position in range(400)]
    assert low <= min(sigmas) < low + 0.02
    assert high - 0.02 < max(sigmas) <= high
    assert np.mean(sigmas) == pytest.approx((low + high) / 2, abs=0.05)


def test_hue_of_a_quarter_turn() -> None:
    """The published range: each of the four offsets is uniform from -0.25 to 0.25."""
    transform = TrainTransform((64, 64), jitter=0.25, hue=0.25)
    changes = np.array([transform.draw((64, 64), 0, p, None).change for p in range(2000)])
    assert (np.abs(changes) <= 0.25).all()
    np.testing.assert_allclose(changes.std(0), 0.5 / np.sqrt(12), rtol=0.05)
    np.testing.assert_allclose(changes.mean(0), 0, atol=0.02)


@pytest.mark.parametrize(("size", "expected"), [
    ((1, 2), [[40, 82]]),  # smaller: the mean of what a pixel covers
    ((1, 1), [[61]]),
    ((2, 8), [[0, 10, 30, 42, 46, 76, 132, 160], [60] * 8]),  # larger: between centers
    ((8,), [8, 4]), ((2,), [2, 1]), ((3,), [3, 2]),
])
def test_resized_by_hand(size: tuple[int, ...], expected: list) -> None:
    """Of 0 40 48 160 over 60 60 60 60, or its size alone where the longer side is given."""
    image = np.repeat(np.uint8([[0, 40, 48, 160], [60] * 4])[..., None], 3, axis=2)
    for turned in (False, True):
        given = size[::-1] if turned else size
        found = resize_image(image.transpose(1, 0, 2) if turned else image, given)
        found = found.transpose(1, 0, 2) if turned else found
        if len(size) == 1:
            assert found.shape[1::-1] == tuple(expected)
        else:
            np.testing.assert_array_equal(found[..., 1], expected)


def test_eval_transform() -> None:
    image, ids = picture(64, 64)
    same, label = EvalTransform(None)(image, ids)
    assert same is image
    small, label = EvalTransform((32, 48))(image, ids)
    assert small.shape == (32, 48, 3)
    assert label is ids


def test_the_label_of_an_eval_crop_has_only_its_own_ids() -> None:
    """Enlarged with its image, nearest; every pixel of the crop by hand."""
    ids = np.array([[7, 200], [30, 7]], np.uint8).repeat(10, 0).repeat(10, 1)
    image = np.stack([ids] * 3, axis=-1)
    pixels, label = EvalTransform((60, 60), crop=(40, 50))(image, ids)
    assert pixels.shape == (40, 50, 3)
    expected = np.array([[7, 200], [30, 7]], np.uint8).repeat(20, 0).repeat(25, 1)
    assert np.array_equal(label, expected)
    _, label = EvalTransform((30, 30), crop=(40, 40))(image, ids)
    assert set(np.unique(label)) == {7, 200, 30, IGNORE}
    assert (label != IGNORE).sum() == 30 * 30


def images(count: int) -> AllImages:
    return AllImages((count, count))


def keys(sampler: TrainSampler) -> list:
    return list(sampler)


def test_sampler_covers_an_epoch_once() -> None:
    sampler = TrainSampler(images(20), 2, (1, 1, 5))
    batches = keys(sampler)
    assert len(batches) == len(sampler) == 8
    for epoch in (0, 1):
        seen = [index for batch in batches for e, _, index, _ in batch if e == epoch]
        assert sorted(seen) == list(range(20))
    assert [k[2] for b in batches[:4] for k in b] != [k[2] for b in batches[4:] for k in b]


def test_seeds_have_orders_of_their_own() -> None:
    orders = [TrainSampler(images(50), 2, (1, 1, 5), seed=seed).order(1).tolist()
              for seed in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[1]) == list(range(50))


def test_sampler_drops_incomplete_batches() -> None:
    sampler = TrainSampler(images(23), 1, (1, 1, 5))
    assert sampler.offsets == [0, 4]
    assert len(keys(sampler)) == 4


@pytest.mark.parametrize("batch", [(1, 4, 2), (2, 2, 2), (4, 1, 2), (8, 1, 1)])
def test_positions_do_not_depend_on_ranks(batch: tuple[int, int, int]) -> None:
    """The same images with the same augmentation in each step, however it is split."""
    whole = keys(TrainSampler(images(50), 2, (1, 1, 8), seed=3))
    ranks = [keys(TrainSampler(images(50), 2, batch, rank, seed=3)) for rank in range(batch[1])]
    for step, expected in enumerate(whole):
        micro = range(step * batch[0], (step + 1) * batch[0])
        together = [key for m in micro for rank in ranks for key in rank[m]]
        assert together == expected


@pytest.mark.parametrize("start", [0, 1, 5, 6, 7, 11, 12])
def test_sampler_resumes_anywhere(start: int) -> None:
    whole = keys(TrainSampler(images(25), 2, (2, 1, 2)))
    resumed = TrainSampler(images(25), 2, (2, 1, 2))
    resumed.start_step = start
    assert keys(resumed) == whole[2 * start :]
    assert len(resumed) == len(whole) - 2 * start


@pytest.mark.parametrize(("max_steps", "offsets"), [
    (None, [0, 5, 10, 15]), (100, [0, 5, 10, 15]), (12, [0, 5, 10, 12]),
    (10, [0, 5, 10]), (3, [0, 3]),
])
def test_max_steps(max_steps: int | None, offsets: list[int]) -> None:
    sampler = TrainSampler(images(10), 3, (1, 1, 2), max_steps=max_steps)
    assert sampler.offsets == offsets
    assert len(keys(sampler)) == offsets[-1]


def test_sampler_refuses_too_few_images() -> None:
    with pytest.raises(ValueError, match="batch of 8 images, but only 7"):
        TrainSampler(images(7), 1, (2, 2, 2))
