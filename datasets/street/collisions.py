"""Who would run into whom: rectangles on the ground that move."""

from collections.abc import Sequence

import numpy as np

from datasets.street.world import Thing

GAP = 0.1  # meters that must stay free between two
THIN = frozenset(("tree", "lamp", "gantry", "traffic light", "traffic sign"))  # at the ground
Poses = Sequence[tuple[float, float, float]]


def footprint(thing: Thing) -> tuple[float, float]:
    """Length along the heading and width, in meters, of what touches the ground."""
    return (0.3, 0.3) if thing.kind in THIN else (thing.size[0], thing.size[1])


class Crowd:
    """Everybody's way: a pose (x, y, heading) at each of T moments.

    Args:
        footprints: length and width of each.
        tracks: poses of each.
        now: the moment whose collisions are allowed, at any time, since they are there already.
    """

    def __init__(
        self, footprints: Sequence[tuple[float, float]], tracks: Sequence[Poses], now: int
    ) -> None:
        self.half = (np.array(footprints) + GAP) / 2
        self.tracks = np.array(tracks)  # (N, T, 3)
        self.now = now

    def move(self, members: Sequence[int], tracks: Sequence[Poses]) -> bool:
        """Gives members, who do not collide among themselves, new tracks if nobody is there."""
        others = np.setdiff1d(np.arange(len(self.half)), members)
        moved = np.array(tracks)
        if any(self._hits(k, track, others) for k, track in zip(members, moved, strict=True)):
            return False
        self.tracks[list(members)] = moved
        return True

    def _hits(self, k: int, track: np.ndarray, others: np.ndarray) -> bool:
        reach = np.hypot(*self.half[k]) + np.hypot(*self.half[others].T)
        apart = np.hypot(*(self.tracks[others, :, :2] - track[:, :2]).transpose(2, 0, 1))
        near = others[(apart < reach[:, None]).any(1)]
        hits = overlap(track[None], self.half[k][None], self.tracks[near], self.half[near])
        return bool(hits[~hits[:, self.now]].any())


def overlap(a: np.ndarray, half_a: np.ndarray, b: np.ndarray, half_b: np.ndarray) -> np.ndarray:
    """(N, T) whether rectangles overlap: no line of their four directions separates them.

    Args:
        a: (1 or N, T, 3) poses.
        half_a: (1 or N, 2) half of length and width.
        b: (N, T, 3) poses.
        half_b: (N, 2).
    """
    axes = [_axes(poses[..., 2]) for poses in (a, b)]
    shift = b[..., :2] - a[..., :2]
    apart = np.zeros(shift.shape[:2], bool)
    for axis in (*axes[0], *axes[1]):
        room = sum(half[:, side, None] * np.abs((own[side] * axis).sum(-1))
                   for half, own in ((half_a, axes[0]), (half_b, axes[1])) for side in (0, 1))
        apart |= np.abs((shift * axis).sum(-1)) > room
    return ~apart


def _axes(heading: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors (..., 2) along and across headings."""
    cos, sin = np.cos(heading), np.sin(heading)
    return np.stack((sin, cos), -1), np.stack((cos, -sin), -1)
