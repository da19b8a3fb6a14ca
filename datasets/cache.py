"""Decoded samples on disk, read in place of a data set's files; `datasets.cache_files` makes them.

They are read through a memory map, so that a crop costs the rows it lies on and no more; checksums
are compared when they are made, and on request.
"""

import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from datasets.samples import Sample


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
        entries: where each sample is.
    """

    def __init__(self, entries: dict[Sample, Entry]) -> None:
        self.entries = entries
        self.maps: dict[Path, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"maps": {}}

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB, a read-only view of the file."""
        entry = self.entries[sample]
        return self._bytes(entry, 0).reshape(*entry.shape, 3)

    def read_ids(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8 ids, as `read_image`."""
        entry = self.entries[sample]
        return self._bytes(entry, 1).reshape(entry.shape)

    def intact(self, sample: Sample) -> bool:
        """Compares a sample with its checksums."""
        entry = self.entries[sample]
        stored = tuple(zlib.crc32(self._bytes(entry, part).data) for part in (0, 1))
        return stored == entry.checksums

    def _bytes(self, entry: Entry, part: int) -> np.ndarray:
        """What is stored of an image (part 0) or of ids (part 1)."""
        if entry.data not in self.maps:  # a plain array: each view of a memmap costs microseconds
            self.maps[entry.data] = np.asarray(np.memmap(entry.data, np.uint8, "r"))
        start = entry.offset + sum(entry.lengths[:part])
        return self.maps[entry.data][start : start + entry.lengths[part]]
