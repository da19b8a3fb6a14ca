"""Makes the cache of decoded samples, once, and makes again what has changed.

A cache is a number of parts: `NAME.data` has some samples one after the other, `NAME.json` says
which, where, and what their files were. A sample is found by its files, so a longer or shorter list
of samples (propagated frames, --limit) shares what is there and adds what is not. The index is
written last: a part without one is what a killed process left, and is removed.
"""

import contextlib
import hashlib
import itertools
import json
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from tqdm import tqdm

from datasets.base import SegmentationDataset
from datasets.cache.per_label import cache_folder
from datasets.samples import Sample, check_sizes
from utils import distributed
from utils.files import check_room, replacing, shown, sweep, write_file
from utils.locks import Lock
from utils.workers import map_in_threads

VERSION = 1  # to be raised when the same files give other bytes
PART_BYTES = 1 << 30  # decoded; what a killed process has to do again
Key = tuple[str, ...]  # image and label, as an index names them


class Entry(NamedTuple):
    """Where a sample is: its image, and behind it its ids."""

    data: Path
    offset: int
    shape: tuple[int, int]  # H, W
    lengths: tuple[int, int]  # bytes of image and ids
    checksums: tuple[int, int]  # CRC-32 of these bytes


class Cache:
    """Cached samples and where they are; every process that gets it reads for itself."""

    def __init__(self, entries: dict[Sample, Entry]) -> None:
        self.entries = entries
        self.files: dict[Path, BinaryIO] = {}
        self.checked: set[tuple[Sample, int]] = set()  # compared with their checksums

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"files": {}}

    def read_image(self, sample: Sample) -> np.ndarray:
        """(H, W, 3) uint8 RGB, read-only. Raises ValueError if it is damaged."""
        return self._bytes(sample, 0).reshape(*self.entries[sample].shape, 3)

    def read_ids(self, sample: Sample) -> np.ndarray:
        """(H, W) uint8 ids, as `read_image`."""
        return self._bytes(sample, 1).reshape(self.entries[sample].shape)

    def intact(self, sample: Sample) -> bool:
        """Compares a sample with its checksums."""
        with contextlib.suppress(ValueError):
            return all(self._bytes(sample, part) is not None for part in (0, 1))
        return False

    def _bytes(self, sample: Sample, part: int) -> np.ndarray:
        """What is stored of an image (part 0) or of ids (part 1); checked when first read."""
        entry = self.entries[sample]
        file = self.files.get(entry.data)
        if file is None:  # of threads that open it at once, all take the file of the first
            file = self.files.setdefault(entry.data, entry.data.open("rb", buffering=0))
        start, length = entry.offset + sum(entry.lengths[:part]), entry.lengths[part]
        # Not a map of the file: if that shrinks, the process dies of a signal.
        stored = os.pread(file.fileno(), length, start)
        new = (sample, part) not in self.checked
        if len(stored) < length or new and zlib.crc32(stored) != entry.checksums[part]:
            raise ValueError(f"{shown(entry.data)}: {shown(sample.name)} is damaged or cut off; "
                             "delete the file, it is made again")
        if new:
            self.checked.add((sample, part))
        return np.frombuffer(stored, np.uint8)


def open_cache(dataset: SegmentationDataset, threads: int = 1, verify: bool = False) -> Cache:
    """The cache of all samples of a data set; what is missing or out of date is made first.

    Args:
        dataset: its samples, complete.
        threads: decode beside each other.
        verify: compare what is there with its checksums, and make again what differs.

    Raises ValueError: a file cannot be decoded; OSError: not enough room, or it cannot be written.
    """
    return Cache(CacheFiles(dataset, threads).complete(verify))


