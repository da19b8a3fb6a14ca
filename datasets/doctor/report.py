"""What the data set doctor found: as text for people, as JSON for programs.

The JSON has these keys; others may be added, none of these will change:

    format    1
    dataset, root, layout    the name, its folder, which of its layouts, "" if it has one alone
    healthy   true without errors
    errors, notes    numbers of findings
    files_read
    splits    name -> {images, labels, published, sizes, ids, absent_classes}; labels is null in a
              split without labels, published where no number is; sizes: "WIDTHxHEIGHT" -> images;
              ids: [{id, name, train_id, pixels, images}], as stored, train_id null if unknown
    findings  [{level, kind, split, what, count, files, fix}]; split is "" for the whole set;
              files: [{file, detail}], relative to the root, file "" if it is of no file
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from datasets.classes import UNKNOWN, ClassTable
from datasets.doctor.faults import KINDS, Fault, fix_of
from datasets.doctor.judge import Count
from datasets.samples import Size
from utils.images import shown
from utils.labels import IGNORE

FEW = 3  # files that are printed of a finding
COLUMNS = 4  # splits side by side


@dataclass
class Part:
    """A split; pixels and images of every (id, train id), and of every train id."""

    images: int
    labels: int | None
    published: int | None = None
    sizes: Counter[Size] = field(default_factory=Counter)
    ids: dict[tuple[int, int], Count] = field(default_factory=dict)
    classes: dict[int, Count] = field(default_factory=dict)
    absent_classes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Finding:
    """All faults of one kind in a split, "" being the whole data set."""

    kind: str
    split: str
    fix: str
    faults: list[Fault]

    @property
    def level(self) -> str:
        """error or note."""
        return KINDS[self.kind].level


@dataclass
class Diagnosis:
    """Everything that was found in a data set."""

    dataset: str
    root: Path
    layout: str = ""
    table: ClassTable | None = None
    parts: dict[str, Part] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    files_read: int = 0

    def add(self, split: str, faults: Iterable[Fault | None], fix: str = "") -> None:
        """Takes faults of a split; `fix` replaces the general advice."""
        kinds: dict[str, list[Fault]] = defaultdict(list)
        for fault in faults:
            if fault:
                kinds[fault.kind].append(fault)
        for kind, group in kinds.items():
            advice = fix or fix_of(kind, self.dataset, self.root)
            self.findings.append(Finding(kind, split, advice, group))
        self.findings.sort(key=lambda finding: finding.level)  # errors first, else as they came

    def count(self, level: str) -> int:
        """Findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain types, see the top of this file."""
        return {
            "format": 1, "dataset": self.dataset, "root": str(self.root), "layout": self.layout,
            "healthy": not self.count("error"), "errors": self.count("error"),
            "notes": self.count("note"), "files_read": self.files_read,
            "splits": {name: self._part_json(part) for name, part in self.parts.items()},
            "findings": [
                {"level": each.level, "kind": each.kind, "split": each.split,
                 "what": KINDS[each.kind].what, "count": len(each.faults),
                 "files": [{"file": self.relative(fault), "detail": fault.detail}
                           for fault in each.faults], "fix": each.fix}
                for each in self.findings],
        }

    def _part_json(self, part: Part) -> dict[str, Any]:
        sizes = {f"{w}x{h}": count for (h, w), count in part.sizes.most_common()}
        names = dict(enumerate(self.table.class_names if self.table else ()))
        names |= {IGNORE: "ignored", UNKNOWN: "unknown"}
        ids = [{"id": i, "name": names[train_id], "pixels": pixels, "images": images,
                "train_id": None if train_id == UNKNOWN else train_id}
               for (i, train_id), (pixels, images) in part.ids.items()]
        return {"images": part.images, "labels": part.labels, "published": part.published,
                "sizes": sizes, "ids": ids, "absent_classes": part.absent_classes}

    def relative(self, fault: Fault) -> str:
        """The file of a fault, relative to the root; "" if it has none."""
        return os.path.relpath(fault.path, self.root) if fault.path else ""


def lines(report: Diagnosis) -> list[str]:
    """The report as it is printed."""
    layout = f", {report.layout} layout" * bool(report.layout)
    text = [f"{report.dataset}{layout}: {shown(report.root)}"]
    if report.parts:
        text += ["", *_counts(report.parts), *_classes(report)]
    for finding in report.findings:
        text += ["", *_finding(report, finding)]
    return [*text, ""]


def _counts(parts: dict[str, Part]) -> list[str]:
    rows = [f"{'split':12} {'images':>7} {'labels':>7} {'published':>9}  sizes"]
    for name, part in parts.items():
        labels = "-" if part.labels is None else part.labels
        common = part.sizes.most_common(FEW)
        counted = len(part.sizes) > 1
        sizes = [f"{w}x{h}" + f" ({n})" * counted for (h, w), n in common]
        sizes += [f"{len(part.sizes) - FEW} other sizes"] * (len(part.sizes) > FEW)
        rows.append(f"{name:12} {part.images:7} {labels:>7} {part.published or '-':>9}  "
                    f"{', '.join(sizes) or '-'}")
    return rows


def _classes(report: Diagnosis) -> list[str]:
    """Share of the pixels, and number of images, of every class in every labelled split."""
    parts = {name: part for name, part in report.parts.items() if part.classes}
    if report.table is None:
        return []
    table = report.table
    classes = list(zip(map(str, table.train_id_to_id), table.class_names, count(), strict=False))
    classes.append(("", "ignored", IGNORE))
    classes += [("", "unknown", UNKNOWN)] * any(UNKNOWN in part.classes for part in parts.values())
    rows = []
    for start in range(0, len(parts), COLUMNS):
        names = list(parts)[start : start + COLUMNS]
        totals = {n: sum(pixels for pixels, _ in parts[n].classes.values()) for n in names}
        rows += ["", f"{'id':>3} {'class':22}" + "".join(f"{name:>11} images" for name in names)]
        for i, name, train_id in classes:
            cells = [(n, *parts[n].classes.get(train_id, (0, 0))) for n in names]
            rows.append(f"{i:>3} {name[:22]:22}" + "".join(
                f"{100 * pixels / totals[n]:9.2f} % {images:6}" for n, pixels, images in cells))
    return rows


def _finding(report: Diagnosis, finding: Finding) -> list[str]:
    """What is wrong; the first files; what to do."""
    kind, faults = KINDS[finding.kind], finding.faults
    where = f"{finding.split}: " * bool(finding.split)
    files = f", {len(faults)} files" * (len(faults) > 1 and faults[0].path is not None)
    rows = [f"{kind.level:5}  {where}{kind.what} ({finding.kind}{files})"]
    printed = faults[:FEW] if files else faults
    for fault in printed:
        words = (shown(report.relative(fault)), shown(fault.detail))
        rows += [f"       {': '.join(filter(None, words))}"] * any(words)
    rows += [f"       and {len(faults) - FEW} more"] * (len(faults) > len(printed))
    return [*rows, f"       fix: {finding.fix}"]


def verdict(report: Diagnosis) -> str:
    """One line: is it healthy?"""
    errors, notes = report.count("error"), report.count("note")
    found = f"{errors} error{'s' * (errors != 1)}, {notes} note{'s' * (notes != 1)}"
    state = "not healthy" if errors else "healthy"
    return f"{shown(report.root)}: {state}: {found}; {report.files_read} files were read"
