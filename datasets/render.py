"""What a camera sees of a scene: `render(scene, camera, height, width)`.

Deferred shading: convex polygons go into depth buffers, then each material colors its samples as a
function of the place on their surface. Samples lie on a grid of half pixels of which every second
one is a pixel's center: labels are exact there, colors are a tent filter around it.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from datasets.street.mesh import Mesh, View, build_mesh, make_view
from datasets.street.raster import Buffers, rasterize
from datasets.street.shading import shade
from datasets.street.world import IDS, Camera, Scene


@dataclass(frozen=True)
class Drawing:
    """A picture, its labels, and the surfaces of its samples.

    `image` is (H, W, 3) uint8 RGB, `labels` (H, W) uint8 Cityscapes ids, `instances` (H, W) uint16
    Cityscapes instance ids. `hood` is (2H+1, 2W+1), true where the own vehicle hides the street.
    """

    image: np.ndarray
    labels: np.ndarray
    instances: np.ndarray
    mesh: Mesh
    view: View
    buffers: Buffers
    hood: np.ndarray


def render(
    scene: Scene, camera: Camera, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A picture of the scene and its labels.

    Returns:
        (H, W, 3) uint8 RGB, (H, W) uint8 Cityscapes ids, (H, W) uint16 Cityscapes instance ids.
    """
    drawing = draw(scene, camera, height, width)
    return drawing.image, drawing.labels, drawing.instances


def draw(scene: Scene, camera: Camera, height: int, width: int) -> Drawing:
    """A picture of the scene with all that is known about it."""
    view = make_view(camera, height, width)
    mesh = build_mesh(scene, view)
    buffers = rasterize(mesh, view)
    color = shade(scene, mesh, view, buffers)
    surface = buffers.surface[1::2, 1::2]
    labels = np.append(mesh.label, IDS["sky"])[surface].astype(np.uint8)
    instances = np.append(mesh.instance, IDS["sky"])[surface].astype(np.uint16)
    hood = np.zeros(view.shape, bool)
    if camera.hood:
        hood = _add_hood(color, scene, camera)
        labels[hood[1::2, 1::2]] = instances[hood[1::2, 1::2]] = IDS["ego vehicle"]
    return Drawing(_develop(color, scene), labels, instances, mesh, view, buffers, hood)


def _add_hood(color: np.ndarray, scene: Scene, camera: Camera) -> np.ndarray:
    """Paints the own vehicle's hood; gives the samples (2H+1, 2W+1) that it hides."""
    h, w = color.shape[:2]
    x = np.linspace(-1, 1, w, dtype=np.float32)
    top = h * (1 - camera.hood * (1 - 0.55 * x**2))
    first = int(top.min())
    below = np.arange(first, h, dtype=np.float32)[:, None] - top
    hidden = np.zeros((h, w), bool)
    hidden[first:] = below >= 0
    fade = np.exp(-8 * np.maximum(below, 0) / (h * camera.hood)) * (1 - 0.5 * x**2)
    paint = np.float32(np.random.default_rng(scene.seed).uniform(0.01, 0.12))
    mirror = 0.25 * np.array(scene.light.horizon, np.float32)
    np.copyto(color[first:], paint + mirror * fade[..., None], where=hidden[first:, :, None])
    return hidden


def _develop(color: np.ndarray, scene: Scene) -> np.ndarray:
    """Linear light of the samples -> (H, W, 3) uint8 as a camera gives it."""
    light = scene.light
    rng = np.random.default_rng(scene.seed + 1)
    h, w = color.shape[0] // 2, color.shape[1] // 2
    tent = np.array((0.25, 0.5, 0.25), np.float32)
    pixels = cv2.sepFilter2D(np.minimum(color, 1.5), -1, tent, tent)[1::2, 1::2]
    y, x = np.linspace(-1, 1, h)[:, None], np.linspace(-1, 1, w)[None]
    vignette = 1 - rng.uniform(0.0, 0.25) * (x * x + y * y)
    pixels = pixels * (light.exposure * vignette[..., None]).astype(np.float32)
    pixels = np.maximum(pixels * np.array(light.tint, np.float32), 0)
    pixels = pixels * (1 + pixels / 4) / (1 + pixels * 0.9)  # highlights roll off
    pixels = pixels ** np.float32(1 / 2.2) * 255
    if rng.random() < 0.5:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.3, 0.7))
    grain = rng.standard_normal((h, w, 3), dtype=np.float32)
    strength = rng.uniform(0.5, 4.0)
    if scene.frame:  # the sensor stays, its grain is new in every frame
        frame_rng = np.random.default_rng((scene.seed + 1, scene.frame % (1 << 32)))
        grain = frame_rng.standard_normal((h, w, 3), dtype=np.float32)
    return np.clip(pixels + strength * grain + 0.5, 0, 255).astype(np.uint8)
