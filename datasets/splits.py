"""Which samples are a split: published parts, their sums, cross-validation, a held-out group."""

from collections.abc import Collection, Iterable
from typing import Protocol

from datasets.pairing import Sample


class Source(Protocol):
    """What a data set says of its parts."""

    CV_SPLITS: int
    CV_DEFAULT: int | None

    def parts(self) -> list[str]:
        """Names of parts."""

    def find(self, split: str) -> list[Sample]:
        """The samples of one part on disk."""

    def cross_validate(self, samples: list[Sample], number: int) -> set[str]:
        """Names of those of train and val that are val."""


def split_parts(split: str, known: Collection[str] = ()) -> list[str]:
    """The parts of a split, each once: "trainval" is train and val, unless it is a part itself."""
    if split in known:
        return [split]
    return list(dict.fromkeys(split.replace("trainval", "train+val").split("+")))


def choose(
    source: Source, split: str, holdout: str | None, cv_split: int | None
) -> list[Sample]:
    """The samples of a split, each once.

    Args:
        source: the data set.
        split: parts joined by "+"; "trainval" is train+val.
        holdout: the group of train that is val; train is the rest.
        cv_split: number of a published cross-validation, which redistributes train and val.

    Raises:
        ValueError: no such group or number, or neither train nor val in the split.
    """
    parts = split_parts(split, source.parts())
    if holdout and cv_split is not None:
        raise ValueError("--holdout and --cv-split: give one of them")
    if cv_split is not None and cv_split >= source.CV_SPLITS:
        numbers = ", ".join(map(str, range(source.CV_SPLITS)))
        raise ValueError(f"--cv-split {cv_split}: this data set has {numbers or 'none'}")
    number = source.CV_DEFAULT if cv_split is None and not holdout else cv_split
    whole = {"train", "val"} & set(parts)
    again = [part for part in parts if part.endswith("_coarse")]
    if (holdout or cv_split is not None) and (again or not whole):
        raise ValueError(f"--split {split}: --holdout and --cv-split redistribute train and val"
                         + (f", not {again[0]}, which has the same images" if again else ""))
    if not whole or (number is None and not holdout):
        return _once(sample for part in parts for sample in source.find(part))
    if holdout:
        samples = source.find("train")
        chosen = _group(samples, holdout)
    else:
        samples = _once(source.find("train") + source.find("val"))
        chosen = source.cross_validate(samples, int(number or 0))
    both = {"train": [s for s in samples if s.name not in chosen],
            "val": [s for s in samples if s.name in chosen]}
    return _once(s for part in parts for s in (both[part] if part in both else source.find(part)))


def shared_images(first: Iterable[Sample], second: Iterable[Sample]) -> int:
    """How many images are in both lists."""
    return len({sample.image for sample in first} & {sample.image for sample in second})


def _once(samples: Iterable[Sample]) -> list[Sample]:
    """Some sets keep train and val in one folder, and parts may be named twice."""
    return list(dict.fromkeys(samples))


def _group(samples: list[Sample], group: str) -> set[str]:
    groups = {sample.group for sample in samples}
    if group not in groups or len(groups) == 1:
        raise ValueError(
            f"--holdout {group!r}: one of several groups of train ({', '.join(sorted(groups))}) is "
            "expected"
        )
    return {sample.name for sample in samples if sample.group == group}
