"""What surfaces look like: each material colors pixels as a function of its surface's (u, v).

(u, v) are meters on the surface, so a texture stays where it is when the camera moves.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

TILE = 512  # texels of the noise tile's side


@dataclass
class Pixels:
    """Pixels of one material: meters on the surface, depth in meters, linear color, and draws.

    `traits` are four numbers in 0..1 that are fixed for a thing; `spread` is how many meters of
    surface one pixel covers.
    """

    u: np.ndarray
    v: np.ndarray
    spread: np.ndarray
    color: np.ndarray
    traits: np.ndarray


@cache
def _tile() -> np.ndarray:
    """(TILE, TILE) float32 noise that repeats, mean 0, deviation 1: octaves of random grids."""
    rng = np.random.default_rng(20)
    total = np.zeros((TILE, TILE), np.float32)
    for cells in (8, 16, 32, 64, 128, 256, 512):
        grid = np.pad(rng.standard_normal((cells, cells)).astype(np.float32), 2, mode="wrap")
        scale = TILE // cells
        wide = cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
        cut = 2 * scale
        total += wide[cut : cut + TILE, cut : cut + TILE] * cells**-0.45
    return (total - total.mean()) / total.std()


def _wrap(tiles: np.ndarray) -> np.ndarray:
    """Texels of places given in tiles; several times as fast as np.mod."""
    return ((tiles - np.floor(tiles)) * TILE).astype(np.float32)


def noise(u: np.ndarray, v: np.ndarray, scale: float, seed: np.ndarray | float = 0.0) -> np.ndarray:
    """Noise of mean 0 and deviation 1 whose tile is `scale` meters wide; shape of u and v."""
    x, y = (_wrap(w / scale + seed * s) for w, s in ((u, 15.467), (v, 11.733)))
    if u.ndim == 2:
        return cv2.remap(_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    rows = -(-x.size // 4096)  # remap takes two dimensions, each below 32768
    x, y = (np.pad(a, (0, rows * 4096 - a.size)).reshape(rows, 4096) for a in (x, y))
    wrap = cv2.remap(_tile(), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
    return wrap.reshape(-1)[: u.size]


def draw(*keys: np.ndarray) -> np.ndarray:
    """Numbers in 0..1, a hash of the keys (arrays of one shape, or scalars)."""
    h = np.asarray(0x9E3779B9, np.uint32)
    for key in keys:
        h = (h ^ np.asarray(key).astype(np.int64).astype(np.uint32)) * np.uint32(0x85EBCA6B)
        h = h ^ (h >> np.uint32(15))
    h = (h * np.uint32(0xC2B2AE35)) ^ (h >> np.uint32(13))
    return (h >> np.uint32(8)).astype(np.float32) / np.float32(1 << 24)


def _grain(p: Pixels, scale: float, strength: float, far: float = 1.0) -> np.ndarray:
    """A factor around 1 that fades where one pixel covers much of the pattern."""
    fade = strength / (1.0 + far * p.spread * 30.0 / scale)
    return np.maximum(1.0 + fade * noise(p.u, p.v, scale, p.traits[:, 0]), 0.15)


def _speckled(scale: float, strength: float) -> Callable[[Pixels], np.ndarray]:
    def texture(p: Pixels) -> np.ndarray:
        return p.color * _grain(p, scale, strength)[:, None]

    return texture


def _asphalt(p: Pixels) -> np.ndarray:
    worn = noise(p.u, 0.16 * p.v, 24.0, 0.37)
    shade = _grain(p, 3.0, 0.16) * (1 + 0.14 * worn)
    seam = np.abs(worn - 0.6) < 0.012  # cracks follow a level line
    return p.color * np.where(seam & (p.spread < 0.06), 0.6 * shade, shade)[:, None]


def _paving(p: Pixels) -> np.ndarray:
    size = 0.3 + 0.7 * p.traits[:, 1]
    a, b = p.u / size, p.v / size
    row = np.floor(b)
    a = a + 0.5 * (row % 2) * (p.traits[:, 2] > 0.5)
    column = np.floor(a)
    fade = 1.0 / (1.0 + (p.spread / (0.25 * size)) ** 2)
    joint = (np.minimum(a - column, b - row) < 0.05) * 0.35
    slab = 0.25 * (draw(column, row) - 0.5)
    return p.color * ((1 + (slab - joint) * fade) * _grain(p, 4.0, 0.15))[:, None]


def _grass(p: Pixels) -> np.ndarray:
    coarse = noise(p.u, p.v, 25.0, 0.2)
    dry = np.clip(0.35 * coarse + p.traits[:, 1] - 0.5, 0, 1)[:, None]
    color = p.color * (1 - dry) + np.array((0.16, 0.13, 0.06), np.float32) * dry
    return color * (_grain(p, 1.5, 0.4, 0.3) * (1 + 0.12 * coarse))[:, None]


def _leaves(p: Pixels) -> np.ndarray:
    fine = noise(p.u, p.v, 5.0, p.traits[:, 0])
    return p.color * np.exp(0.5 * fine + 0.25 * noise(p.u, p.v, 17.0, p.traits[:, 1]))[:, None]


def _facade(p: Pixels) -> np.ndarray:
    """Storeys of windows, a plinth, and shops or doors on the ground floor."""
    t = p.traits
    storey, bay = 2.9 + 0.9 * t[:, 0], 1.7 + 1.9 * t[:, 1]
    column, row = np.floor(p.u / bay), np.floor(p.v / storey)
    a, b = np.abs(p.u / bay - column - 0.5), p.v / storey - row
    luck = draw(column, row, t[:, 2] * 9999)
    wide, sill, lintel = 0.17 + 0.19 * t[:, 2], 0.22 + 0.12 * t[:, 3], 0.72 + 0.16 * t[:, 0]
    ground = row < 1
    shop = ground & (t[:, 3] > 0.45)
    wide, sill = np.where(shop, 0.45, wide), np.where(shop, 0.12, sill)
    door = ground & (luck > 0.8)
    sill = np.where(door, 0.0, sill)
    pane = (a < wide) & (b > sill) & (b < lintel)
    frame = (a < wide + 0.035) & (b > sill - 0.03) & (b < lintel + 0.03)
    bars = (a < 0.02) | (np.abs(b - 0.5 * (sill + lintel)) < 0.012)
    wall = p.color * _grain(p, 9.0, 0.1)[:, None]
    brick = (t[:, 1] > 0.6) * 0.3 / (1 + (p.spread / 0.04) ** 2)
    wall *= (1 - brick * ((np.mod(p.v, 0.16) < 0.03) | (np.mod(p.v, storey) < 0.1)))[:, None]
    wall *= np.where((b < 0.04) | (p.v < 0.6), 0.72, 1.0)[:, None]
    trim = np.where(t[:, 3] > 0.3, 1.0, 0.0)[:, None] * 0.5 + 0.4 * p.color
    wall = np.where(frame[:, None], trim, wall)
    glass = 0.015 + 0.1 * luck**3 + 0.12 * np.clip(noise(p.u, p.v, 40.0, 0.6), 0, 2) * (luck > 0.4)
    glass = np.where((luck < 0.2) & ~ground, 0.35 * (b > 0.45) + glass, glass)  # curtains, blinds
    glass = np.where(bars & ~shop, 0.3, glass)[:, None] * np.array((0.92, 1.0, 1.1), np.float32)
    glass = np.where((door & (t[:, 0] > 0.4))[:, None], 0.35 * p.color, glass)
    return np.where(pane[:, None], glass, wall)


def _masonry(p: Pixels) -> np.ndarray:
    """Garden walls: bricks, stones or plain concrete, streaked from above."""
    t = p.traits
    size = 0.1 + 0.35 * t[:, 1]
    row = np.floor(p.v / size)
    a = p.u / (2.2 * size) + 0.5 * (row % 2)
    joint = (p.v / size - row < 0.13) | (a - np.floor(a) < 0.07)
    fade = (t[:, 2] > 0.3) / (1 + (p.spread / (0.3 * size)) ** 2)
    stone = 0.5 * (draw(np.floor(a), row) - 0.5)
    streak = 0.18 * noise(p.u, 0.08 * p.v, 12.0, t[:, 3])
    shade = (1 + fade * (stone - 0.35 * joint)) * np.maximum(1 + streak, 0.3)
    return p.color * (shade * _grain(p, 5.0, 0.16))[:, None]


def _tiles(p: Pixels) -> np.ndarray:
    row = np.mod(p.v, 0.35) < 0.09
    return p.color * ((1 - 0.4 * row / (1 + (p.spread / 0.15) ** 2)) * _grain(p, 8.0, 0.2))[:, None]


def _paint(p: Pixels) -> np.ndarray:
    """Lacquer mirrors the sky where it looks up and the road where it looks down."""
    sheen = 0.05 + 0.06 * np.clip(np.sin(2.3 * p.v + 0.4 * p.u + 6 * p.traits[:, 0]), -1, 1)
    return p.color * _grain(p, 7.0, 0.05)[:, None] + np.maximum(sheen, 0)[:, None]


def _glass(p: Pixels) -> np.ndarray:
    mirror = np.clip(0.5 * noise(p.u, 2.5 * p.v, 30.0, p.traits[:, 0]) - 0.1, 0, 1)
    up = np.clip(p.v / 3.0, 0, 0.6)
    return p.color + ((0.16 * mirror + 0.05 * up)[:, None] * np.array((0.9, 1.0, 1.12), np.float32))


def _panel(p: Pixels) -> np.ndarray:
    """Sides of load boxes: ribs."""
    rib = np.mod(p.u, 0.3 + 0.6 * p.traits[:, 2]) < 0.04
    return p.color * ((1 - 0.25 * rib / (1 + p.spread / 0.05)) * _grain(p, 9.0, 0.08))[:, None]


def _board(p: Pixels) -> np.ndarray:
    """Lines of lettering, too small to read."""
    line = np.abs(np.mod(p.v, 0.34) - 0.17) < 0.06
    ink = line & (draw(np.floor(p.u / 0.06), np.floor(p.v / 0.34)) > 0.45)
    ink_color = np.where(p.color.mean(1, keepdims=True) > 0.25, 0.02, 0.7)
    return np.where(ink[:, None], ink_color, p.color)


def _plain(p: Pixels) -> np.ndarray:
    return p.color


MATERIALS: dict[str, Callable[[Pixels], np.ndarray]] = {
    "asphalt": _asphalt, "paving": _paving, "grass": _grass, "marking": _speckled(2.0, 0.25),
    "curb": _speckled(2.0, 0.2), "metal": _speckled(2.0, 0.12), "plastic": _speckled(2.0, 0.1),
    "rubber": _plain, "cloth": _speckled(1.5, 0.16), "bark": _speckled(1.0, 0.35),
    "leaves": _leaves, "crown": _leaves, "facade": _facade, "wall": _masonry, "tiles": _tiles,
    "paint": _paint, "glass": _glass, "panel": _panel, "board": _board, "sign": _plain,
    "lamp": _plain, "spokes": _plain, "bars": _speckled(2.0, 0.1), "mesh": _plain,
    "boards": _speckled(2.0, 0.25),
}  # fmt: skip
GROUND = frozenset(("asphalt", "paving", "grass", "marking", "curb"))
TWO_SIDED = frozenset(("spokes", "bars", "mesh", "boards", "cloth", "sign", "board"))


def _crown(u: np.ndarray, v: np.ndarray, size: float, seed: float):
    r = np.hypot(u, v) / size
    rough = noise(u, v, 9.0, seed)
    solid = r + 0.13 * rough < 0.86
    return solid, solid & (r * 0.55 + 0.22 * noise(u, v, 4.0, seed + 0.5) < 0.62)


def _spokes(u: np.ndarray, v: np.ndarray, size: float, seed: float):
    r = np.hypot(u, v)
    rim = r > 0.86 * size
    spoke = np.abs(np.sin(7 * np.arctan2(v, u))) * r < 0.02
    return np.ones_like(rim), rim | spoke | (r < 0.04)


def _bars(u: np.ndarray, v: np.ndarray, size: float, seed: float):
    rail = (np.abs(v - 0.15) < 0.03) | (np.abs(v - 0.93 * size) < 0.03)
    pitch = 0.12 + 0.06 * seed
    return np.ones(u.shape, bool), rail | (np.mod(u, pitch) < 0.035)


def _mesh(u: np.ndarray, v: np.ndarray, size: float, seed: float):
    wire = (np.mod(u + v, 0.1) < 0.018) | (np.mod(u - v, 0.1) < 0.018)
    return np.ones(u.shape, bool), wire | (np.abs(v - size + 0.03) < 0.03)


def _boards(u: np.ndarray, v: np.ndarray, size: float, seed: float):
    return np.ones(u.shape, bool), np.mod(u, 0.14) < 0.115


# What one sees through: (u, v, size in meters, a number in 0..1) to the outline that is labelled
# and, inside it, the part that hides what is behind.
CUTOUTS = {"crown": _crown, "spokes": _spokes, "bars": _bars, "mesh": _mesh, "boards": _boards}
