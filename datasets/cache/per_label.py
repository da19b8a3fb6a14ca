"""Statistics of every label of a split, computed once and kept beside the data."""

import contextlib
import copy
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from datasets.base import SegmentationDataset
from utils.files import blaming, write_file
from utils.labels import histogram
from utils.workers import map_in_threads


def cache_folder(root: Path) -> Path:
    """Beside the data if that can be written, else in the user's cache."""
    folder = root / ".streetseg"
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = Path.home() / ".cache" / "streetseg"
    with blaming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def per_label(
    dataset: SegmentationDataset, name: str, measure: Callable[[np.ndarray], np.ndarray],
    threads: int = 1,
) -> list[np.ndarray]:
    """`measure((H, W) uint8 train ids)` of every label, in order; computed once, then cached.

    Args:
        dataset: its labels are read.
        name: of the cache file, with all that the result depends on but the labels.
        measure: gives an integer array.
        threads: that read labels.
    """
    # Changes when the labels, their sizes or times, or the classes or their colors change.
    digest = hashlib.sha256(dataset.id_to_train_id.tobytes())
    digest.update(repr(dataset.label_colors).encode() * bool(dataset.label_colors))
    for sample in dataset.samples:
        status = os.stat(sample.truth)
        digest.update(os.fsencode(f"{sample.truth} {status.st_size} {status.st_mtime_ns}\n"))
    stem = f"{name}_{dataset.split}_{digest.hexdigest()[:16]}"
    path = cache_folder(dataset.root) / f"{stem}.npz"
    with contextlib.suppress(Exception), np.load(path) as stored:  # else it is made again
        rows, ends = stored["rows"], stored["ends"]
        if len(ends) == len(dataset) and ends[-1] == len(rows):
            return np.split(rows, ends)[:-1]

    def read(index: int) -> np.ndarray:
        return measure(dataset.to_train_ids(dataset.read_ids(index), index))

    jobs = map_in_threads(read, range(len(dataset)), threads)
    results = list(tqdm(jobs, name, len(dataset), disable=None, unit="label"))
    content = io.BytesIO()
    np.savez(content, rows=np.concatenate(results), ends=np.cumsum([len(r) for r in results]))
    try:
        write_file(path, content.getbuffer())
    except OSError as error:  # they are counted again the next time
        print(f"note: {error.strerror}")
    else:
        print(f"{name} of {len(dataset)} labels: {path}")
    return results


def count_class_pixels(
    dataset: SegmentationDataset, threads: int = 1, first: int | None = None
) -> torch.Tensor:
    """(C,) int64 pixels of each class in the `first` labels, default all; not the ignored ones."""
    dataset = copy.copy(dataset)
    dataset.samples = dataset.samples[:first]
    histograms = per_label(dataset, "class_pixels", lambda ids: histogram(ids)[None], threads)
    return torch.from_numpy(np.sum(histograms, axis=0)[0, : len(dataset.class_names)])
