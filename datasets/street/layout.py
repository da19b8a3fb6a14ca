"""What stands still along a street: road and sidewalks, what fronts them, poles and signs."""

import math

import numpy as np

from datasets.street.builder import CURB, FACADES, FAR, Builder


def lay_road(b: Builder, lane: float, count, parking, crossing: float | None) -> None:
    """The road's surface: asphalt and repairs, parking lanes, rails, markings, a zebra crossing.

    Args:
        b: the scene.
        lane: the width of one.
        count: number of lanes left and right of the center line.
        parking: width of the parking lane by side, -1 or 1.
        crossing: where the zebra crossing begins along the street.
    """
    left, right = (n * lane for n in count)
    gray = b.between(0.05, 0.16)
    asphalt = tuple(gray * b.between(0.93, 1.07) for _ in range(3))
    white = (0.62, 0.62, 0.58) if b.chance(0.9) else (0.65, 0.5, 0.12)
    earth = (b.between(0.08, 0.14), b.between(0.09, 0.14), b.between(0.04, 0.07))
    b.strip("terrain", "grass", (-420, 420, -20, 640), -0.05, earth)
    b.strip("road", "asphalt", (-b.edges[0], b.edges[1], -20, FAR + 30), 0.0, asphalt)
    for _ in range(int(b.rng.integers(7))):  # repairs
        t, s = b.between(-left, right), b.between(3, 50)
        shade = b.between(0.55, 1.25)
        b.strip("road", "asphalt", (t, min(t + b.between(0.5, 2.5), right), s,
                s + b.between(1, 9)), 0.0, tuple(c * shade for c in asphalt))  # fmt: skip
    for side, outer in ((-1, left), (1, right)):
        if parking[side]:
            name = "parking" if b.chance(0.3) else "road"
            color = asphalt if b.chance(0.5) else (0.14, 0.13, 0.12)
            b.strip(name, "paving" if b.chance(0.4) else "asphalt",
                    (side * outer, side * (outer + 2.2), -20, FAR), 0.0, color)  # fmt: skip
        if b.chance(0.6):
            area = (side * (outer - 0.25), side * (outer - 0.12), -20, FAR)
            b.strip("road", "marking", area, 0.0, white)
    if "train" in b.cast:
        for rail in (-0.5 * lane, 0.5 * lane):
            for t in (rail - 0.72, rail + 0.72):
                b.strip("road", "metal", (t - 0.04, t + 0.04, -20, FAR), 0.0, (0.1, 0.09, 0.08))
    _mark_lanes(b, lane, count, white)
    if crossing:
        for t in np.arange(-left, right - 0.4, 1.0).tolist():
            b.strip("road", "marking", (t + 0.2, t + 0.7, crossing, crossing + 3.2), 0.0, white)
        b.strip("road", "marking", (0.2, right - 0.2, crossing - 2, crossing - 1.6), 0.0, white)


def _mark_lanes(b: Builder, lane: float, count, white) -> None:
    for k in range(1 - count[0], count[1]):
        dash, gap = (3.0, b.between(3, 7)) if k or b.chance(0.7) else (190.0, 1.0)
        for s in np.arange(b.between(-8, 0), FAR, dash + gap).tolist():
            b.strip("road", "marking", (k * lane - 0.07, k * lane + 0.07, s, s + dash), 0.0, white)


