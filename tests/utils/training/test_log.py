"""What a training logs: means between records, which validation is the best."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from utils.scoring.validation import ConfusionMatrix
from utils.training.log import Log


def confusion(hits: int) -> ConfusionMatrix:
    """Of ten pixels of one class."""
    matrix = ConfusionMatrix(["road"])
    matrix.update(torch.zeros(1, 10, dtype=torch.uint8),
                  torch.tensor([[0] * hits + [1] * (10 - hits)], dtype=torch.uint8))
    return matrix


@pytest.mark.parametrize(("hits", "best"), [
    ([5, 5, 6, 6, 4], [True, False, True, False, False]), ([0, 0], [True, False]),
])
def test_a_tie_is_no_new_best(hits: list[int], best: list[bool], tmp_path: Path) -> None:
    state = SimpleNamespace(best=-1.0, step=1)
    log = Log(tmp_path, 10, main=False)
    assert [log.validation(state, confusion(count)) for count in hits] == best
    assert state.best == max(hits) / 10


def test_without_a_figure_there_is_a_best_all_the_same(tmp_path: Path) -> None:
    state = SimpleNamespace(best=-1.0, step=1)
    empty = ConfusionMatrix(["road"])
    assert math.isnan(empty.mean_iou())
    assert Log(tmp_path, 10, main=False).validation(state, empty)


def test_records_are_means_since_the_record_before(tmp_path: Path) -> None:
    log = Log(tmp_path, total_steps=5, images_per_step=4, every=2)
    for step, loss in enumerate([1.0, 2.0, 4.0, 8.0, 16.0], start=1):
        log.step(step, loss, {"lr": step / 10})
    log.close()
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(record["step"], record["loss"], record["lr"]) for record in records] == [
        (2, 1.5, 0.2), (4, 6.0, 0.4), (5, 16.0, 0.5)]


def test_a_long_validation_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    log, now = Log(tmp_path, 10), [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for done in range(8):  # 4 s each
        log.validating(done, 101)
        now[0] += 4
    assert capsys.readouterr().out.splitlines() == [
        "validating, 3 of 101 images", "validating, 6 of 101 images"]
    log.close()
