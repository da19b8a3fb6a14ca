"""What is looked at in labels before a training starts: some of them, and all before it refuses."""

from collections.abc import Sequence

from datasets.base import SegmentationDataset
from datasets.doctor import judge
from datasets.doctor.faults import KINDS, Fault, fix_of
from datasets.doctor.measure import LabelFacts, measure_label
from utils.workers import map_in_threads

SAMPLE = 32  # labels, evenly spread


def check_labels(
    name: str, train: SegmentationDataset, val: SegmentationDataset, threads: int
) -> None:
    """Refuses labels of which nothing is learned or scored, or something else than they say.

    Args:
        name: of the data set.
        train: before other sources are added to it.
        val: its other part.
        threads: that read labels.

    Raises:
        ValueError: what is wrong, in which file, and what is to be done about it.
    """
    if faults := judge.class_table(train):
        raise ValueError(say(faults, name, train))
    for dataset, classes in ((train, 2), (val, 1)):
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
    found = judge.train_ids(labels, table) + judge.binary(labels, table) + judge.palettes(labels)
    if found:
        return found
    present = [i for i in judge.merge_counts(labels)[1] if i < len(dataset.class_names)]
    if not present:
        return [Fault("nothing-counts", detail=dataset.split)]
    return judge.one_class(present, table) if classes > 1 else []
