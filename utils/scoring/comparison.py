"""What changed from an earlier evaluation: per class and in the averages."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from utils.files import read_file
from utils.images import shown
from utils.scoring.counts import ScoredLabel

AVERAGES = {  # keys of `utils.scoring.summary.summarize`
    "averageScoreClasses": "mean IoU",
    "averageScoreInstClasses": "mean iIoU",
    "averageScoreCategories": "category IoU",
    "averageBoundaryScore": "boundary IoU",
    "pixelAccuracy": "pixel accuracy",
}
FACTS = ("dataset", "split", "images")


class Row(NamedTuple):
    """A figure in 0..1 before and now; nan where there is none."""

    name: str
    before: float
    now: float

    @property
    def change(self) -> float:
        """What was won, negative for a loss; nan if one of the two is missing."""
        return self.now - self.before


@dataclass(frozen=True)
class Comparison:
    """An earlier evaluation beside this one."""

    path: str
    before: Mapping[str, Any]  # the content of the file
    now: Mapping[str, Any]  # likewise
    labels: Sequence[ScoredLabel]

    @property
    def classes(self) -> list[Row]:
        """IoU of the classes."""
        then, now = self.before["classScores"], self.now["classScores"]
        return [Row(label.name, _number(then[label.name]), _number(now[label.name]))
                for label in self.labels if not label.ignored]

    @property
    def averages(self) -> list[Row]:
        """The figures that both evaluations have."""
        rows = [Row(name, _number(self.before.get(key)), _number(self.now.get(key)))
                for key, name in AVERAGES.items()]
        return [row for row in rows if not math.isnan(row.change)]

    @property
    def scale(self) -> float:
        """What a full bar stands for: the largest change, but no less than one point."""
        changes = [abs(row.change) for row in [*self.classes, *self.averages]]
        return max([0.01, *(change for change in changes if not math.isnan(change))])

    @property
    def source(self) -> str:
        """What was scored then."""
        return str(self.before.get("snapshot") or self.before.get("predictions"))

    @property
    def note(self) -> str:
        """What else differs between the two, "" for nothing."""
        pairs = [(key, self.before[key], self.now[key]) for key in FACTS]
        then, now = (content.get("settings", {}) for content in (self.before, self.now))
        pairs += [(key.replace("_", " "), then[key], now[key]) for key in then if key in now]
        return ", ".join(f"{key} {then}, now {now}" for key, then, now in pairs if then != now)


def read_scores(path: str, labels: Sequence[ScoredLabel] | None = None) -> dict[str, Any]:
    """The figures in a file that `evaluate.py --json` wrote, if given of the `labels` scored now.

    Raises FileNotFoundError, or ValueError: not such a file, or of other classes.
    """
    try:
        content = json.loads(read_file(path))
    except FileNotFoundError:
        raise FileNotFoundError(f"{shown(path)}: no such file of scores") from None
    except OSError as error:
        raise ValueError(f"{shown(path)}: {error.strerror}") from None
    except (ValueError, RecursionError):  # also of text that is not UTF-8
        content = None
    if not _is_scores(content):
        raise ValueError(f"{shown(path)}: not a file of scores; give one that evaluate.py --json "
                         "wrote")
    if labels is None:
        return content
    theirs, names = list(content["classScores"]), [label.name for label in labels]
    if theirs != names:
        odd = [ascii(name) for name in [*theirs, *names] if (name in theirs) != (name in names)]
        what = f"{', '.join(odd[:3])} only in one of them" if odd else "in another order"
        raise ValueError(f"{shown(path)}: scores of other classes ({what}); compare evaluations of "
                         "the same classes")
    return content


def _is_scores(content: Any) -> bool:
    scores = content.get("classScores") if isinstance(content, dict) else None
    if not isinstance(scores, dict) or not content.keys() >= {*FACTS} or not isinstance(
            content.get("settings", {}), dict):
        return False
    figures = [*map(content.get, AVERAGES), *scores.values()]
    return all(x is None or isinstance(x, int | float) for x in figures)


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def change_table(comparison: Comparison) -> str:
    """Before, now and change in percent, as it is printed."""
    lines = ["", f"change from {shown(comparison.path)} ({shown(comparison.source)})"]
    if comparison.note:
        lines.append(f"note: {comparison.note}")
    lines += ["IoU in %           before     now  change", "-" * 41]
    for rows in (comparison.classes, comparison.averages):
        lines += [
            f"{row.name:<16}: {_cell(row.before)} {_cell(row.now)} {_cell(row.change, '+')}"
            for row in rows
        ] + ["-" * 41]
    return "\n".join(lines)


def _cell(value: float, sign: str = "") -> str:
    return f"{'-':>7}" if math.isnan(value) else f"{100 * value:{sign}7.2f}"
