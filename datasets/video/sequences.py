"""The images of a city or a sequence of a data set, in order, with or without labels."""

from collections import defaultdict
from pathlib import Path

from datasets import DATASETS


def find_sequence(name: str, root: Path, city: str | None, split: str | None) -> list[Path]:
    """Images, sorted by name.

    Args:
        name: of the data set.
        root: its folder.
        city: or sequence; None is all of the split.
        split: None is the one that has the city, else val.

    Raises:
        FileNotFoundError: no such folder, or no images in it.
        ValueError: no such city; the message lists those that are there.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root.resolve()}: no such folder; give --data-root DIR, or set "
                                f"{name.upper()}_DATASET")
    dataset = DATASETS[name](root, "")
    parts = [split] if split else dataset.parts() if city else ["val"]
    known: set[str] = set()
    for part in parts:
        groups: dict[str, list[Path]] = defaultdict(list)
        for image, path in dataset.files(part).images.items():
            groups[dataset.group(image, path)].append(path)
        if city is None and groups:
            return [path for paths in groups.values() for path in paths]
        if city in groups:
            return groups[city]
        known |= groups.keys()
    if not known:
        raise FileNotFoundError(f"{root.resolve()}: no images of {name} ({', '.join(parts)}) in "
                                "it; give --data-root DIR")
    raise ValueError(f"{city}: no such city or sequence in {root}; there are "
                     f"{', '.join(sorted(known))}")
