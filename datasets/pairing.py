"""Which label belongs to which image: by name, never by order."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from utils.images import read_size

Size = tuple[int, int]


@dataclass(frozen=True)
class Sample:
    image: Path
    label: Path | None
    instance: Path | None
    name: str  # unique in its split; predictions are named after it
    group: str  # city or sequence

    @property
    def truth(self) -> Path:
        """The label; ValueError where there is none."""
        if self.label is None:
            raise ValueError(f"{self.image}: has no label; choose a labelled split")
        return self.label


@dataclass(frozen=True)
class Files:
    """What is on disk of a split, name -> path, before it is paired; and what was looked for."""

    images: dict[str, Path]
    image_pattern: str  # relative to the root
    labels: dict[str, Path] = field(default_factory=dict)
    label_pattern: str | None = None  # None: this split has no labels
    hint: str = ""  # where else it may be, when there are no images

    @property
    def bare(self) -> list[Path]:
        """Images without a label."""
        return [path for name, path in self.images.items() if name not in self.labels]

    @property
    def orphans(self) -> list[Path]:
        """Labels without an image."""
        return [path for name, path in self.labels.items() if name not in self.images]

    def pairs(self) -> Iterable[tuple[str, Path, Path | None]]:
        """Name, image and label (None in a split without labels) of every image.

        Raises:
            ValueError: some images have no label, or some labels no image.
        """
        if self.label_pattern and self.bare:
            raise ValueError(
                f"{self.bare[0]}: no label; {len(self.bare)} of {len(self.images)} images have none"
            )
        if self.orphans:
            raise ValueError(f"{self.orphans[0]}: no image; {len(self.orphans)} labels have none")
        for name, path in self.images.items():
            yield name, path, self.labels.get(name)


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


def check_sizes(samples: list[Sample], label_size: Callable[[Path], Size]) -> list[Size]:
    """(H, W) of every image, from the headers.

    Raises:
        ValueError: a label has another size than its image.
    """
    def size(sample: Sample) -> Size:
        image = read_size(sample.image)
        if sample.label and (label := label_size(sample.label)) != image:
            raise ValueError(
                f"{sample.label}: {label[1]}x{label[0]}, its image {image[1]}x{image[0]}"
            )
        return image

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(size, samples))
