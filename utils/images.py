"""Reads and writes images and label maps: the only place where pixels are decoded or encoded.

A file that is damaged, of another kind than expected or too large is refused in one line that names
it. PNG has checksums; in the other formats, a flipped bit may be a picture too.
"""

import importlib
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from io import BytesIO
from typing import Any, BinaryIO

import cv2
import numpy as np
from PIL import Image
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from utils.files import PathLike, patiently, shown, write_file

MAX_PIXELS = 64_000_000
BYTES_PER_PIXEL = 8  # four uncompressed 16-bit channels
_limit = MAX_PIXELS


# Not Image.open: its limit is larger, begins as a warning, and does not tell the size.
_FORMATS: list[tuple[str, bytes | tuple[bytes, ...], Callable[..., ImageFile]]] = [
    ("PNG", b"\x89PNG\r\n\x1a\n", PngImageFile),
    ("JPEG", b"\xff\xd8\xff", JpegImageFile),
    ("WEBP", b"WEBP", WebPImageFile),  # behind "RIFF" and the length
    ("BMP", b"BM", BmpImageFile),
    ("TIFF", (b"II*\0", b"MM\0*"), TiffImageFile),
    ("HEIC", (b"ftyphei", b"ftypmif1"), lambda file: _heif().HeifImageFile(file)),  # behind 4 bytes
]
_PNG_COLORS = {0: "gray", 2: "RGB", 3: "palette", 4: "gray with alpha", 6: "RGBA"}

DEPTHS = (8, 10, 12, 14, 16)  # bits of cameras

Palette = Sequence[Sequence[int]] | np.ndarray
Size = tuple[int, int]
LabelSize = Callable[[], Size] | None


def allow_pixels(number: int) -> None:
    """Sets how many pixels an image may have, in place of `MAX_PIXELS`."""
    global _limit
    _limit = number


def check_pixels(where: str, width: int, height: int) -> int:
    """The limit. Raises ValueError if a picture is above it."""
    if width * height > _limit:
        raise ValueError(f"{where}: {width}x{height}, over {_limit:,} pixels; resize it, or "
                         "demo.py and demo_folder.py take it by --max-pixels")
    return _limit


