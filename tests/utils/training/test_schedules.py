"""Learning rates: published numbers, curves by hand, per step and per epoch, warm-up."""

import json
import math

import pytest
from conftest import FIXTURES

from utils.options.optimization import add_schedule, build_schedule, check_schedule
from utils.options.parser import Parser
from utils.training.schedules import SCHEDULES, Schedule, Shape, scl_poly

PUBLISHED = json.loads((FIXTURES / "lr_schedules.json").read_text())


def given(*words: object):
    """The options, with --relax-until of the loss that a restart follows."""
    parser = Parser(None)
    add_schedule(parser)
    parser.add_argument("--relax-until", type=int)
    parser.add_argument("--epochs", type=int, default=4)
    return parser.parse_args(list(map(str, words)))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_multipliers(name: str) -> None:
    """Of every step of an epoch, from epochs of different lengths."""
    numbers, expected = PUBLISHED[name]["args"], PUBLISHED[name]["multiplier"]
    words = ["--schedule", numbers["lr_schedule"], "--schedule-per", "epoch",
             "--poly-power", numbers["poly_exp"]]
    if numbers["lr_schedule"] == "scl-poly":
        words += ["--relax-until", numbers["rlx_off_epoch"], "--restart-power", numbers["repoly"],
                  "--restart-factor", numbers["rescale"]]
    offsets = [0]
    for epoch in range(numbers["max_epoch"]):
        offsets.append(offsets[-1] + 2 + epoch % 3)
    curve = build_schedule(given(*words), offsets)
    for factor, start, end in zip(expected, offsets, offsets[1:], strict=False):
        assert [curve(step) for step in range(start, end)] == pytest.approx(
            [factor] * (end - start), abs=1e-12)


def test_per_step_it_restarts_with_the_first_step_of_the_epoch() -> None:
    offsets = [0, 10, 20, 30, 40]
    curve = build_schedule(given("--schedule", "scl-poly", "--relax-until", 2,
                                 "--poly-power", 1, "--restart-factor", 0.5), offsets)
    expected = [1 - step / 40 for step in range(20)]
    expected += [0.5 * (1 - step / 20) ** 1.5 for step in range(20)]
    assert [curve(step) for step in range(40)] == pytest.approx(expected, abs=1e-12)


def test_restart_behind_a_warmup() -> None:
    words = ["--schedule", "scl-poly", "--relax-until", 2, "--warmup-steps", 4]
    curve = build_schedule(given(*words), [0, 10, 20, 30])
    assert [curve(step) for step in range(4)] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert curve(4) == 1
    assert curve(19) < 0.5
    assert curve(20) == 1


def test_it_restarts_where_relaxation_ends() -> None:
    words = ["--schedule", "scl-poly", "--schedule-per", "epoch", "--relax-until"]
    one, two = (build_schedule(given(*words, epoch), [0, 1, 2, 3, 4]) for epoch in (1, 2))
    assert [one(step) == 1 for step in range(4)] == [True, True, False, False]
    assert [two(step) == 1 for step in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(("words", "message"), [
    (["--final-factor", 0.5], "--final-factor: has no effect with --schedule poly"),
    (["--restart-factor", 0.5, "--schedule", "cosine"], "--restart-factor: has no effect"),
    (["--restart-power", 2], "it is an option of scl-poly"),
    (["--poly-power", 2, "--schedule", "constant"], "--poly-power: has no effect"),
    (["--schedule", "scl-poly"], "give --relax-until"),
])
def test_contradictions(words: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_schedule(given(*words))


def test_cut_short_it_does_not_start_again() -> None:
    words = ["--schedule", "scl-poly", "--relax-until", 3, "--poly-power", 1]
    args = given(*words)
    check_schedule(args)
    curve = build_schedule(args, [0, 10])  # --max-steps 10 of more
    assert [curve(step) for step in range(10)] == pytest.approx([1 - n / 10 for n in range(10)])


def test_a_restart_may_follow_the_first_epoch() -> None:
    args = given("--schedule", "scl-poly", "--relax-until", 0)
    check_schedule(args)
    assert build_schedule(args, [0, 10, 20])(10) == pytest.approx(0.5**1.5)


def test_restart_of_the_curve() -> None:
    shape = Shape(power=2, restart=0.5, restart_factor=0.3, restart_power=1)
    assert scl_poly(0.25, shape) == 0.75**2
    assert scl_poly(0.5, shape) == 0.3
    assert scl_poly(0.75, shape) == pytest.approx(0.15)


@pytest.mark.parametrize(("name", "half"), [("poly", 0.5**0.9), ("cosine", 0.5), ("linear", 0.505),
                                            ("constant", 1)])
def test_schedules(name: str, half: float) -> None:
    curve = Schedule(name, total_steps=100)
    assert curve(0) == 1
    assert curve(50) == pytest.approx(half)
    assert curve(25) == pytest.approx(SCHEDULES[name](0.25, Shape()))
    assert [curve(s) for s in range(100)] == sorted((curve(s) for s in range(100)), reverse=True)


def test_cosine_and_poly_by_hand() -> None:
    assert Schedule("cosine", 4)(1) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert Schedule("poly", 4)(3) == pytest.approx(0.25**0.9)


def test_warmup_rises_to_the_curve() -> None:
    curve = Schedule("cosine", total_steps=14, warmup_steps=4)
    assert [curve(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert curve(9) == pytest.approx(0.5)


def test_the_published_linear_course() -> None:
    """Of CSPSG: epoch e of E has (1 - e / E) * 0.99 + 0.01."""
    words = ["--schedule", "linear", "--schedule-per", "epoch", "--final-factor", 0.01]
    curve = build_schedule(given(*words), [0, 2, 5, 9, 12])
    factors = [(1 - epoch / 4) * (1 - 0.01) + 0.01 for epoch in range(4)]
    expected = [factors[epoch] for epoch in (0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3)]
    assert [curve(step) for step in range(12)] == pytest.approx(expected, abs=1e-12)


def test_momentum_without_a_warmup_of_its_own() -> None:
    assert build_schedule(given("--warmup-steps", 4), [0, 9]).momentum(0, 0.9) == 0.9
    words = ["--warmup-steps", 4, "--warmup-momentum", 0.5]
    curve = build_schedule(given(*words), [0, 9])
    assert [curve.momentum(step, 0.9) for step in range(6)] == pytest.approx(
        [0.5, 0.6, 0.7, 0.8, 0.9, 0.9])
