"""The folder that predictions for a benchmark are collected in, until they are a package.

pred/ holds ids and nothing else, laid out as in the package; rgb/ (colors) and compose/ (colors
over the image) are for people. Scorers that search a folder take a color picture for a prediction.
"""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from utils import distributed, files
from utils.images import Palette, Size, read_size, write_png
from utils.labels import to_ids
from utils.pictures import colorize, overlay
from utils.submission.package import THREADS, Findings, Package, find_fault, inspect
from utils.workers import map_in_threads

PRED, RGB, COMPOSE = "pred", "rgb", "compose"
SETTINGS, DONE = "settings.json", "test.json"  # the latter is written last


@dataclass(frozen=True)
class ResultsFolder:
    """Where the predictions of one network for one package go."""

    folder: Path
    package: Package  # what is expected in it
    title: str  # name of the zip, without suffix
    pictures: bool = False  # whether rgb/ and compose/ are wanted

    def check(self, settings: dict[str, Any], go_on: bool) -> dict[str, Any]:
        """Refuses to mix the predictions of two networks, or of one with different settings.

        Args:
            settings: all that decides what a prediction is.
            go_on: whether predictions may be there, made with the same settings.

        Returns the settings; where predictions are there, with theirs for what is left open.

        Raises ValueError: what is there, and what to do.
        """
        if not any(self.folder.glob(f"{PRED}/*")):
            return settings
        if not go_on:
            raise ValueError(f"{self.folder / PRED}: holds predictions; --skip-done goes on with "
                             "them, and another --save-dir keeps two networks apart")
        record = self.folder / SETTINGS
        known, auto = files.read_settings(record), settings["precision"] == "auto"
        precision = known.get("precision") if auto else settings["precision"]
        if precision not in ("fp32", "bf16", "fp16"):  # old records say auto, which may be either
            precision = "unknown"
        compiled = settings["compile"]
        settings = {**settings, "precision": precision,
                    "compile": known.get("compile") if compiled is None else compiled}
        files.check_settings(record, settings, "predictions")
        if auto:
            distributed.say(f"precision: {precision}, as of the predictions in {self.folder}")
        return settings

    def unfinished(self, images: Sequence[Path], device: torch.device) -> list[int]:
        """Indices of the images that have no prediction as it should be, or are newer than it.

        The same on all ranks.
        """
        items = [(image, *item) for image, item in
                 zip(images, self.package.sizes.items(), strict=True)]
        mine = distributed.shard(len(items))
        done = torch.zeros(len(items), dtype=torch.int64)
        jobs = map_in_threads(lambda index: self._is_done(*items[index]), mine, THREADS)
        bar = tqdm(jobs, "check", len(mine), unit="file", disable=distributed.rank() > 0 or None)
        done[list(mine)] = torch.tensor(list(bar), dtype=torch.int64)
        # Ranks that looked at a network disk on their own might disagree.
        return (distributed.sum_over_ranks(done.to(device)) == 0).nonzero()[:, 0].tolist()

    def start(self, settings: dict[str, Any]) -> None:
        """Records the settings and removes what an earlier attempt left, on the main rank."""
        with files.blaming(self.folder):
            for left in (self.zip, self.folder / DONE):
                left.unlink(missing_ok=True)
        files.begin(self.folder / SETTINGS, settings)

    def write(self, path: str, train_ids: np.ndarray) -> None:
        """Writes one prediction, (H, W) uint8 train ids, as the package has it."""
        ids = to_ids(train_ids, self.package.train_id_to_id, self.package.void)
        write_png(self.folder / PRED / path, ids)

    def write_pictures(
        self, path: str, train_ids: np.ndarray, image: np.ndarray, palette: Palette
    ) -> None:
        """Writes the prediction in colors, alone and over its image, (H, W, 3) uint8 RGB."""
        write_png(self._picture(RGB, path), colorize(train_ids, palette))
        write_png(self._picture(COMPOSE, path), overlay(image, train_ids, palette))

    def pack(self) -> Findings:
        """Writes the zip, checks it with a second reader, and only then gives it its name.

        Raises ValueError that lists predictions that are missing or wrong, or OSError.
        """
        with files.replacing(self.zip) as part:
            with zipfile.ZipFile(part, "w") as archive:
                for name in tqdm(self.package.sizes, "pack", unit="file", disable=None):
                    self._add(archive, name)
            findings = inspect(part, self.package)
            findings.raise_faults(self.zip)
        return findings

    @property
    def zip(self) -> Path:
        """The package."""
        return self.folder / f"{self.title}.zip"

    def _add(self, archive: zipfile.ZipFile, name: str) -> None:
        """Packs a prediction that is there, as the same bytes whenever it is the same file."""
        file, member = self.folder / PRED / name, zipfile.ZipInfo(name)
        if file.is_file():  # the check of the package says which are missing
            member.compress_type, member.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            archive.writestr(member, file.read_bytes(), compresslevel=1)

    def _picture(self, kind: str, path: str) -> Path:
        return self.folder / kind / path.removeprefix(self.package.folder)

    def _is_done(self, image: Path, path: str, size: Size) -> bool:
        place = self.folder / PRED / path
        try:
            data = files.read_file(place)
            if image.stat().st_mtime > place.stat().st_mtime:
                return False
            pictures = [self._picture(kind, path) for kind in (RGB, COMPOSE) if self.pictures]
            return all(read_size(picture) == size for picture in pictures) and not find_fault(
                path, data, size, self.package
            )
        except (OSError, ValueError):
            return False
