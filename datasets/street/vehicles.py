"""The shapes of what moves: cars, trucks, buses, trams, two-wheelers, riders, people."""

import math

import numpy as np

from datasets.street.solids import (
    AMBER,
    DARK,
    GLASS,
    SKIN,
    STEEL,
    TIRE,
    WHITE,
    Part,
    box,
    frustum,
    inset,
    limb,
    wheels,
)  # fmt: skip
from datasets.street.world import Thing

STRIDE = 0.36  # a foot is at most 0.8 times that ahead, in meters of a person of 1.75


def car(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, width, height = thing.size
    paint, x, y = thing.colors[0], width / 2, length / 2
    belt, clear, waist = 0.6 * height, 0.13 * height, 0.47 * height
    back, hood = float(rng.choice((0.97, 0.94, 0.72))), rng.uniform(0.4, 0.55)
    body = frustum((-x, x, -y, y, clear), (-0.98 * x, 0.98 * x, -0.99 * y, 0.98 * y, waist),
                   "paint", paint)  # fmt: skip
    shoulder = frustum((-0.98 * x, 0.98 * x, -0.99 * y, 0.98 * y, waist),
                       (-0.93 * x, 0.93 * x, -0.97 * y, (hood + 0.1) * y, belt),
                       "paint", paint)  # fmt: skip
    slope = rng.uniform(0.10, 0.2), rng.uniform(0.28, 0.42)
    cabin = frustum((-0.92 * x, 0.92 * x, -back * y, hood * y, belt),
                    (-0.74 * x, 0.76 * x, (slope[0] - back) * y, (hood - slope[1]) * y, height),
                    "paint", paint)  # fmt: skip
    parts = [*body, *shoulder, *cabin]
    for face in body[:2]:
        parts.append(inset(face, (0, 1, 0, 0.2), "plastic", DARK))
    for face in cabin[:2]:
        parts += [inset(face, (u0, u1, 0.12, 0.9), "glass", GLASS)
                  for u0, u1 in ((0.06, 0.48), (0.52, 0.93))]  # fmt: skip
    parts += [inset(cabin[2], (0.07, 0.93, 0.12, 0.9), "glass", GLASS),
              inset(cabin[3], (0.05, 0.95, 0.05, 0.93), "glass", GLASS)]  # fmt: skip
    lit = (0.9, 0.05, 0.03) if rng.random() < 0.4 else (0.3, 0.01, 0.01)
    for u in (0.02, 0.78):
        parts.append(inset(body[2], (u, u + 0.2, 0.65, 0.97), "lamp", lit))
        parts.append(inset(body[3], (u, u + 0.2, 0.72, 0.97), "lamp", (0.6, 0.6, 0.55)))
    for face in body[2:4]:
        parts += [inset(face, (0, 1, 0, 0.28), "plastic", DARK),
                  inset(face, (0.38, 0.62, 0.36, 0.56), "plastic", WHITE)]  # fmt: skip
    parts.append(inset(body[3], (0.3, 0.7, 0.66, 0.94), "plastic", DARK))
    return parts + wheels(x, (-0.6 * y, 0.62 * y), 0.22 * height)


def truck(thing: Thing, rng: np.random.Generator) -> list[Part]:
    length, width, height = thing.size
    cab, cargo, x, y = thing.colors[0], thing.colors[1], width / 2, length / 2
    if rng.random() < 0.5:
        cargo = WHITE
    front = y - 0.55 * width - 0.6
    top = height if rng.random() < 0.75 else 0.55 * height
    parts = box((-0.9 * x, 0.9 * x), (-y, y - 0.3), (0.45, 0.95), "plastic", DARK)
    load = box((-x, x), (-y, front - 0.2), (0.95, top), "panel", cargo)
    head = frustum((-0.96 * x, 0.96 * x, front, y, 0.45),
                   (-0.92 * x, 0.92 * x, front, y - 0.25, min(0.88 * height, 2.9)),
                   "paint", cab)  # fmt: skip
    parts += load + head
    parts += [inset(head[3], (0.06, 0.94, 0.52, 0.88), "glass", GLASS),
              inset(head[3], (0.15, 0.85, 0.12, 0.4), "plastic", DARK),
              inset(head[0], (0.1, 0.7, 0.55, 0.85), "glass", GLASS),
              inset(head[1], (0.3, 0.9, 0.55, 0.85), "glass", GLASS)]  # fmt: skip
    for u in (0.02, 0.8):
        parts.append(inset(head[3], (u, u + 0.18, 0.06, 0.16), "lamp", WHITE))
        parts.append(inset(parts[2], (u, u + 0.18, 0.4, 0.9), "lamp", (0.5, 0.02, 0.02)))
    if rng.random() < 0.6:
        stripe = (0.15, 0.85, 0.4, 0.7)
        parts += [inset(load[k], stripe, "paint", thing.colors[2]) for k in (0, 1)]
    for u in (0.49, 0.02, 0.96):  # doors at the back
        parts.append(inset(load[2], (u, u + 0.02, 0, 1), "plastic", STEEL))
    parts.append(inset(load[2], (0.0, 1.0, 0.0, 0.05), "plastic", (0.4, 0.05, 0.03)))
    return parts + wheels(x, (-0.75 * y, -0.75 * y + 1.15, front + 0.8), 0.48)


def coach(thing: Thing, rng: np.random.Generator) -> list[Part]:
    """Buses and trams: a long body with a band of windows."""
    rail = thing.kind == "train"
    length, width, height = thing.size
    paint, x, y = thing.colors[0], width / 2, length / 2
    nose = 1.3 if rail else 0.15
    body = frustum((-x, x, -y, y, 0.3), (-0.97 * x, 0.97 * x, nose - y, y - nose, height),
                   "paint", paint)  # fmt: skip
    parts = list(body)
    low, high = (0.36, 0.78) if rail else (0.38, 0.82)
    panes = int(length / (1.7 if rail else 1.4))
    for k, face in enumerate(body[:2]):
        parts.append(inset(face, (0, 1, 0, 0.2), "paint", thing.colors[1]))
        if rail:
            parts.append(inset(face, (0.02, 0.98, low - 0.03, high + 0.03), "plastic", DARK))
            parts.append(inset(face, (0, 1, 0.88, 0.93), "paint", thing.colors[1]))
        for i in range(panes):
            door = i % 4 == 1 and (rail or k == 1)
            area = ((i + 0.08) / panes, (i + 0.92) / panes, 0.08 if door else low, high)
            parts.append(inset(face, area, "glass", GLASS))
        for joint in (1 / 3, 2 / 3) if rail else ():
            parts.append(inset(face, (joint - 0.012, joint + 0.012, 0, 1), "rubber", TIRE))
    for face in body[2:4]:
        parts += [inset(face, (0.06, 0.94, 0.33, 0.8), "glass", GLASS),
                  inset(face, (0.2, 0.8, 0.84, 0.95), "plastic", DARK),
                  inset(face, (0.3, 0.7, 0.86, 0.93), "lamp", AMBER),
                  inset(face, (0, 1, 0, 0.1), "plastic", DARK)]  # fmt: skip
        lamp = WHITE if face is body[3] else (0.5, 0.02, 0.02)
        parts += [inset(face, (u, u + 0.14, 0.16, 0.24), "lamp", lamp) for u in (0.05, 0.81)]
    if not rail:
        return parts + wheels(x, (-0.55 * y, 0.55 * y), 0.48)
    parts += box((-0.6 * x, 0.6 * x), (-0.6 * y, 0.6 * y), (height, height + 0.3), "metal", STEEL)
    knee, bow = (0, 1.2, height + 0.8), height + 1.5  # the pantograph
    parts += [limb("metal", STEEL, (0, 0, height), knee, 0.05),
              limb("metal", STEEL, knee, (0, 0.1, bow), 0.05),
              limb("metal", STEEL, (-0.8, 0.1, bow), (0.8, 0.1, bow), 0.05)]  # fmt: skip
    return parts


def bicycle(thing: Thing, rng: np.random.Generator) -> list[Part]:
    """Wheels one sees through, tubes, a handlebar."""
    half, r = 0.31 * thing.size[0], 0.19 * thing.size[0]
    paint = thing.colors[0]
    parts = []
    for y in (-half, half):
        ring = [(0.0, y + r * math.cos(a), r + r * math.sin(a))
                for a in np.linspace(0, 2 * math.pi, 12, endpoint=False)]  # fmt: skip
        parts.append(Part("spokes", (0.05, 0.05, 0.05), ring))
        parts.append(limb("rubber", TIRE, (0, y, 0.03), (0, y, 2 * r - 0.03), 0.025))
    crank, seat, head = (0, -0.05, r), (0, -0.2, 0.9), (0, half - 0.2, 0.92)
    rear, fork = (0, -half, r), (0, half, r)
    for a, b in ((crank, seat), (crank, head), ((0, -0.18, 0.75), head), (crank, rear),
                 (rear, (0, -0.18, 0.75)), (fork, head)):  # fmt: skip
        parts.append(limb("paint", paint, a, b, 0.025))
    bar = (0, half - 0.22, 1.02)
    grip = bar[1] - 0.1
    parts += [limb("plastic", DARK, head, bar, 0.02),
              limb("plastic", DARK, (-0.28, grip, 1.03), (0.28, grip, 1.03), 0.02),
              limb("plastic", DARK, (0, -0.32, 0.95), (0, -0.08, 0.95), 0.045)]  # fmt: skip
    if rng.random() < 0.4:
        parts += box((-0.18, 0.18), (half - 0.05, half + 0.3), (0.75, 1.0), "plastic", DARK)
    return parts


def motorcycle(thing: Thing, rng: np.random.Generator) -> list[Part]:
    """A motorcycle or, one time in three, a scooter with a front shield."""
    half, paint, red = 0.34 * thing.size[0], thing.colors[0], (0.5, 0.02, 0.02)
    r = 0.3 if rng.random() < 0.67 else 0.22
    parts = wheels(0.06, (-half, half), r)
    for y in (-half, half):
        parts.append(limb("rubber", TIRE, (0, y, 0.07), (0, y, 2 * r - 0.07), 0.075))
    parts += [limb("metal", STEEL, (0, half, r), (0, half - 0.28, 0.95), 0.06),
              limb("metal", DARK, (0, -0.1, 0.42), (0, 0.25, 0.45), 0.2),
              limb("paint", paint, (0, 0.02, 0.78), (0, 0.34, 0.84), (0.13, 0.17)),
              limb("plastic", DARK, (0, -half - 0.1, 0.82), (0, 0.0, 0.78), (0.07, 0.11)),
              limb("paint", paint, (0, -half, 0.66), (0, -0.25, 0.62), 0.12),
              limb("metal", STEEL, (0.16, -half - 0.15, 0.36), (0.14, 0.1, 0.3), 0.05),
              limb("plastic", DARK, (-0.36, half - 0.42, 1.04), (0.36, half - 0.42, 1.04), 0.025),
              limb("lamp", (0.6, 0.6, 0.55), (0, half - 0.2, 0.9), (0, half - 0.18, 0.9), 0.1),
              limb("lamp", red, (0, -half - 0.18, 0.72), (0, -half - 0.17, 0.72), 0.06),
              limb("paint", paint, (0, half - 0.12, 2 * r), (0, half + 0.15, 2 * r), 0.08)]
    if r < 0.3:
        parts += frustum((-0.2, 0.2, half - 0.35, half - 0.2, 0.25),
                         (-0.24, 0.24, half - 0.45, half - 0.35, 0.95), "paint", paint)  # fmt: skip
        parts += box((-0.18, 0.18), (-half - 0.1, 0.0), (0.35, 0.75), "paint", paint)
    return parts


def _stride(drawn: float, walked: float) -> float:
    """How far the right leg swings ahead after `walked` meters, the left one as far behind."""
    phase = math.asin(drawn / STRIDE) + math.pi * walked / (1.6 * STRIDE)
    return STRIDE * math.sin(phase) if walked else drawn


def person(thing: Thing, rng: np.random.Generator) -> list[Part]:
    """A walking or standing person, mid-stride."""
    k = thing.size[2] / 1.75
    skin, top, legs = SKIN[rng.random() < 0.3], thing.colors[0], thing.colors[1]
    hair = (0.02, 0.015, 0.01) if rng.random() < 0.6 else (0.2, 0.12, 0.06)
    stride = _stride(rng.uniform(0.0, STRIDE), thing.walked / k)
    wide = rng.uniform(0.9, 1.2)
    parts = []

    def add(material: str, color, a, b, radii) -> None:
        a, b = (tuple(k * c for c in p) for p in (a, b))
        r = radii if isinstance(radii, tuple) else (radii, radii)
        parts.append(limb(material, color, a, b, (k * wide * r[0], k * wide * r[1])))

    skirt = rng.random() < 0.15
    for side in (-1, 1):
        swing = side * stride
        hip, foot = (side * 0.09, 0, 0.86), (side * 0.1, 0.8 * swing, 0.06)
        knee = (side * 0.1, 0.45 * swing + 0.06 * abs(stride), 0.47)
        add("cloth", skin if skirt else legs, knee, foot, (0.065, 0.05))
        add("cloth", legs, hip, knee, (0.095, 0.07))
        add("cloth", DARK, foot, (side * 0.1, 0.8 * swing + 0.16, 0.05), 0.05)
    arms = [((s * 0.22, 0, 1.38), (s * 0.27, -s * stride * 0.35, 1.1),
             (s * 0.25, 0.12 - s * stride * 0.55, 0.87)) for s in (-1, 1)]  # fmt: skip
    for shoulder, elbow, hand in arms:
        add("cloth", top, shoulder, elbow, 0.055)
        add("cloth", top, elbow, hand, (0.05, 0.042))
        add("cloth", skin, hand, (hand[0], hand[1] + 0.02, hand[2] - 0.07), 0.042)
    low = 0.55 if skirt else rng.choice((0.9, 0.78))
    for x in (-0.09, 0.0, 0.09):  # three limbs make flat shoulders
        add("cloth", top, (0.9 * x, 0, low), (x, 0, 1.38), (0.12 + 0.05 * skirt, 0.11))
    if rng.random() < 0.3:
        add("cloth", thing.colors[2], (0, -0.18, 1.0), (0, -0.18, 1.35), 0.14)
    elif rng.random() < 0.3:
        add("cloth", thing.colors[2], (0.32, 0.05, 0.6), (0.32, 0.05, 0.78), (0.13, 0.08))
    add("cloth", skin, (0, 0, 1.45), (0, 0.02, 1.55), 0.055)
    add("cloth", skin, (0, 0.02, 1.6), (0, 0.02, 1.66), 0.095)
    add("cloth", hair, (0, -0.03, 1.64), (0, -0.02, 1.69), 0.09)
    return parts


def rider(thing: Thing, rng: np.random.Generator) -> list[Part]:
    """The person on a two-wheeler of the same length: bent over, hands on the bar."""
    half = 0.31 * thing.size[0]
    top, legs, skin = thing.colors[0], thing.colors[1], SKIN[rng.random() < 0.3]
    lean = rng.uniform(0.05, 0.3)
    turn = rng.uniform(-0.18, 0.18)
    parts = []
    for side in (-1, 1):
        hip, foot = (side * 0.1, -0.2, 0.95), (side * 0.14, 0.0, 0.32 + side * turn)
        knee = (side * 0.16, 0.2, 0.66 + 0.5 * side * turn)
        parts += [limb("cloth", legs, hip, knee, (0.1, 0.075)),
                  limb("cloth", legs, knee, foot, (0.07, 0.05)),
                  limb("cloth", DARK, foot, (foot[0], foot[1] + 0.16, foot[2]), 0.045)]  # fmt: skip
        shoulder, hand = (side * 0.2, lean - 0.12, 1.43), (side * 0.26, half - 0.32, 1.06)
        elbow = (side * 0.29, (shoulder[1] + hand[1]) / 2 - 0.05, 1.17)
        parts += [limb("cloth", top, shoulder, elbow, 0.055),
                  limb("cloth", top, elbow, hand, 0.045)]  # fmt: skip
    for x in (-0.09, 0.0, 0.09):
        neck = (x, lean - 0.14, 1.42)
        parts.append(limb("cloth", top, (0.9 * x, -0.2, 1.0), neck, (0.12, 0.115)))
    y = lean - 0.08
    parts.append(limb("cloth", skin, (0, y, 1.5), (0, y + 0.03, 1.68), (0.055, 0.095)))
    if rng.random() < 0.7:
        parts.append(limb("paint", thing.colors[2], (0, y - 0.02, 1.73), (0, y + 0.03, 1.74), 0.12))
    else:
        parts.append(limb("cloth", (0.02, 0.015, 0.01), (0, y - 0.03, 1.7), (0, y, 1.74), 0.1))
    return parts
