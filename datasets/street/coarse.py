"""Polygons as people draw them in a few minutes: `coarse_objects(instance_ids, names, rng)`.

They keep away from the borders, so that a wide seam has no label; what is small or thin is missing,
and now and then a thing is forgotten. In a picture of 256 rows, 60 to 85 % of the pixels have a
label, of which less than 0.5 % are wrong.
"""

from collections.abc import Iterator, Mapping, Sequence

import cv2
import numpy as np

from datasets.street.outlines import FIRST, class_of

MARGIN = 0.06  # between a border and an outline, of the square root of the region's pixels
NARROWEST, WIDEST = 1.5, 1 / 80  # the margin in pixels, and of the image height
DETAIL = 1.5  # margins: where an outline turns less than this, it goes on straight
SHAKE = 0.7  # margins: how far a corner may be off
SMALLEST = 1 / 8000  # of the image's pixels
FORGOTTEN = 0.05  # of the instances


def coarse_objects(
    instance_ids: np.ndarray, names: Mapping[int, str], rng: np.random.Generator
) -> list[dict]:
    """The `objects` of a polygons file; of a partly hidden instance its largest region only.

    Args:
        instance_ids: (H, W) uint16, 1000 * id + n or a bare id, as of Cityscapes.
        names: of the ids.
        rng: decides about corners and about what is forgotten.
    """
    margins = MARGIN * np.sqrt(np.bincount(instance_ids.ravel()))
    margins = margins.clip(NARROWEST, max(NARROWEST, WIDEST * len(instance_ids))).astype(np.float32)
    core = (_border_distance(instance_ids) > margins[instance_ids]).view(np.uint8)
    contours, tree = cv2.findContours(core, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    objects = []
    taken = {0}  # nobody draws around what is unlabeled
    for region, holes in _largest_first(contours, tree, SMALLEST * core.size):
        value = int(instance_ids[tuple(region[0, 0, ::-1])])
        if value in taken:
            continue
        if value >= FIRST:
            taken.add(value)
            if rng.random() < FORGOTTEN:
                continue
        # What lies in a hole is smaller, so it is drawn after the hole was cleared.
        for name, contour in ((names[class_of(value)], region), *((names[0], h) for h in holes)):
            polygon = _roughly(contour, margins[value], core.shape, rng)
            if len(polygon) > 2:
                objects.append({"label": name, "polygon": polygon})
    return objects


def _border_distance(ids: np.ndarray) -> np.ndarray:
    """(H, W) float32: how far the next region is, in pixels; the end of the picture is none."""
    same = np.ones(ids.shape, np.uint8)
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differ = ids[a] != ids[b]
        same[a][differ] = same[b][differ] = 0
    return cv2.distanceTransform(same, cv2.DIST_L2, 3)


def _largest_first(
    contours: Sequence[np.ndarray], tree: np.ndarray, smallest: float
) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """Each outer contour of at least this area, and those of its holes."""
    parents = tree[0, :, 3].tolist() if contours else []
    areas = [cv2.contourArea(contour) for contour in contours]
    for k in sorted(range(len(contours)), key=lambda k: -areas[k]):
        if parents[k] < 0 and areas[k] >= smallest:
            yield contours[k], [contours[j] for j, parent in enumerate(parents) if parent == k]


def _roughly(
    contour: np.ndarray, margin: float, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """(N, 2) int, x and y of a few corners, each a bit off."""
    corners = cv2.approxPolyDP(contour, DETAIL * float(margin), True)[:, 0]
    shaken = np.rint(corners + rng.uniform(-SHAKE * margin, SHAKE * margin, corners.shape))
    return np.clip(shaken, 0, np.array(shape[::-1]) - 1).astype(int)
