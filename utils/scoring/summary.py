"""Ratios from counts, and the tables that are printed, as the Cityscapes scorer has them.

Keys, names, averages and layout are those of cityscapesScripts 2.3.0; ratios of nothing are nan
there and in the tables, null in the JSON file.
"""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from utils.scoring.counts import Scores

Figures = dict[str, float]


def ratio(part: float, whole: float) -> float:
    """part / whole, nan for nothing of nothing."""
    return float(part) / float(whole) if whole else math.nan


def average(figures: Iterable[float]) -> float:
    """Mean of the figures that are not nan, summed one by one."""
    valid = [figure for figure in figures if not math.isnan(figure)]
    total = 0.0
    for figure in valid:
        total += figure
    return total / len(valid) if valid else math.nan


def summarize(scores: Scores) -> dict[str, Any]:
    """All figures of an evaluation, by the official scorer's keys and some more.

    More are `images`, `pixelAccuracy`, `averageAccuracyClasses` (mean of the classes' recalls),
    `frequencyWeightedIoU`, `classAccuracies`, and with boundaries `boundaryScores`,
    `trimapScores` per width in pixels and `boundaryErrors` as `error_bands` has them.
    """
    labels, matrix = scores.labels, scores.matrix
    names = [label.name for label in labels]
    rows, columns, hits = matrix.sum(1), matrix[scores.scored].sum(0), matrix.diagonal()
    false = columns - hits * scores.scored
    tp, fn = _weigh(scores, 2)

    def per_class(values: Iterable[float], extra: Iterable[bool] | None = None) -> Figures:
        valid = scores.scored if extra is None else scores.scored & np.array(list(extra))
        return {n: float(v) if ok else math.nan
                for n, v, ok in zip(names, values, valid, strict=True)}

    iou = per_class(ratio(hits[i], rows[i] + false[i]) for i in range(len(names)))
    instance_iou = per_class(
        (ratio(tp[name], tp[name] + false[i] + fn[name]) for i, name in enumerate(names)),
        (label.has_instances for label in labels),
    )
    categories, instance_categories = _category_scores(scores)
    accuracy = per_class(ratio(hits[i], rows[i]) for i in range(len(names)))
    scored_rows = rows[scores.scored]
    weighted = [ratio(n, scored_rows.sum()) * iou[name]
                for name, n, ok in zip(names, rows, scores.scored, strict=True) if ok and n]
    result: dict[str, Any] = {
        "confMatrix": matrix.tolist(),
        "priors": {name: ratio(rows[i], matrix.sum()) for i, name in enumerate(names)},
        "labels": {name: i for i, name in enumerate(names)},
        "classScores": iou,
        "classInstScores": instance_iou,
        "categoryScores": categories,
        "categoryInstScores": instance_categories,
        "averageScoreClasses": average(iou.values()),
        "averageScoreInstClasses": average(instance_iou.values()),
        "averageScoreCategories": average(categories.values()),
        "averageScoreInstCategories": average(instance_categories.values()),
        "images": len(scores.images),
        "pixelAccuracy": ratio(hits[scores.scored].sum(), scored_rows.sum()),
        "averageAccuracyClasses": average(accuracy.values()),
        "frequencyWeightedIoU": sum(weighted) if weighted else math.nan,
        "classAccuracies": accuracy,
    }
    if scores.ratio:
        bands = [c.boundary for c in scores.images.values() if c.boundary is not None]
        figures = [per_class(ratio(both, union) for both, union in band.T)
                   for band in np.sum(bands, axis=0)]
        result["boundaryScores"] = figures[0]
        result["averageBoundaryScore"] = average(figures[0].values())
        result["trimapScores"] = {str(width): average(band.values())
                                  for width, band in zip(scores.trimaps, figures[1:], strict=True)}
        result["boundaryErrors"] = error_bands(scores)
    return result


def error_bands(scores: Scores) -> dict[str, dict[str, int]]:
    """Pixels and wrong pixels up to each width from a true boundary, then of the interior."""
    bands = np.sum([c.boundary for c in scores.images.values() if c.boundary is not None], axis=0)
    right, union = bands[1:].sum(2).T
    # A right pixel is once in the unions of all labels, a wrong one twice.
    pixels = (right + union) // 2
    rows = scores.matrix[scores.scored]
    right = [*right, rows[:, scores.scored].trace() - right[-1]]
    pixels = [*pixels, rows.sum() - pixels[-1]]
    return {name: {"pixels": int(n), "wrong": int(n - hits)} for name, n, hits in
            zip([*map(str, scores.trimaps), "interior"], pixels, right, strict=True)}


