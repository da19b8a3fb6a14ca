"""Decoders of PNG and JPEG from packages beside OpenCV's, in CPU time of one thread.

  python -m benchmarks.decoders [--image street.png] [--label labels.png] [--photo street.jpg]

Optional: pip install imagecodecs simplejpeg pyvips-binary pyvips. Pixels are compared first.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.timing import machine, table, take_turns
from utils.options.parser import Parser, positive
from utils.stopping import run

CITY = Path(__file__).resolve().parent.parent / "data/city"
BASE = "OpenCV"
Decode = Callable[[bytes], np.ndarray]


def by_cv2(flags: int) -> Decode:
    """What `utils.images` does."""
    return lambda data: np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), flags))


def by_pillow(data: bytes) -> np.ndarray:
    """Of any kind."""
    return np.asarray(Image.open(BytesIO(data)))


def by_vips(vips: Any) -> Decode:
    """In one thread, nothing kept."""
    vips.cache_set_max(0)
    return lambda data: vips.Image.new_from_buffer(data, "", access="sequential").numpy()


def decoders(kind: str, flags: int) -> dict[str, Decode]:
    """By name; those whose package is missing are left out."""
    os.environ["VIPS_CONCURRENCY"] = "1"
    found: dict[str, Decode] = {BASE: by_cv2(flags), "Pillow": by_pillow}
    with suppress(ImportError):
        package = import_module("imagecodecs")
        names = ("png_decode", "spng_decode") if kind == "png" else ("jpeg8_decode",)
        found |= {f"imagecodecs.{name}": getattr(package, name) for name in names}
    with suppress(ImportError):
        found["pyvips"] = by_vips(import_module("pyvips"))
    if kind == "jpeg":
        with suppress(ImportError):
            found["simplejpeg"] = import_module("simplejpeg").decode_jpeg
    return found


def main() -> None:
    parser = Parser(__doc__)
    parser.prog = "python -m benchmarks.decoders"
    images = sorted((CITY / "leftImg8bit").rglob("*.*"))
    labels = sorted((CITY / "gtFine").rglob("*_labelIds.png"))
    parser.add_argument("--image", default=str(images[0]), help="its pixels as a PNG")
    parser.add_argument("--label", default=str(labels[0]), help="gray PNG")
    parser.add_argument("--photo", help="JPEG (default: --image, written as one of quality 95)")
    parser.add_argument("--rounds", type=positive, default=15, help="turns of each")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    image = Path(args.image).read_bytes()
    pixels = by_cv2(cv2.IMREAD_COLOR)(image)
    if Path(args.image).suffix != ".png":
        image = cv2.imencode(".png", pixels)[1].tobytes()
    photo = Path(args.photo).read_bytes() if args.photo else cv2.imencode(
        ".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, 95))[1].tobytes()
    print(machine())
    for what, data, kind, flags in (
        ("color PNG", image, "png", cv2.IMREAD_COLOR_RGB),
        ("gray PNG", Path(args.label).read_bytes(), "png", cv2.IMREAD_GRAYSCALE),
        ("JPEG", photo, "jpeg", cv2.IMREAD_COLOR_RGB),
    ):
        found = decoders(kind, flags)
        expected = found[BASE](data)
        differ = [name for name, decode in found.items()
                  if not np.array_equal(decode(data), expected)]
        print(f"{what}, {expected.shape[1]}x{expected.shape[0]}, {len(data) / 1e6:.2f} MB; other "
              f"pixels: {', '.join(differ) or 'nowhere'}")
        works = {name: lambda _, decode=decode, data=data: decode(data)
                 for name, decode in found.items()}
        print(table(take_turns(works, args.rounds, clock=time.process_time), "images",
                    {BASE: BASE}))


if __name__ == "__main__":
    run(main)
