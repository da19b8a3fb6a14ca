"""evaluate.py --compare: the change from an earlier evaluation, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_camvid

from datasets import build_dataset, camvid
from utils.images import read_label, write_png
from utils.scoring.comparison import Comparison, Row


@pytest.fixture
def words(tmp_path: Path) -> list[object]:
    """Options that score moved labels of a small data set of 11 classes."""
    root = draw_camvid(tmp_path / "camvid")
    for sample in build_dataset("camvid", root, "val").samples:
        ids = np.roll(read_label(sample.label), 3, 1)
        write_png(tmp_path / "pred" / f"{sample.name}.png", np.where(ids == 11, 0, ids))
    return ["--predictions", tmp_path / "pred", "--dataset", "camvid", "--data-root", root]


def test_printed_change(words: list, tmp_path: Path, call) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    assert call("evaluate.py", *words, "--json", before).returncode == 0
    for path in (tmp_path / "pred").iterdir():  # one class becomes right
        truth = read_label(tmp_path / "camvid" / "valannot" / path.name)
        ids = read_label(path)
        ids[truth == 3] = 3
        write_png(path, ids)
    done = call("evaluate.py", *words, "--json", after, "--compare", before)
    assert done.returncode == 0, done.stderr
    then, now = (json.loads(path.read_text()) for path in (before, after))
    assert now["classScores"]["road"] > then["classScores"]["road"]
    lines = {line.partition(":")[0].strip(): line.partition(":")[2].split()
             for line in done.stdout[done.stdout.index("change from") :].splitlines()}
    for name, key in [*((name, name) for name in now["classScores"] if name != "void"),
                      ("mean IoU", "averageScoreClasses"), ("pixel accuracy", "pixelAccuracy")]:
        figures = [scores.get(key, scores["classScores"].get(key)) for scores in (then, now)]
        change = 100 * (figures[1] - figures[0])
        assert lines[name] == [f"{100 * figures[0]:.2f}", f"{100 * figures[1]:.2f}",
                               f"{change:+.2f}"]
    assert "void" not in lines
    assert "mean iIoU" not in lines  # neither has one
    assert "note" not in lines
    limited = call("evaluate.py", *words, "--limit", 1, "--compare", before)
    assert "note: images 2, now 1" in limited.stdout


def of_classes(scores: dict[str, object]) -> bytes:
    return json.dumps({"dataset": "camvid", "split": "val", "images": 2,
                       "classScores": scores}).encode()


NAMES = [*camvid.TABLE.class_names, "void"]
NUMBERS = dict.fromkeys(NAMES, 0.5)


@pytest.mark.parametrize(("content", "message"), [
    (None, "no such file of scores"),
    (Path.mkdir, "Is a directory"),
    (b"\xff\xfe\x00", "not a file of scores"),
    (b"{", "not a file of scores"),
    (b"[1, 2]", "not a file of scores"),
    (b'{"kind": "val", "mean_iou": 0.5}', "not a file of scores"),
    (of_classes(dict.fromkeys(NAMES, "0.5")), "not a file of scores"),
    (of_classes(dict.fromkeys(NAMES[1:], 0.5)), "('sky' only in one of them)"),
    (of_classes({"\x1b[31mcat": 0.5, **NUMBERS}), r"('\x1b[31mcat' only in one of them)"),
    (of_classes(dict(reversed(NUMBERS.items()))), "(in another order)"),
])
def test_refused(content: object, message: str, words: list, tmp_path: Path, call) -> None:
    path = tmp_path / "before.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        content(path)
    done = call("evaluate.py", *words, "--compare", path, "--report", tmp_path / "report",
                "--json", tmp_path / "after.json")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()
    assert not (tmp_path / "after.json").exists()


def test_what_is_refused_only_for_its_classes_is_taken_with_them(
    words: list, tmp_path: Path, call
) -> None:
    path = tmp_path / "before.json"
    path.write_bytes(of_classes(NUMBERS))
    assert call("evaluate.py", *words, "--compare", path).returncode == 0


def test_scale_of_the_bars() -> None:
    """The largest change, so that noise does not look like one."""
    class Road:
        name, ignored = "road", False

    def scale(before: float | None, now: float) -> float:
        sides = [{"classScores": {"road": iou}} for iou in (before, now)]
        return Comparison("x.json", *sides, [Road()]).scale

    assert scale(0.5, 0.4) == pytest.approx(0.1)
    assert scale(0.5, 0.501) == 0.01
    assert scale(None, 0.5) == 0.01
    assert Row("a", 0.25, 1).change == 0.75