def _weigh(scores: Scores, column: int, by_category: bool = False) -> tuple[Figures, Figures]:
    """Weighted hits and misses of instances by name, in the order of images and instance ids.

    All are nan when the instances of an image are not known.
    """
    labels = scores.labels
    tables = [counts.instances for counts in scores.images.values()]
    start = math.nan if any(table is None for table in tables) else 0.0
    tp = dict.fromkeys((x.category if by_category else x.name for x in labels), start)
    fn = dict(tp)
    for table in tables:
        for row in [] if table is None else table.tolist():
            label = labels[row[0]]
            if label.ignored:
                continue
            key = label.category if by_category else label.name
            weight = scores.sizes[label.name] / float(row[1])
            tp[key] += float(row[column]) * weight
            fn[key] += float(row[1] - row[column]) * weight
    return tp, fn


def _category_scores(scores: Scores) -> tuple[Figures, Figures]:
    """IoU and instance-weighted IoU of each category; none where labels have no categories."""
    labels, matrix = scores.labels, scores.matrix
    tp, fn = _weigh(scores, 3, by_category=True)
    plain, weighted = {}, {}
    for category in dict.fromkeys(label.category for label in labels if label.category):
        own = np.array([label.category == category for label in labels])
        others = scores.scored & ~own
        scored = own & scores.scored
        hits = matrix[np.ix_(scored, scored)].sum()
        false = matrix[np.ix_(others, scored)].sum()
        plain[category] = ratio(hits, matrix[scored].sum() + false)
        weighted[category] = math.nan
        if all(label.has_instances for label in labels if label.category == category):
            false = matrix[np.ix_(others, own)].sum()
            weighted[category] = ratio(tp[category], tp[category] + false + fn[category])
    return plain, weighted


def image_ious(scores: Scores) -> dict[int, Figures]:
    """IoU of the scored classes in each image, nan where a class is neither there nor said."""
    names = [label.name for label in scores.labels]
    return {
        index: {name: ratio(hits, pixels + false) for name, ok, (hits, pixels, false)
                in zip(names, scores.scored, counts.classes.T, strict=True) if ok}
        for index, counts in scores.images.items()
    }


def image_table(images: Mapping[str, Figures]) -> str:
    """`image_ious` by the names of images, with their means, as comma-separated values."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["image", "mean", *next(iter(images.values()), {})])
    for name, ious in images.items():
        known = [iou for iou in ious.values() if not math.isnan(iou)]
        figures = [sum(known) / len(known) if known else math.nan, *ious.values()]
        writer.writerow([name, *("" if math.isnan(x) else x for x in figures)])
    return text.getvalue()


def tables(scores: Scores, result: Mapping[str, Any]) -> str:
    """Classes, then categories where there are any, as the official scorer prints them.

    Without known instances there is no column of them; where there are no categories, no line of a
    class that is neither in labels nor in predictions.
    """
    scored = {label.name for label in scores.labels if not label.ignored}
    categories = {x.category for x in scores.labels if x.category and not x.ignored}
    parts, line = [], "-" * 32
    for title, one, names in (("Classes", "class", scored), ("Categories", "category", categories)):
        if not names:
            continue
        rows = [(name, iou, result[f"{one}InstScores"][name])
                for name, iou in result[f"{one}Scores"].items()
                if name in names and (categories or not math.isnan(iou))]
        rows.append(("Score Average", result[f"averageScore{title}"],
                     result[f"averageScoreInst{title}"]))
        inst_known = not all(math.isnan(inst) for _, _, inst in rows)
        *lines, mean = [f"{name:<14}: {iou:>5.3f}" + f"    {inst:>5.3f}" * inst_known
                        for name, iou, inst in rows]
        head = f"{title.lower():<10}       IoU" + "      nIoU" * inst_known
        parts.append("\n".join([head, line, *lines, line, mean, line]))
    return "\n\n\n".join(parts)


def plain(value: Any) -> Any:
    """The same with null for nan, which JSON does not have."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and math.isnan(value) else value
