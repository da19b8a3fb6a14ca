"""What is wrong, given what was listed and measured: one pure function per kind of fault."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from datasets.base import SegmentationDataset
from datasets.classes import UNKNOWN, ClassTable, Color
from datasets.doctor.faults import Fault
from datasets.doctor.measure import ImageFacts, LabelFacts
from datasets.folder import Folder
from datasets.samples import Files
from utils.labels import IGNORE

Count = tuple[int, int]  # pixels and images
MOST_RUNS = 6  # of consecutive ids that are printed


def class_table(dataset: SegmentationDataset) -> list[Fault]:
    """One class alone, and classes of one color, where the user has chosen them."""
    table = dataset.classes
    names: dict[tuple[int, ...], str] = {}
    clashes = [f"{names[tuple(color)]} and {name}" for name, color in
               zip(table.class_names, table.palette, strict=True)
               if names.setdefault(tuple(color), name) != name]
    found = one_class(range(len(table.class_names)), table)
    return found + [Fault("same-color", detail=clash) for clash in clashes
                    if isinstance(dataset, Folder)]


def one_class(present: Collection[int], table: ClassTable) -> list[Fault]:
    """A single train id in all labels."""
    return [Fault("one-class", detail=table.class_names[i]) for i in present if len(present) == 1]


def listing(files: Files) -> list[Fault]:
    """Images without label and the reverse, clashing names, names in a list alone."""
    faults = [Fault("same-name", path, f"and {other.name}" if path.parent == other.parent
                    else f"also in {other.parent.name}/") for path, other in files.clashes]
    faults += [Fault("listed-only", path, name) for path, name in files.missing]
    if not files.images and not files.missing:
        faults.append(Fault("no-images", detail=f"looked for {files.image_pattern}{files.hint}"))
    if files.label_pattern and files.images and not files.labels:
        return [*faults, Fault("no-labels", detail=f"looked for {files.label_pattern}")]
    if files.label_pattern:
        faults += [Fault("no-label", path) for path in files.bare]
    if files.images:
        faults += [Fault("no-image", path) for path in files.orphans]
    return faults


def wrong_size(label: LabelFacts, picture: ImageFacts) -> Fault | None:
    """A label of another size than its image."""
    if label.size is None or picture.size in (None, label.size):
        return None
    (h, w), (height, width) = label.size, picture.size or (0, 0)
    return Fault("size", label.path, f"{w}x{h}, its image {width}x{height}")


def exif(pictures: Iterable[ImageFacts]) -> list[Fault]:
    """Images that EXIF turns, which may be what their labels were drawn on, or not."""
    return [Fault("exif", picture.path, f"orientation {picture.orientation}")
            for picture in pictures if picture.orientation]


def dark(pictures: Sequence[ImageFacts]) -> list[Fault]:
    """16-bit images, if all of them have fewer bits."""
    bits = max((picture.bits for picture in pictures if picture.bits), default=16)
    return [Fault("dark-image", picture.path, f"its values have {picture.bits} of 16 bits")
            for picture in pictures if picture.bits and bits < 16]


def unknown_ids(label: LabelFacts, table: ClassTable) -> Fault | None:
    """Ids without a place in the table, or ids in a file that should have train ids."""
    unknown = [i for i in label.counts if label.lookup[i] == UNKNOWN]
    if not unknown:
        return None
    # All of its numbers may be ids of the data set, whatever they should be.
    known = (table.id_to_train_id[list(label.counts)] != UNKNOWN).all()
    kind = "not-train-ids" if label.lookup is not table.id_to_train_id and known else "unknown-ids"
    return Fault(kind, label.path, numbers(unknown))


def ignored(labels: Sequence[LabelFacts]) -> list[Fault]:
    """Labels in which nothing counts, though their ids are known; if it is all, they are one."""
    read = [label for label in labels if label.lookup is not None]
    found = [label for label in read if {*label.lookup[[*label.counts]].tolist()} == {IGNORE}]
    if read and len(found) == len(read):
        return [Fault("nothing-counts", detail=numbers({i for each in read for i in each.counts}))]
    return [Fault("ignored-label", label.path, numbers(label.counts)) for label in found]


def binary(labels: Sequence[LabelFacts], table: ClassTable) -> list[Fault]:
    """Labels of 0 and 255 alone, where 255 does not count.

    Of data sets that need not name every id, 255 may be the border of a class 0: there, it takes
    two classes, or all labels.
    """
    found = [label for label in labels
             if label.lookup is table.id_to_train_id and set(label.counts) == {0, IGNORE}]
    complete = UNKNOWN in table.id_to_train_id  # the data set names every id that it has
    usual = complete or len(table.class_names) <= 2 or len(found) == len(labels)
    if not usual or table.id_to_train_id[IGNORE] != IGNORE:
        return []
    return [Fault("binary", label.path) for label in found]


def train_ids(labels: Sequence[LabelFacts], table: ClassTable) -> list[Fault]:
    """Labels of train ids in files that should have ids.

    One with 255, if that is no id, is known by itself; without it, all labels have to agree.
    """
    count, complete = len(table.class_names), UNKNOWN in table.id_to_train_id
    overlap = set(range(count)) & set(table.train_id_to_id)
    if table.train_id_to_id == list(range(count)) or (overlap and not complete):
        return []  # they are the same, or cannot be told apart
    own = [label for label in labels if label.lookup is table.id_to_train_id]
    found = [label for label in own if set(label.counts) <= {*range(count), IGNORE}]
    if len(found) < len(own):
        sign = IGNORE not in table.train_id_to_id
        found = [label for label in found if sign and {IGNORE} < set(label.counts)]
    return [Fault("train-ids", label.path, numbers(label.counts)) for label in found
            if set(label.counts) not in ({0, IGNORE}, {IGNORE})]


def palettes(labels: Iterable[LabelFacts]) -> list[Fault]:
    """Palettes without the classes' colors in which one index has several colors."""
    first: dict[int, tuple[Color, str]] = {}
    faults = []
    for label in labels:
        for i, color in label.colors.items():
            before, name = first.setdefault(i, (color, label.path.name))
            if before != color:
                detail = f"index {i} is {color}, in {name} {before}"
                faults.append(Fault("palettes", label.path, detail))
                break
    return faults


