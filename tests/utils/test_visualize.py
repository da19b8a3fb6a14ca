"""Pictures for people: the right color at the right pixel, and none where there is no class."""

import numpy as np
import pytest

from utils import pictures
from utils.pictures import (
    FALSE,
    MISSED,
    RIGHT,
    class_difference,
    colorize,
    difference,
    legend,
    overlay,
    side_by_side,
)

PALETTE = [(128, 64, 128), (0, 0, 0), (70, 130, 180)]  # black is a class color here
IMAGE = np.full((2, 3, 3), 100, np.uint8)


@pytest.mark.parametrize("palette", [PALETTE, np.array(PALETTE), np.array(PALETTE, np.uint8)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_colorize(dtype, palette):
    colors = colorize(np.array([[0, 1, 2], [255, 3, 0]], dtype), palette)
    assert colors.dtype == np.uint8
    black = (0, 0, 0)
    expected = [[PALETTE[0], PALETTE[1], PALETTE[2]], [black, black, PALETTE[0]]]
    np.testing.assert_array_equal(colors, expected)


def test_colorize_of_ids_beyond_a_byte_does_not_wrap():
    assert not colorize(np.array([[256, -1, -254, 1000]]), PALETTE).any()


def test_colorize_of_a_turned_map():
    ids = np.array([[0, 1, 2], [2, 2, 0]], np.uint8)
    np.testing.assert_array_equal(
        colorize(ids[::-1].T, PALETTE), colorize(ids, PALETTE)[::-1].swapaxes(0, 1)
    )


@pytest.mark.parametrize(("opacity", "road"), [(0, 100), (0.5, 114), (1, 128)])
def test_overlay_blends_classes_and_leaves_the_rest(opacity, road):
    image = IMAGE.copy()
    mixed = overlay(image, np.array([[0, 1, 255], [3, 0, 1]], np.uint8), PALETTE, opacity)
    assert mixed.dtype == np.uint8
    np.testing.assert_array_equal(mixed[..., 0][[0, 1], [0, 1]], road)
    np.testing.assert_array_equal(mixed[[0, 1], [1, 2]], 100 * (1 - opacity))  # a black class
    np.testing.assert_array_equal(mixed[[0, 1], [2, 0]], 100)  # no class
    np.testing.assert_array_equal(image, IMAGE)


def test_overlay_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(3, 2\)"):
        overlay(IMAGE, np.zeros((3, 2), np.uint8), PALETTE)
    with pytest.raises(ValueError, match="opacity 2"):
        overlay(IMAGE, np.zeros((2, 3), np.uint8), PALETTE, opacity=2)


def test_difference_shows_what_is_wrong():
    truth = np.array([[0, 2, 1, 255], [1, 0, 2, 1]], np.uint8)
    prediction = np.array([[0, 0, 2, 2], [0, 2, 2, 255]], np.uint8)
    white, black, (road, _, sky) = (255, 255, 255), (0, 0, 0), PALETTE
    np.testing.assert_array_equal(
        difference(prediction, truth, PALETTE, [False, True, False]),
        [[white, road, black, black], [black, sky, white, black]],
    )
    np.testing.assert_array_equal(
        class_difference(prediction, truth, 0, [False, True, False]),
        [[RIGHT, FALSE, black, black], [black, MISSED, white, black]],
    )


def test_side_by_side():
    row = side_by_side(IMAGE, IMAGE[:, :1] + 1, IMAGE, gap=2)
    assert row[0, :, 0].tolist() == [100] * 3 + [255] * 2 + [101] + [255] * 2 + [100] * 3
    assert row.shape == (2, 11, 3)
    np.testing.assert_array_equal(side_by_side(IMAGE), IMAGE)
    for unequal in ((), (IMAGE, IMAGE[:1])):
        with pytest.raises(ValueError, match="one height"):
            side_by_side(*unequal)


@pytest.mark.parametrize("height", [16, 50, 360, 1024])
@pytest.mark.parametrize("classes", [1, 19, 65])
def test_legend_shows_each_color_once_and_writes_beside_it(classes, height):
    palette = np.random.default_rng(0).permutation(250)[: 3 * classes].reshape(classes, -1)[:, :3]
    strip = legend([f"class {i}" for i in range(classes)], palette, height)
    assert strip.dtype == np.uint8
    assert strip.shape[0] == height
    for color in palette:
        rows, columns = np.nonzero((strip == color).all(2))
        area = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert len(rows) == area >= 100  # one solid swatch
        beside = strip[rows.min() : rows.max() + 1, columns.max() + 1 : columns.max() + 40]
        assert (beside.max(2) < 64).any()  # the name


def test_legend_makes_room_for_the_longest_name():
    widths = [legend(["a" * n], [(1, 2, 3)], 16).shape[1] for n in (1, 40)]
    assert widths[1] > 5 * widths[0]
    strip = legend(["a" * 40, "b"], [(1, 2, 3), (200, 0, 0)], 16)  # one row, two columns
    assert np.nonzero((strip == (200, 0, 0)).all(2))[1].min() >= widths[1]
    strip = legend(["Mauer — ü" * 5], [(1, 2, 3)], 20)
    assert (strip[:, -1] == 255).all()  # nothing is cut


def test_legend_refuses_what_does_not_fit():
    for names, colors, height in ((["a"], 3, 100), ([], 0, 100), (["a", "b", "c"], 3, 15)):
        with pytest.raises(ValueError, match="at least 16"):
            legend(names, PALETTE[:colors], height)


def test_letters_that_differ_look_different() -> None:
    """In a font that has them; ASCII is drawn in Pillow's own."""
    strips = [legend([name], [(0, 0, 0)], 32).tobytes() for name in ("éé", "üü", "ee", "uu", "ßß")]
    assert len(set(strips)) == len(strips) or pictures._find_font("é", 22.4) is None


def test_letters_without_a_font_are_spelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_find_font", lambda *_: None)
    names = {"sky": "sky", "Straße": "Strasse", "déjà": "deja", "Ørsted": "Orsted", "ŁÜ": "LU",
             "汽车": r"\u6c7d\u8f66"}
    assert {name: pictures.lettering(name, 20)[0] for name in names} == names
    assert not np.array_equal(legend(["汽"], [(0, 0, 0)], 32), legend(["道"], [(0, 0, 0)], 32))


@pytest.mark.parametrize(("found", "expected"), [({"A", "B"}, "A"), ({"B"}, "B"), (set(), None)])
def test_the_first_font_that_has_all_letters(
    found: set, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Drawn:
        def __init__(self, path: str) -> None:
            self.path = path

        def getmask(self, letter: str) -> bytes:
            return letter.encode() if self.path in found else b"box"

    def open_font(path: str, size: float) -> Drawn:
        if path == "none":
            raise OSError
        return Drawn(path)

    monkeypatch.setattr(pictures, "FONTS", ("none", "A", "B"))
    monkeypatch.setattr(pictures, "find_spec", lambda _: None)
    monkeypatch.setattr(pictures.ImageFont, "truetype", open_font)
    font = pictures._find_font.__wrapped__("éü", 20.0)
    assert getattr(font, "path", None) == expected