class CacheFiles:
    """The parts of a cache on disk. Arguments as of `open_cache`."""

    KIND = "raw"
    SOURCES = ("image", "label")  # what of a sample are the files that it is made from

    def __init__(self, dataset: SegmentationDataset, threads: int) -> None:
        self.dataset, self.threads = dataset, max(1, threads)
        self.folder = cache_folder(dataset.root)
        kind = self.KIND
        if kind == "raw":  # images that are read in another way are others
            kind += "".join(str(how) for how in (dataset.exif, dataset.bits) if how)
        self.name = f"{kind}_{type(dataset).__name__.lower()}"
        if self.folder.parent != dataset.root:  # a folder for all data sets of a user
            self.name += "_" + hashlib.sha256(bytes(dataset.root)).hexdigest()[:12]

    def complete(self, verify: bool = False) -> dict[Sample, Entry]:
        """Where every sample is, after those that were not there have been made."""
        with self.lock():
            entries = self.find(verify)
            if missing := [i for i, s in enumerate(self.dataset.samples) if s not in entries]:
                entries |= self.make(missing)
        return entries

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Waits until no other process makes this cache."""
        lock = Lock(self.folder / f".{self.name}.lock")
        for tries in itertools.count():
            if not (owner := lock.take()):
                break
            if tries == 20:
                distributed.say(f"waiting for the process that makes the cache: {owner}")
            time.sleep(0.1)
        try:
            yield
        finally:
            lock.release()

    def find(self, verify: bool = False) -> dict[Sample, Entry]:
        """The samples that are there; parts that are damaged or out of date are removed."""
        samples = {self._key(sample): sample for sample in self.dataset.samples}
        found: dict[Sample, Entry] = {}
        sweep(self.folder, f"{self.name}_")
        for data in sorted(self.folder.glob(f"{self.name}_{'[0-9a-f]' * 12}.data")):
            entries, fault = self._read_part(data, samples)
            if verify and not fault and not self._intact(entries):
                fault = "damaged"
            if fault:
                print(f"{self.KIND} cache: {data} is {fault}; it is made again")
                data.with_suffix(".json").unlink(missing_ok=True)  # first: it makes the part one
                data.unlink()
            else:
                found |= entries
        return found

    def make(self, indices: list[int]) -> dict[Sample, Entry]:
        """Decodes and writes samples, part by part."""
        sizes = check_sizes(self.dataset, [self.dataset.samples[i] for i in indices])
        counts = [4 * height * width for height, width in sizes]  # bytes of RGB and ids
        about, need = "", sum(counts)
        if self.KIND != "raw":
            trial = [self.encode(i) for i in indices[:: len(indices) // 4 + 1]]
            stored = sum(each.nbytes for _, arrays in trial for each in arrays)
            need = int(need * stored / sum(4 * height * width for (height, width), _ in trial))
            about = "about "
        print(f"{self.KIND} cache: {about}{need / 1e9:.2f} GB for {len(indices)} samples, "
              f"{self.folder}")
        check_room(self.folder, need)
        entries: dict[Sample, Entry] = {}
        numbers = np.cumsum(counts) // PART_BYTES
        with tqdm(total=len(indices), desc=self.KIND, disable=None, unit="image") as bar:
            for number in np.unique(numbers):
                part = [i for i, n in zip(indices, numbers, strict=True) if n == number]
                entries |= self._write_part(part, bar)
        return entries

    def _write_part(self, indices: list[int], bar: tqdm) -> dict[Sample, Entry]:
        data = self.folder / f"{self.name}_{secrets.token_hex(6)}.data"  # never an earlier name
        samples = [self.dataset.samples[i] for i in indices]
        states = [self._state(sample) for sample in samples]  # before they are read
        entries: dict[Sample, Entry] = {}
        with replacing(data) as part, part.open("wb") as file:
            encoded = map_in_threads(self.encode, indices, self.threads)
            for sample, (shape, arrays) in zip(samples, encoded, strict=True):
                parts: list[Any] = [*(each.reshape(-1).view(np.uint8) for each in arrays), b""]
                image, ids = parts[:2]
                checksums = zlib.crc32(image), zlib.crc32(ids)
                entries[sample] = Entry(data, file.tell(), shape, (len(image), len(ids)), checksums)
                file.writelines((image, ids))
                bar.update()
        if not self._intact(entries):
            raise OSError(f"{data}: reads other bytes than were written; a failing disk?")
        records = [(self._key(sample), state, *entry[1:])
                   for (sample, entry), state in zip(entries.items(), states, strict=True)]
        index = {"version": VERSION, "bytes": data.stat().st_size, "samples": records}
        write_file(data.with_suffix(".json"), json.dumps(index).encode())
        return entries

    def encode(self, index: int) -> tuple[tuple[int, int], list[np.ndarray]]:
        """(H, W), and image and ids (none without a label) as they are stored."""
        sample = self.dataset.samples[index]
        arrays = [self.dataset.read_image(index)]
        if sample.label:
            arrays.append(self.dataset.read_ids(index))
            if arrays[0].shape[:2] != arrays[1].shape:
                raise ValueError(f"{sample.label}: not the size of its image")
        return arrays[0].shape[:2], arrays

    def _read_part(self, data: Path, samples: dict[Key, Sample]) -> tuple[dict[Sample, Entry], str]:
        """What a part has of `samples`, and what is wrong with it."""
        entries = {}
        try:
            index = json.loads(data.with_suffix(".json").read_bytes())
            if index["version"] != VERSION or index["bytes"] != data.stat().st_size:
                return {}, "of another version, or cut off"
            for key, state, offset, *rest in index["samples"]:
                sample = samples.get(tuple(key))
                if sample and state != self._state(sample):
                    return {}, f"out of date: {sample.name}, or the colors of the classes, changed"
                if sample:
                    entries[sample] = Entry(data, offset, *map(tuple, rest))
        except FileNotFoundError:
            return {}, "incomplete"
        except (ValueError, KeyError, TypeError):
            return {}, "damaged"
        return entries, ""

    def _intact(self, entries: dict[Sample, Entry]) -> bool:
        return all(map_in_threads(Cache(entries).intact, entries, self.threads))

    def _key(self, sample: Sample) -> Key:
        """Names that stay when the data set is moved with its cache."""
        root = self.dataset.root
        return tuple(str(path.relative_to(root) if path and path.is_relative_to(root) else path)
                     for path in (sample.image, sample.label))

    def _state(self, sample: Sample) -> list[int]:
        """Changes when the files do, or what their colors mean."""
        paths = [getattr(sample, name) for name in self.SOURCES]
        found = [os.stat(path) for path in paths if path]
        colors = self.dataset.label_colors
        values = [value for status in found for value in (status.st_size, status.st_mtime_ns)]
        return values + [zlib.crc32(repr(colors).encode())] * bool(colors)
