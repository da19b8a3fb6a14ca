"""Which samples are a split: published parts, their sums, cross-validation, a held-out group."""

from typing import Protocol

from datasets.pairing import Sample


class Source(Protocol):
    """What a data set says of its parts."""

    CV_SPLITS: int
    CV_DEFAULT: int | None

    def find(self, split: str) -> list[Sample]:
        """The samples of one part on disk."""

    def cross_validate(self, samples: list[Sample], number: int) -> set[str]:
        """Names of those of train and val that are val."""


def choose(
    source: Source, split: str, holdout: str | None, cv_split: int | None
) -> list[Sample]:
    """The samples of a split.

    Args:
        source: the data set.
        split: parts joined by "+"; "trainval" is train+val.
        holdout: the group of train that is val; train is the rest.
        cv_split: number of a published cross-validation, which redistributes train and val.

    Raises:
        ValueError: no such group or number, or neither train nor val in the split.
    """
    parts = split.replace("trainval", "train+val").split("+")
    if holdout and cv_split is not None:
        raise ValueError("--holdout and --cv-split: give one of them")
    if cv_split is not None and cv_split >= source.CV_SPLITS:
        numbers = ", ".join(map(str, range(source.CV_SPLITS)))
        raise ValueError(f"--cv-split {cv_split}: this data set has {numbers or 'none'}")
    number = source.CV_DEFAULT if cv_split is None and not holdout else cv_split
    whole = {"train", "val"} & set(parts)
    if not whole and (holdout or cv_split is not None):
        raise ValueError(f"--split {split}: --holdout and --cv-split redistribute train and val")
    if not whole or (number is None and not holdout):
        return [sample for part in parts for sample in source.find(part)]
    if holdout:
        samples = source.find("train")
        chosen = _group(samples, holdout)
    else:  # each once: some sets keep train and val in one folder
        samples = list(dict.fromkeys(source.find("train") + source.find("val")))
        chosen = source.cross_validate(samples, int(number or 0))
    both = {"train": [s for s in samples if s.name not in chosen],
            "val": [s for s in samples if s.name in chosen]}
    return [s for part in parts for s in (both[part] if part in both else source.find(part))]


def _group(samples: list[Sample], group: str) -> set[str]:
    groups = {sample.group for sample in samples}
    if group not in groups or len(groups) == 1:
        raise ValueError(
            f"--holdout {group!r}: one of several groups of train ({', '.join(sorted(groups))}) is "
            "expected"
        )
    return {sample.name for sample in samples if sample.group == group}
