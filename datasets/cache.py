"""Decoded samples on disk, read in place of a data set's files; `datasets.cache_files` makes them.

raw is read through a memory map, so that a crop costs the rows it lies on and no more; checksums
are compared when it is made, and on request. compressed (differences of neighboring columns, then
zstd) is read whole and compared with its checksum every time.
"""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.pairing import Sample

CACHES = ("raw", "compressed")


class Entry(NamedTuple):
    """Where a sample is: its image, and behind it its ids."""

    data: Path
    offset: int
    shape: tuple[int, int]  # H, W
    lengths: tuple[int, int]  # bytes of image and ids
    checksums: tuple[int, int]  # CRC-32 of these bytes


class Cache:
    """Cached samples; every process that gets it, forked or as a pickle, reads for itself.

    Args:
        kind: one of CACHES.
        entries: where each sample is.
    """

    def __init__(self, kind: str, entries: dict[Sample, Entry]) -> None:
        self.kind, self.entries = kind, entries
        self.maps: dict[Path, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"maps": {}}

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB; of a raw cache a read-only view of the file."""
        return self._read(sample, 0)

    def read_ids(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8 ids, as `read_image`."""
        return self._read(sample, 1)

    def intact(self, sample: Sample) -> bool:
        """Compares a sample with its checksums."""
        entry = self.entries[sample]
        stored = tuple(zlib.crc32(self._bytes(entry, part).data) for part in (0, 1))
        return stored == entry.checksums

    def _read(self, sample: Sample, part: int) -> np.ndarray:
        entry = self.entries[sample]
        stored = self._bytes(entry, part)
        shape = entry.shape if part else (*entry.shape, 3)
        if self.kind == "raw":
            return stored.reshape(shape)
        if zlib.crc32(stored.data) != entry.checksums[part]:
            raise ValueError(
                f"{entry.data}: {sample.name} is damaged; preprocess_data.py --cache compressed "
                "--verify makes it again"
            )
        return decompress(stored, shape)

    def _bytes(self, entry: Entry, part: int) -> np.ndarray:
        """What is stored of an image (part 0) or of ids (part 1)."""
        if entry.data not in self.maps:  # a plain array: each view of a memmap costs microseconds
            self.maps[entry.data] = np.asarray(np.memmap(entry.data, np.uint8, "r"))
        start = entry.offset + sum(entry.lengths[:part])
        return self.maps[entry.data][start : start + entry.lengths[part]]


def compress(array: np.ndarray) -> bytes:
    """An image (H, W, 3) or ids (H, W), without loss."""
    if array.ndim == 3:  # zstd alone finds nothing in photographs
        array = np.concatenate([array[:, :1], array[:, 1:] - array[:, :-1]], axis=1)
    return load_zstandard().ZstdCompressor(level=1).compress(np.ascontiguousarray(array))


def decompress(data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What `compress` was given."""
    pixels = load_zstandard().ZstdDecompressor().decompress(data)
    array = np.frombuffer(pixels, np.uint8).reshape(shape)
    return np.cumsum(array, axis=1, dtype=np.uint8) if array.ndim == 3 else array


def load_zstandard() -> Any:
    """The optional package. Raises ValueError without it."""
    try:
        import zstandard
    except ImportError:
        raise ValueError(
            "--cache compressed: needs a package, pip install zstandard; or choose --cache raw"
        ) from None
    return zstandard
