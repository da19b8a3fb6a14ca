"""Which label belongs to which image: by name, never by order."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    image: Path
    label: Path | None
    instance: Path | None
    name: str  # unique in its split; predictions are named after it
    group: str  # city or sequence


def by_name(paths: Iterable[Path], suffix: str = "") -> dict[str, Path]:
    """Name -> path, sorted; the name is the file's, without `suffix` or its own suffix.

    Hidden files (`._x.png` of unpacked Mac archives) are passed over.

    Raises:
        ValueError: two files have one name.
    """
    found: dict[str, Path] = {}
    for path in sorted(path for path in paths if not path.name.startswith(".")):
        name = path.name.removesuffix(suffix) if suffix else path.stem
        if name in found:
            raise ValueError(f"{path}: the name {name} is also that of {found[name]}")
        found[name] = path
    return found


def pair(
    images: dict[str, Path],
    labels: dict[str, Path],
    group: Callable[[str, Path], str],
    instance: Callable[[Path], Path | None] = lambda label: None,
) -> list[Sample]:
    """A sample per image; without any labels, samples without.

    Raises:
        ValueError: some images have no label, or some labels no image.
    """
    bare = [path for name, path in images.items() if name not in labels]
    if labels and bare:
        raise ValueError(f"{bare[0]}: no label; {len(bare)} of {len(images)} images have none")
    orphans = [path for name, path in labels.items() if name not in images]
    if orphans:
        raise ValueError(f"{orphans[0]}: no image; {len(orphans)} labels have none")
    return [
        Sample(path, label, label and instance(label), name, group(name, path))
        for name, path in images.items()
        for label in (labels.get(name),)
    ]
