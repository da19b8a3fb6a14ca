"""What each benchmark expects of a package: where its files lie, their names, ids and number."""

import numpy as np

from datasets.base import SegmentationDataset
from datasets.classes import UNKNOWN
from datasets.reading import check_exif
from utils.labels import IGNORE
from utils.submission.package import Package

LAYOUTS = {  # folder of the files, whether a server looks into all; the others: NAME.png at the top
    "cityscapes": ("", True),  # CITY_SEQ_FRAME*.png
    "kitti": ("semantic/", False),
}


def expected_package(name: str, dataset: SegmentationDataset) -> Package:
    """The package of a split of data set `name`, in the order of its samples.

    Args:
        name: in DATASETS.
        dataset: of the split.

    Raises:
        ValueError: EXIF turns images, and nothing says whether that is wanted.
    """
    check_exif(dataset)
    folder, anywhere = LAYOUTS.get(name, ("", False))
    table = dataset.id_to_train_id
    void = int(np.flatnonzero(table == IGNORE)[0])
    legal = table < UNKNOWN
    if (table == UNKNOWN).any():  # else whatever is not listed is ignored, and is no answer
        legal |= (table == IGNORE) & (np.arange(256) < IGNORE)
    legal[void] = True
    paths = [f"{folder}{name}.png" for name in dataset.names]
    return Package(
        sizes=dict(zip(paths, dataset.sizes(), strict=True)),
        legal=legal,
        train_id_to_id=dataset.train_id_to_id,
        void=void,
        anywhere=anywhere,
        folder=folder,
        published=dataset.SPLITS.get(dataset.split),
    )
