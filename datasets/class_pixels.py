"""Pixels per class of a split, counted once and kept beside the data."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from datasets.base import SegmentationDataset
from utils.checkpoint import write_bytes


class _Histograms(Dataset):
    """Per sample (256,) int64 pixels of each train id."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> np.ndarray:
        target = self.dataset.to_train_ids(self.dataset.read_ids(index), index)
        return np.bincount(target.ravel(), minlength=256)


def names_digest(dataset: SegmentationDataset) -> str:
    """Changes when the list of samples does, not when they are copied elsewhere."""
    names = "\n".join(sample.name for sample in dataset.samples)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def fingerprint(dataset: SegmentationDataset) -> str:
    """Changes when the labels, their sizes or times, or the classes change."""
    digest = hashlib.sha256(dataset.id_to_train_id.tobytes())
    for sample in dataset.samples:
        status = os.stat(sample.label)
        digest.update(f"{sample.label} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def cache_folder(root: Path) -> Path:
    """Beside the data if that can be written, else in the user's cache."""
    folder = root / ".streetseg"
    try:
        folder.mkdir(exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass
    folder = Path.home() / ".cache" / "streetseg"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def count_class_pixels(dataset: SegmentationDataset, workers: int = 0) -> torch.Tensor:
    """(C,) int64 pixels of each class in a split; ignored pixels are not counted."""
    name = f"class_pixels_{dataset.split}_{fingerprint(dataset)}.json"
    path = cache_folder(dataset.root) / name
    size = len(dataset.class_names)
    if path.exists():
        pixels = json.loads(path.read_text())["pixels"]
        if len(pixels) == size:
            return torch.tensor(pixels)
    loader = DataLoader(_Histograms(dataset), batch_size=None, num_workers=workers)
    counts = torch.zeros(256, dtype=torch.int64)
    for histogram in tqdm(loader, desc="class pixels", disable=None, unit="image"):
        counts += torch.as_tensor(histogram)
    pixels = counts[:size]
    content = {"classes": list(dataset.class_names), "pixels": pixels.tolist()}
    write_bytes(path, json.dumps(content, indent=1).encode())
    print(f"class pixels of {len(dataset)} labels: {path}")
    return pixels