def build_side(b: Builder, side: int, edge: float, queue: list[str]) -> None:
    """Sidewalk, verge and, block by block, what fronts the street, up to side streets."""
    walk = b.between(2.2, 5.5)
    verge = b.between(1.0, 3.2) if "terrain" in b.cast or b.chance(0.1) else 0.0
    inner = b.chance(0.7)  # the verge lies between road and sidewalk
    front = edge + walk + verge
    paving, grass = b.color(FACADES), (0.06 * b.between(0.7, 1.5), 0.13, 0.03)
    paving = tuple(0.55 * c for c in paving)
    s = -12.0
    while s < FAR:
        if s > 25 and b.chance(0.25):
            end = s + b.between(6, 10)
            b.strip("road", "asphalt", (side * edge, side * (edge + 90), s, end), 0.0, (0.1,) * 3)
            s = end
            continue
        end = s + (b.between(34, 46) if s < 0 else b.between(16, 45))
        middle = edge + (verge if inner else walk)
        first, second = ("terrain", "sidewalk") if inner else ("sidewalk", "terrain")
        for name, t0, t1 in ((first, edge, middle), (second, middle, front)):
            material = "grass" if name == "terrain" else "paving"
            if t1 > t0:
                b.strip(name, material, (side * t0, side * t1, s, end), CURB,
                        grass if name == "terrain" else paving)  # fmt: skip
        b.strip("sidewalk", "curb", (side * edge, side * (edge + 0.16), s, end), CURB,
                (0.28, 0.27, 0.25))  # fmt: skip
        barrier = queue.pop(0) if queue else b.pick(("", "", "", "wall", "fence", "hedge", "park"))
        _build_block(b, side * front, (s, end), barrier, grass)
        if b.chance(0.5):
            at = edge + (0.5 * verge if verge and inner else 0.7)
            for place in np.arange(s + b.between(2, 8), end, b.between(7, 14)).tolist():
                if place > 7:
                    b.add("tree", side * at, place)
        s = end


def _build_block(b: Builder, front: float, span, barrier: str, grass) -> None:
    """Facades on the building line or, behind a barrier, a yard or a park."""
    side = math.copysign(1.0, front)
    s, end = span
    setback = b.between(3, 9) if barrier else (b.between(1, 5) if b.chance(0.15) else 0.0)
    if setback:
        kind = ("sidewalk", "paving", b.color(FACADES)) if b.chance(0.2) else (
            "terrain", "grass", grass)  # fmt: skip
        depth = 45.0 if barrier == "park" else setback + 1
        b.strip(kind[0], kind[1], (front, front + side * depth, s, end), CURB - 0.01, kind[2])
    if barrier in ("wall", "fence", "hedge"):
        height = b.between(1.0, 2.0) if barrier == "hedge" else b.between(1.1, 2.8)
        b.add(barrier, front + side * 0.4, (s + end) / 2, (end - s, 0.3, height))
    for _ in range(int(b.rng.integers(1, 5 if barrier != "park" else 9)) if setback else 0):
        away = setback + (30 if barrier == "park" else 0)
        b.add("tree", front + side * b.between(0.8, away), b.between(s, end))
    while barrier != "park" and s < end - 5:
        length = min(b.between(9, 22), end - s)
        depth = b.between(9, 13)
        gap = b.between(1, 6) if setback and b.chance(0.6) else 0.0
        b.add("building", front + side * (setback + depth / 2), s + length / 2,
              (length - gap, depth, b.between(6.5, 21)))  # fmt: skip
        s += length


def place_furniture(b: Builder, crossing: float | None) -> None:
    """What stands at the curb: lamps, signs, traffic lights, bollards, bins."""
    for side, edge in ((-1, b.edges[0]), (1, b.edges[1])):
        curb = side * (edge + 0.5)
        if "traffic light" in b.cast:
            _place_lights(b, curb, crossing)
        for _ in range(int(b.rng.integers(1, 4)) if "traffic sign" in b.cast else b.chance(0.2)):
            s = b.ahead(curb, 9, 32)
            if b.clear(curb, s):
                b.add("traffic sign", curb, s, turn=b.between(-0.2, 0.2))
        for kind, likely, last, step in (("lamp", 0.85, FAR, 28.0), ("bollard", 0.3, 35.0, 2.2)):
            step *= b.between(0.7, 1.3)
            first = b.between(8, 9 + step)
            for s in np.arange(first, last, step).tolist() if b.chance(likely) else ():
                b.add(kind, curb, s, turn=math.copysign(math.pi / 2, -curb))
        for kind in ("bin", "cart"):
            t = side * (edge + b.between(0.7, 2.5))
            s = b.ahead(t, 8, 30)
            if b.chance(0.25) and b.clear(t, s, 1.0):
                b.add(kind, t, s, turn=b.between(-1, 1))


def _place_lights(b: Builder, curb: float, crossing: float | None) -> None:
    s = crossing + 4 if crossing and b.chance(0.5) else b.ahead(curb, 11, 28)
    b.add("traffic light", curb, s)
    if b.chance(0.4):  # its arm reaches over the road
        b.add("gantry", curb, s + 1, turn=math.copysign(math.pi / 2, -curb))