def read_image(
    path: PathLike, upright: bool = False, bits: int | None = None, label_size: LabelSize = None
) -> np.ndarray:
    """(H, W, 3) uint8 RGB of the first frame, without alpha; 16 bits are scaled to 8.

    Args:
        path: a PNG, JPEG, WEBP, BMP or TIFF.
        upright: turn it as its EXIF says, for people. A TIFF is always turned.
        bits: that a value of a 16-bit image has; None is 16, with a warning if it uses less
            than a quarter of them; with another if it has more.
        label_size: gives the (H, W) of the label, which decides in place of `upright` if EXIF
            exchanges the sides: labels may be drawn on stored pixels.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: not an image of these kinds, damaged, or larger than `MAX_PIXELS`.
    """
    data, image, pixels = _read_pixels(path)
    if pixels.dtype == np.uint16:
        if (needed := _bits(pixels)) > (bits or 16) or not bits and needed < 16:
            what = f"white: more than {bits}" if bits else f"dark: its values have {needed} of 16"
            warnings.warn(f"{shown(path)}: {what} bits; --bits {needed} shows them", stacklevel=2)
        full = (1 << (bits or 16)) - 1
        pixels = np.minimum(pixels, full).astype(np.uint32)
        pixels = ((pixels * 255 + full // 2) // full).astype(np.uint8)
    if upright or label_size:
        orientation = _orientation(image, BytesIO(data))
        if _turns(orientation, pixels.shape[:2], upright, label_size):
            pixels = _turn(pixels, orientation)
    return pixels


def needed_bits(path: PathLike) -> int | None:
    """The fewest of `DEPTHS` that hold a 16-bit image, None of another. Raises as `read_image`."""
    with open_image(path) as file:
        deep = stored_as(file.read(26)).startswith("16-bit")
        file.seek(0)
        deep = deep or _is_deep_tiff(_read_header(path, file))
    pixels = _read_pixels(path)[2] if deep else np.empty(0)
    return _bits(pixels) if pixels.dtype == np.uint16 else None


def _is_deep_tiff(image: ImageFile) -> bool:
    deep = image.mode.startswith("I;16")  # of 12 or 16 bits
    return isinstance(image, TiffImageFile) and (deep or 16 in image.tag_v2.get(258, ()))


def _bits(pixels: np.ndarray) -> int:
    largest = int(pixels.max(initial=0))
    return next(bits for bits in DEPTHS if largest >> bits == 0)


def _read_pixels(path: PathLike) -> tuple[bytes, ImageFile, np.ndarray]:
    """The file, its header, and (H, W, 3) uint8 or uint16 RGB."""
    data, image = _read(path)
    deep, tags = _is_deep_tiff(image), getattr(image, "tag_v2", {})
    noise = deep and tags.get(284) == 2  # is what libraries read of such planes
    if noise or image.mode in ("F", "I"):
        what = "16 bits in planes" if noise else f"32 bits a channel (mode {image.mode})"
        raise ValueError(f"{shown(path)}: {what}, expected 8 or 16 bits, interleaved; convert it")
    with _blaming(path, image.format):
        animated = getattr(image, "is_animated", False)
        if animated:
            warnings.warn(f"{shown(path)}: only the first frame is read", stacklevel=3)
        # The first frame of an animated PNG is another one in cv2 than in viewers.
        multiplied = tags.get(338) == (1,)  # by alpha, which PIL undoes
        if deep and image.mode in ("RGB", "RGBA") and not multiplied:
            # PIL gives the higher 8 bits alone; in RGB order, OpenCV gives other values.
            pixels = cv2.cvtColor(_decode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        elif image.format in ("PNG", "JPEG") and image.mode != "CMYK" and not animated:
            # 1.2 times (PNG) and 1.4 times (JPEG) as fast as PIL, with equal pixels.
            opaque = stored_as(data) == "8-bit RGB PNG" and "transparency" not in image.info
            fast = _png_decoder() if opaque else None
            pixels = fast(data) if fast else _decode(data, cv2.IMREAD_COLOR_RGB)
        elif image.mode.startswith("I;16"):
            pixels = cv2.cvtColor(np.asarray(image).astype(np.uint16), cv2.COLOR_GRAY2RGB)
            pixels = 65535 - pixels if tags.get(262) == 0 else pixels  # PIL leaves white at 0
        else:
            pixels = np.array(image.convert("RGB"))
    return data, image, pixels


def read_label(path: PathLike, palette: bool = False) -> np.ndarray:
    """(H, W) uint8 ids of an 8-bit gray PNG, or with `palette` the indices of a palette PNG.

    Raises ValueError for any other kind of image, else as `read_image`.
    """
    # Not fewer gray bits: some writers scale them and others do not, so 1 may be id 1 or id 255.
    kinds = [f"{bits}-bit palette PNG" for bits in (1, 2, 4, 8)] if palette else []
    return _read_map(path, ["8-bit gray PNG", *kinds])


def read_colors(path: PathLike) -> dict[int, tuple[int, ...]]:
    """RGB colors of the indices in the palette of a PNG; of another file none."""
    with open_image(path) as file:
        image = _read_header(path, file)
        with _blaming(path, image.format):  # PIL decodes the pixels for it
            entries = image.getpalette("RGB") or []
    return dict(enumerate(zip(*[iter(entries)] * 3, strict=True)))


def read_instances(path: PathLike) -> np.ndarray:
    """(H, W) uint16 instance ids of a 16-bit or 8-bit gray PNG. Raises as `read_label`."""
    return _read_map(path, ["16-bit gray PNG", "8-bit gray PNG"]).astype(np.uint16, copy=False)


def read_size(path: PathLike, upright: bool = False, label_size: LabelSize = None) -> Size:
    """(H, W) from the header alone: damage behind it is not seen. As `read_image` otherwise."""
    with open_image(path) as file:
        size = _read_header(path, file).size[::-1]
    if (upright or label_size) and size[0] != size[1]:
        orientation = read_orientation(path)
        if orientation >= 5 and _turns(orientation, size, upright, label_size):
            return size[1], size[0]
    return size


def read_orientation(path: PathLike) -> int:
    """1 to 8, EXIF 2.32, of the pixels as `read_image` finds them: 1 is upright, or not known."""
    with open_image(path) as file:
        return _orientation(_read_header(path, file), file)


def _orientation(image: ImageFile, file: BinaryIO) -> int:
    """From the header, or a PNG's EXIF; a broken one says nothing."""
    if image.format == "TIFF":  # PIL turns it
        return 1
    with suppress(Exception):  # of whatever library: the picture can be seen without
        exif = image.getexif() if image.format != "PNG" else Image.Exif()
        if image.format == "PNG":  # PIL would look for it behind the pixels, and decode them
            exif.load(_png_exif(file))
        orientation = exif.get(0x0112, 1)
        return orientation if orientation in range(1, 9) else 1
    return 1


def _png_exif(file: BinaryIO) -> bytes:
    """What the EXIF chunk of a PNG holds, wherever it is; nothing without one."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"eXIf":
            return file.read(length)
        file.seek(length + 4, os.SEEK_CUR)
    return b""


def _turns(orientation: int, size: Sequence[int], upright: bool, label_size: LabelSize) -> bool:
    """Whether an image of the stored `size` (H, W) is to be turned."""
    if orientation >= 5 and label_size and size[0] != size[1]:
        return label_size() == (size[1], size[0])
    return upright


def stored_as(head: bytes) -> str:
    """What the first 26 bytes of a file promise: "8-bit RGB PNG", "JPEG", ...; "" is no image."""
    start = head[8 if head[:4] == b"RIFF" else 4 if head[4:8] == b"ftyp" else 0 :]
    name = next((name for name, signature, _ in _FORMATS if start.startswith(signature)), "")
    bits = f"{head[24]}-bit {_PNG_COLORS.get(head[25])} " if name == "PNG" and head[25:] else ""
    return bits + name


def seen_size(own: Sequence[int], size: Sequence[int] | None) -> tuple[int, int]:
    """(h, w) of an image of (H, W) = `own` at `size`: (h, w), (longer side,), or None as it is."""
    size = own if size is None else size
    if len(size) == 1:
        size = [max(1, round(side * size[0] / max(own))) for side in own]
        check_pixels(f"an image of {own[1]}x{own[0]}, seen", size[1], size[0])
    return size[0], size[1]


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """(H, W, 3) uint8 at `size`, as of `seen_size`: what an evaluated network sees."""
    height, width = seen_size(image.shape[:2], size)
    shrinks = height * width < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (width, height), interpolation=method)


def write_png(path: PathLike, array: np.ndarray) -> None:
    """Writes a PNG whole or not at all, over an existing file; makes its folder.

    The array is (H, W) uint8 or uint16, or (H, W, 3) uint8 RGB; ValueError for another. Raises
    OSError if it cannot be written.
    """
    kind = (array.dtype, array.shape[2:] if array.ndim > 1 and array.size else None)
    if kind not in [(np.uint8, ()), (np.uint16, ()), (np.uint8, (3,))]:
        raise ValueError(f"{shown(path)}: a PNG of {array.dtype} {array.shape}, expected "
                         "uint8 or uint16 (H, W), or uint8 (H, W, 3)")
    if array.ndim == 3:  # cvtColor is 40 times as fast as a copy of array[..., ::-1]
        array = cv2.cvtColor(np.ascontiguousarray(array), cv2.COLOR_RGB2BGR)
    # The default parameters: 2 to 3 times as fast as PIL's fastest level, at about its size.
    write_file(path, cv2.imencode(".png", np.ascontiguousarray(array))[1].tobytes(), durable=False)


@contextmanager
def open_image(path: PathLike) -> Iterator[BinaryIO]:
    """A regular file of a sensible size, opened; errors name it. Raises as `read_image`."""
    with _naming(path), patiently(path, partial(_open, path)) as file:
        yield file


def _open(path: PathLike) -> BinaryIO:
    status = os.stat(path)
    if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for its writer
        raise ValueError(f"{shown(path)}: not a file, but a folder, a pipe or a device")
    if status.st_size > BYTES_PER_PIXEL * _limit:
        raise ValueError(f"{shown(path)}: {status.st_size:,} bytes, at most "
                         f"{BYTES_PER_PIXEL * _limit:,}")
    return open(path, "rb")


def _read_bytes(path: PathLike) -> bytes:
    with _open(path) as file:
        return file.read()


@contextmanager
def _naming(path: PathLike) -> Iterator[None]:
    """Turns what the file system says of a path into one line about it."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(path)}: no such file, or a link to none") from None
    except OSError as error:  # no permission, a loop of links, a name too long, a failing disk
        raise ValueError(f"{shown(path)}: {error.strerror}") from None


def _read_header(path: PathLike, file: BinaryIO) -> ImageFile:
    head = file.read(26)
    if not (kind := stored_as(head)):
        what = "not an image of a known kind" if head else "an empty file"
        raise ValueError(f"{shown(path)}: {what}, expected PNG, JPEG, WEBP, BMP or TIFF")
    file.seek(0)
    name = kind.split()[-1]
    if name == "HEIC" and _heif() is None:
        raise ValueError(f"{shown(path)}: HEIC, which pillow-heif reads: pip install pillow-heif, "
                         "or convert it to JPEG")
    with _blaming(path, name):
        image = next(reader for each, _, reader in _FORMATS if each == name)(file)
    check_pixels(shown(path), image.width, image.height)
    return image


def _heif() -> Any:
    """The optional package that decodes HEIC, None without it."""
    with suppress(ImportError):
        return importlib.import_module("pillow_heif")
    return None


def _read(path: PathLike) -> tuple[bytes, ImageFile]:
    """The bytes of a file that is complete as far as its kind can tell, and its parsed header."""
    with _naming(path):
        stream = BytesIO(patiently(path, partial(_read_bytes, path)))
    data, image = stream.getvalue(), _read_header(path, stream)
    # Older cv2, and PIL once any library set LOAD_TRUNCATED_IMAGES, fill what is missing.
    with _blaming(path, image.format):
        if image.format == "PNG":
            _check_png(data)
        # PIL stops at the first scan; an end marker before it would be that of a thumbnail.
        elif image.format == "JPEG" and data.rfind(b"\xff\xd9") < stream.tell():
            raise ValueError("no end marker")
    return data, image


def _check_png(data: bytes) -> None:
    position, kind = 8, b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 8 + length
        if struct.unpack_from(">I", data, end)[0] != zlib.crc32(data[position + 4 : end]):
            raise ValueError(f"wrong checksum at byte {end}")
        position = end + 4


@lru_cache(1)
def _png_decoder() -> Callable[[bytes], np.ndarray] | None:
    """imagecodecs', where it is installed: 1.5 times as fast as OpenCV's, with equal pixels."""
    try:
        return importlib.import_module("imagecodecs").png_decode
    except ImportError:
        return None


def _decode(data: bytes, color: int) -> np.ndarray:
    flags = color | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise ValueError("not decoded")
    return pixels


@contextmanager
def _blaming(path: PathLike, kind: str | None) -> Iterator[None]:
    """Turns whatever a decoder runs into within a damaged file into one line about the file."""
    try:
        yield
    except Exception as error:
        what = "truncated or damaged" if kind in ("PNG", "JPEG") else "damaged or unsupported"
        raise ValueError(f"{shown(path)}: {what} {kind}; restore the file") from error


def _read_map(path: PathLike, kinds: Sequence[str]) -> np.ndarray:
    """(H, W) values or palette indices, uint8 or uint16, of a PNG of one of these kinds."""
    data, image = _read(path)
    kind = stored_as(data)
    if kind not in kinds:
        given = f"a color label ({image.mode})" if image.mode.startswith("RGB") else kind
        raise ValueError(f"{shown(path)}: {given}, expected a single channel of ids ({kinds[0]}); "
                         "point to the id maps, not to pictures of them")
    with _blaming(path, image.format):
        # PIL would fill missing rows with 0, but cv2 gives no palette indices.
        return np.array(image) if image.mode == "P" else _decode(data, cv2.IMREAD_GRAYSCALE)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """The stored pixels as they are to be seen; EXIF 2.32, tag Orientation, 1..8."""
    pixels = pixels.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else pixels
    pixels = pixels[::-1] if orientation in (3, 4, 7, 8) else pixels
    pixels = pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
    return np.ascontiguousarray(pixels)
