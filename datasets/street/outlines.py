"""Polygons from which `datasets.polygons` draws a label map again, pixel for pixel.

Every region of touching pixels (8 neighbors) becomes one walk over the centers of its outermost
pixels, in steps to one of the 8 neighbors, so that no rounding decides what it covers. Its holes
are part of the walk, which gets there and back on one line through the region.

An object of a class with instances is one instance, so the regions of a partly hidden one are
joined by straight lines over what hides it. Instances come first in the file, therefore, and the
rest repaints the lines; where they run over another instance, that one comes later. Regions that no
line of the eight directions can reach that way become a group: of a class, but of no instance. In a
drawn street, these are less than 0.5 % of the pixels of instances.
"""

from collections.abc import Mapping

import cv2
import numpy as np

Walk = np.ndarray  # (N, 2) int32, closed: x and y of pixels
FIRST = 1000  # the smallest instance id; below are the ids of classes


def class_of(value: int) -> int:
    """The id of an instance id's class."""
    return value // FIRST if value >= FIRST else value


def trace_objects(instance_ids: np.ndarray, names: Mapping[int, str]) -> list[dict]:
    """The `objects` of a polygons file.

    Args:
        instance_ids: (H, W) uint16, 1000 * id + n or a bare id, as of Cityscapes.
        names: of the ids.
    """
    parts = _cut_out(instance_ids)
    walks = {value: _trace(mask, corner) for value, (mask, corner) in parts.items()}
    objects = []
    drawn = np.zeros(instance_ids.shape, bool)
    # Who would lose most goes first, while nothing is in the way.
    instances = [value for value in walks if value >= FIRST]
    for value in sorted(instances, key=lambda value: -_apart(walks[value])):
        whole, *rest = _join_regions(walks[value], drawn)
        name = names[class_of(value)]
        objects.append(_object(name, whole))
        objects += [_object(f"{name}group", walk) for walk in rest]
        mask, (x, y) = parts[value]
        drawn[y : y + mask.shape[0], x : x + mask.shape[1]] |= mask
    for value in sorted(walks.keys() - instances):
        objects += [_object(names[value], walk) for walk in walks[value]]
    return objects


def _cut_out(ids: np.ndarray) -> dict[int, tuple[np.ndarray, tuple[int, int]]]:
    """Each value's mask in its box, and x and y of the box; by value, ascending."""
    parts = {}
    for value in np.flatnonzero(np.bincount(ids.ravel())).tolist():
        mask = ids == value
        x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
        parts[value] = mask[y : y + height, x : x + width].copy(), (x, y)
    return parts


def _trace(mask: np.ndarray, corner: tuple[int, int]) -> list[Walk]:
    """The walk around each region of a mask whose upper left pixel is at `corner`."""
    contours, tree = cv2.findContours(mask.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    walks = []
    for contour, (_, _, child, parent) in zip(contours, tree[0].tolist(), strict=True):
        if parent >= 0:
            continue
        walk = contour[:, 0]
        holes = []
        while child >= 0:
            holes.append(contours[child][:, 0])
            child = tree[0, child, 0]
        # From the top of a hole, one comes upwards to a border that is higher: joined before.
        for hole in sorted(holes, key=lambda hole: hole[:, 1].min()):
            top = int(hole[:, 1].argmin())
            x, y = hole[top].tolist()
            above = mask[y::-1, x]
            rise = len(above) if above.all() else int(above.argmin())
            walk = _join(walk, np.array((x, y - rise + 1)), hole, hole[top])
        walks.append(walk + np.array(corner, np.int32))
    return walks


def _join(walk: Walk, start: np.ndarray, other: Walk, end: np.ndarray) -> Walk:
    """The walk that at `start` leaves for `end`, goes all around the other one and comes back."""
    i, j = (int((w == point).all(1).argmax()) for w, point in ((walk, start), (other, end)))
    return np.concatenate((walk[: i + 1], other[j:], other[: j + 1], walk[i:]))


def _join_regions(walks: list[Walk], drawn: np.ndarray) -> list[Walk]:
    """One walk around the regions that lines outside `drawn` can join, then those left; by size."""
    points = np.concatenate(walks)
    owner = np.repeat(np.arange(len(walks)), [len(walk) for walk in walks])
    joined = dict(enumerate(walks))
    for k, m in _facing(points, owner):
        a, b = owner[k], owner[m]
        if a == b or drawn[tuple(_line(points[k], points[m]).T[::-1])].any():
            continue
        joined[a] = _join(joined[a], points[k], joined.pop(b), points[m])
        owner[owner == b] = a
        if len(joined) == 1:
            break
    return sorted(joined.values(), key=_size, reverse=True)


def _facing(points: Walk, owner: np.ndarray) -> list[list[int]]:
    """Pairs of points of two owners that see each other along a direction; the nearest first."""
    if owner[-1] == 0:
        return []
    x, y = points.T
    pairs = []
    for line, place in ((y, x), (x, y), (x - y, y), (x + y, y)):
        order = np.lexsort((place, line))
        same_line = np.diff(line[order]) == 0
        found = np.flatnonzero(same_line & (np.diff(owner[order]) != 0))
        pairs.append(np.stack((order[found], order[found + 1]), 1))
    found = np.concatenate(pairs)
    length = np.abs(points[found[:, 0]] - points[found[:, 1]]).max(1)
    return found[np.argsort(length, kind="stable")].tolist()


def _line(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(n, 2) x and y of the pixels between two that lie along one of the eight directions."""
    n = np.abs(end - start).max()
    return start + (end - start) // n * np.arange(1, n)[:, None]


def _size(walk: Walk) -> float:
    """About the number of pixels that it covers: those within, and half of those below it."""
    return cv2.contourArea(walk) + len(walk) / 2


def _apart(walks: list[Walk]) -> float:
    """Size of all regions but the largest."""
    sizes = [_size(walk) for walk in walks]
    return sum(sizes) - max(sizes)


def _object(name: str, walk: Walk) -> dict:
    """The object, with the corners of the walk: without what lies on the way between two."""
    step = np.sign(np.diff(walk, axis=0, append=walk[:1]))
    moves = step.any(1)
    turns = np.diff(step[moves], axis=0, prepend=step[moves][-1:]).any(1)
    corners = walk[moves][turns] if moves.any() else walk[:1]
    # Readers of polygons want three corners, of a single pixel too.
    return {"label": name, "polygon": corners if len(corners) > 2 else np.resize(corners, (3, 2))}
