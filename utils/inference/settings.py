"""In which sizes and pieces a network sees an image: what the options ask for, without PyTorch."""

from dataclasses import dataclass

SMALLEST = 32  # pixels a side that every network takes
LARGEST = 16  # scale
AVERAGES = ("logits", "probabilities")


@dataclass(frozen=True)
class Inference:
    """In which sizes and pieces a network sees an image, and how its answers are averaged.

    Args:
        scales: factors on the image's size; sizes are rounded down.
        flip: each size also mirrored left to right.
        window: side in pixels of the squares that are seen one at a time, cut off by an image that
            is smaller; times the scale where that is above 1. None is the whole image.
        overlap: part of its side that a window shares with the next; the last one in a row may
            share more, since it is moved inward.
        average: of "logits" or "probabilities".
        batch: windows per forward.

    Raises ValueError: out of range.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    window: int | None = None
    overlap: float = 1 / 3
    average: str = "logits"
    batch: int = 1

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < scale <= LARGEST for scale in self.scales):
            raise ValueError(f"scales {self.scales}: numbers above 0 up to {LARGEST} are expected")
        if self.window is not None and self.window < SMALLEST:
            raise ValueError(f"window {self.window}: networks need at least {SMALLEST} pixels")
        if not 0 <= self.overlap < 1:
            raise ValueError(f"overlap {self.overlap}: a part of a window, 0 to below 1")
        if self.average not in AVERAGES or self.batch < 1:
            raise ValueError(f"average {self.average!r}, batch {self.batch}: expected are one of "
                             f"{AVERAGES}, at least 1")

    @property
    def plain(self) -> bool:
        """One forward of the image as it is, nothing to average."""
        return (self.scales, self.flip, self.window, self.average) == ((1,), False, None, "logits")
