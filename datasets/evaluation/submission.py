"""What each benchmark expects of a package: where its files lie, their names, ids and number."""

from dataclasses import dataclass

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import UNKNOWN
from utils.labels import IGNORE
from utils.submission.package import Package, Size


@dataclass(frozen=True)
class Layout:
    """Of a package: its folder with the files, whether a server looks into all folders."""

    folder: str = ""
    anywhere: bool = False


LAYOUTS = {  # the others: NAME.png at the top
    "cityscapes": Layout(anywhere=True),  # CITY_SEQ_FRAME*.png
    "kitti": Layout("semantic/"),
}


def submission_path(name: str, sample: str) -> str:
    """Where the prediction of a sample lies in the package of data set `name`."""
    return f"{LAYOUTS.get(name, Layout()).folder}{sample}.png"


def expected_package(name: str, dataset: SegmentationDataset, sizes: list[Size]) -> Package:
    """The package of a split of data set `name`, in the order of its samples.

    Args:
        name: in DATASETS.
        dataset: of the split.
        sizes: (H, W) of each of its images.
    """
    layout = LAYOUTS.get(name, Layout())
    table = dataset.id_to_train_id
    void = int(np.flatnonzero(table == IGNORE)[0])
    legal = table < UNKNOWN
    if (table == UNKNOWN).any():  # else whatever is not listed is ignored, and is no answer
        legal |= (table == IGNORE) & (np.arange(256) < IGNORE)
    legal[void] = True
    paths = [submission_path(name, sample.name) for sample in dataset.samples]
    return Package(
        sizes=dict(zip(paths, sizes, strict=True)),
        legal=legal,
        train_id_to_id=dataset.train_id_to_id,
        void=void,
        anywhere=layout.anywhere,
        published=dataset.SPLITS.get(dataset.split),
    )