def unlisted(labels: Sequence[LabelFacts], table: ClassTable) -> Fault | None:
    """Ids that are ignored since nobody listed them."""
    if UNKNOWN in table.id_to_train_id:  # it names every id that it has
        return None
    pixels: Counter[int] = Counter()
    for label in labels:
        pixels.update(label.counts)
    found = sorted(set(pixels) - {*table.train_id_to_id, IGNORE})
    share = sum(pixels[i] for i in found) / max(1, sum(pixels.values()))
    if not found or share == 1:  # no class at all is a fault of its own
        return None
    return Fault("unlisted-ids", detail=f"{numbers(found)}: {100 * share:.1f} % of the pixels")


def without_instances(labels: Sequence[LabelFacts]) -> list[Fault]:
    """Labels without instance map where others have one."""
    if not any(label.has_instances for label in labels):
        return []
    return [Fault("no-instances", label.path) for label in labels
            if label.size and not label.has_instances]


def same_images(parts: dict[str, list[ImageFacts]]) -> list[Fault]:
    """Images of equal pixels: in train and in val an error, elsewhere a note.

    A file that is in two parts, as those of coarse labels, is one image.
    """
    where: dict[bytes, dict[Path, str]] = defaultdict(dict)
    for part, pictures in parts.items():
        for picture in pictures:
            if picture.size:
                where[picture.digest].setdefault(picture.path, part)
    faults = []
    for places in where.values():
        for number, (path, part) in enumerate(places.items()):
            for other, before in list(places.items())[:number]:
                leak = {before[:3], part[:3]} == {"tra", "val"}
                if leak or number == 1:  # of many equal ones, every leak and one note
                    kind = "leak" if leak else "same-image"
                    faults.append(Fault(kind, path, f"equals {other.name} of {before}"))
                    break
    return faults


def numbers(ids: Iterable[int]) -> str:
    """Such as "id 7" or "ids 0-18, 255"."""
    ends: list[list[int]] = []
    for i in sorted(ids):
        if ends and i == ends[-1][1] + 1:
            ends[-1][1] = i
        else:
            ends.append([i, i])
    runs = [f"{first}-{last}" if last > first else str(first) for first, last in ends]
    plural = "s" * (ends[0][0] < ends[-1][1])
    return f"id{plural} {', '.join(runs[:MOST_RUNS])}{', ...' * (len(runs) > MOST_RUNS)}"


def merge_counts(
    labels: Iterable[LabelFacts],
) -> tuple[dict[tuple[int, int], Count], dict[int, Count]]:
    """Pixels and images of every (id, train id), and of every train id."""
    ids: dict[tuple[int, int], list[int]] = defaultdict(list)  # pixels in each image
    classes: dict[int, list[int]] = defaultdict(list)
    for label in labels:
        own: Counter[int] = Counter()
        for i, pixels in label.counts.items():
            ids[i, int(label.lookup[i])].append(pixels)
            own[int(label.lookup[i])] += pixels
        for train_id, pixels in own.items():
            classes[train_id].append(pixels)
    return ({key: (sum(counts), len(counts)) for key, counts in sorted(ids.items())},
            {key: (sum(counts), len(counts)) for key, counts in classes.items()})
