"""The data set doctor: reads every file of a data set once and says what is wrong with it.

Published data come in several archives and layouts, own data from several tools. What goes wrong
then is mostly silent: a label read as another class, an image left out. `faults.py` lists the
kinds, `measure.py` reads a file, `judge.py` judges, `report.py` says it. Before a training, some
labels are looked at, and all before it refuses.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datasets import DATASETS
from datasets.base import SegmentationDataset
from datasets.doctor import judge
from datasets.doctor.faults import KINDS, Fault, fix_of
from datasets.doctor.layouts import LAYOUTS, stray_files, suggestion
from datasets.doctor.measure import (
    ImageFacts,
    LabelFacts,
    examine_image,
    examine_label,
    measure_label,
)
from datasets.doctor.report import Diagnosis, Part
from datasets.samples import Files, split_parts
from utils.workers import map_in_threads

SAMPLE = 32  # labels, evenly spread, that are looked at before a training
OPTIONAL = {"train_extra"}  # published, but few have it
Listings = dict[str, Files]  # of every part


def check(
    name: str, root: Path, split: str | None = None, limit: int | None = None, threads: int = 1,
    exif: str | None = None,
) -> Diagnosis:
    """Everything that was found in a data set; a fault never hides another.

    Args:
        name: in DATASETS.
        root: its folder, which exists.
        split: one part, or several joined by "+"; by default all that are there.
        limit: first images of each part only.
        threads: that read files.
        exif: apply or ignore it, where the size of a label does not tell.

    Raises ValueError: the data set never has such a split.
    """
    root = root.resolve()
    report = Diagnosis(name, root)
    try:
        dataset = DATASETS[name](root, "")
    except (OSError, ValueError) as error:
        report.add("", [Fault("class-table", detail=str(error))], suggestion(name, root))
        return report
    report.table, dataset.exif = dataset.classes, exif
    report.add("", judge.class_table(dataset))
    every = {part: dataset.files(part) for part in dataset.parts()}
    there = [part for part, files in choose(dataset, every, None).items() if files.images]
    chosen = choose(dataset, every, split)
    if there and type(dataset) in LAYOUTS:
        report.layout = LAYOUTS[type(dataset)](root)
    for part, files in chosen.items():
        labels = len(files.labels) if files.label_pattern else None
        report.parts[part] = Part(len(files.images), labels, dataset.SPLITS.get(part))
        instead = ""
        if not (files.images or files.labels):
            instead = (f"give one of those that are there as --split: {', '.join(there)}" if there
                       else suggestion(name, root))
        report.add(part, judge.listing(files), instead)
    measure(dataset, {part: first(files, limit) for part, files in chosen.items()}, report, threads)
    report.add("", stray_files(dataset, chosen.values(), (every | chosen).values()))
    if not split and any(files.images for files in chosen.values()):
        report.add("", count_images(dataset, report.parts))
    return report


def choose(dataset: SegmentationDataset, every: Listings, split: str | None) -> Listings:
    """The parts to look at: those of `split`, else those that are there.

    A part is not there if all it has are the images of another one, as those of coarse labels.
    """
    if split:
        return {part: dataset.files(part) for part in split_parts(split, every)}
    there: Listings = {}
    for part, files in every.items():
        borrowed = any(files.images == other.images for other in there.values())
        if files.labels or ((files.images or files.missing) and not borrowed):
            there[part] = files
    return there or dict(islice(every.items(), 1)) or {"train": dataset.files("train")}


def first(files: Files, limit: int | None) -> Files:
    """The first images of a listing, and their labels."""
    images = dict(islice(files.images.items(), limit))
    labels = {name: path for name, path in files.labels.items() if limit is None or name in images}
    return replace(files, images=images, labels=labels)


def measure(
    dataset: SegmentationDataset, listings: Listings, report: Diagnosis, threads: int
) -> None:
    """Reads the files of all parts and adds what is wrong with them to the report."""
    jobs: dict[Path, Callable[[], Any]] = {}  # parts may share images
    for files in listings.values():
        jobs |= {path: partial(examine_image, dataset, path, files.labels.get(name))
                 for name, path in files.images.items()}
        jobs |= {path: partial(examine_label, dataset, path, files.images.get(name, path))
                 for name, path in files.labels.items()}
    report.files_read = len(jobs)
    # Decoders let other threads run: no processes.
    results = map_in_threads(lambda job: job(), jobs.values(), threads)
    bar = tqdm(results, "check", len(jobs), disable=None, unit="file")
    measured = dict(zip(jobs, bar, strict=True))
    found: dict[str, list[ImageFacts]] = {}
    for part, files in listings.items():
        found[part] = [measured[path] for path in files.images.values()]
        judge_split(report, part, found[part], [measured[path] for path in files.labels.values()])
    report.add("", judge.same_images(found))


def judge_split(
    report: Diagnosis, split: str, pictures: list[ImageFacts], labels: list[LabelFacts]
) -> None:
    """Adds to the report what the measurements of a split say."""
    part, table = report.parts[split], report.table
    part.sizes = Counter(picture.size for picture in pictures if picture.size)
    report.add(split, [*(each.fault for each in pictures), *judge.exif(pictures),
                       *judge.dark(pictures)])
    report.add(split, (label.fault for label in labels))
    if not labels or table is None:
        return
    by_path = {picture.path: picture for picture in pictures}
    report.add(split, (judge.wrong_size(label, by_path[label.image]) for label in labels
                       if label.image in by_path))
    wrong = [fault for label in labels if (fault := judge.unknown_ids(label, table))]
    wrong += judge.binary(labels, table) + judge.train_ids(labels, table) + judge.palettes(labels)
    report.add(split, wrong)
    report.add(split, [] if wrong else judge.ignored(labels))
    report.add(split, [judge.unlisted(labels, table), *judge.without_instances(labels)])
    part.ids, part.classes = judge.merge_counts(labels)
    present = [i for i in range(len(table.class_names)) if i in part.classes]
    if split.startswith("train") and len(table.class_names) > 1:
        report.add(split, judge.one_class(present, table))
    part.absent_classes = [name for i, name in enumerate(table.class_names)
                           if i not in part.classes]
    if 0 < len(part.absent_classes) < len(table.class_names) and not wrong and all(
            label.size for label in labels):
        report.add(split, [Fault("absent-class", detail=", ".join(part.absent_classes))])


def count_images(dataset: SegmentationDataset, parts: dict[str, Part]) -> Iterable[Fault]:
    """A note for every part with another number of images than published."""
    for name, number in dataset.SPLITS.items():
        images = parts[name].images if name in parts else 0
        if images != number and (images or name not in OPTIONAL):
            yield Fault("count", detail=f"{name}: {images} of {number}")


def check_labels(
    name: str, train: SegmentationDataset, val: SegmentationDataset, threads: int
) -> None:
    """Refuses data of which nothing is learned or scored, as `check_ids` does."""
    if faults := judge.class_table(train):
        raise ValueError(say(faults, name, train))
    check_ids(name, train, 2, threads)
    check_ids(name, val, 1, threads)


def check_ids(name: str, dataset: SegmentationDataset, classes: int, threads: int) -> None:
    """Refuses labels that hold something else than they say, or fewer classes.

    With 0 classes, for scores: some labels may look like others by chance, all of them do not.
    ValueError says what is wrong, in which file, and what is to be done about it.
    """
    every = range(len(dataset))
    some = every[:: -(-len(every) // SAMPLE)]
    if label_faults(dataset, some, classes, threads) and (
            faults := label_faults(dataset, every, classes, threads)):
        raise ValueError(say(faults, name, dataset))


def say(faults: list[Fault], name: str, dataset: SegmentationDataset) -> str:
    """One line."""
    first = faults[0]
    files = f" ({len(faults)} files of {dataset.split})" * (len(faults) > 1)
    detail = f": {first.detail}" * bool(first.detail)
    return (f"{first.path or dataset.root}: {KINDS[first.kind].what}{detail}{files}; "
            f"{fix_of(first.kind, name, dataset.root)}; preprocess_data.py --check says more")


def label_faults(
    dataset: SegmentationDataset, indices: Sequence[int], classes: int, threads: int
) -> list[Fault]:
    """What some labels say of all, in which so many classes have to occur at least."""
    def measure(index: int) -> LabelFacts:
        sample = dataset.samples[index]
        return measure_label(dataset, sample.truth, sample.image, dataset.read_ids(index))

    labels, table = list(map_in_threads(measure, indices, max(1, threads))), dataset.classes
    found = judge.train_ids(labels, table) + judge.binary(labels, table)
    if not classes and len(found) < max(2, len(labels)):
        found = []
    if found := found + judge.palettes(labels):
        return found
    present = [i for i in judge.merge_counts(labels)[1] if i < len(dataset.class_names)]
    if not present:
        return [Fault("nothing-counts", detail=dataset.split)]
    return judge.one_class(present, table) if classes > 1 else []
