"""Numbers of parameter groups, clipping, running mean and accumulation, by hand."""

import itertools
import json
import math

import pytest
import torch
from conftest import run_script
from torch import Tensor, nn

import train
from utils import distributed
from utils.training.optimization import (
    Settings,
    TrainingState,
    backward,
    build_optimizer,
    ema_decay,
    make_ema,
    parameter_groups,
    seed_step,
    train_mode,
    update,
    update_ema,
)
from utils.training.schedules import Schedule


def state_of(
    network: nn.Module, lr: float = 1.0, schedule: Schedule | None = None
) -> TrainingState:
    groups = parameter_groups(network, lr, 0.0, 1.0, False)
    return TrainingState(
        network=network, ema=make_ema(network), optimizer=build_optimizer("sgd", groups, 0.0),
        schedule=schedule or Schedule("constant", 10),
        scaler=torch.amp.GradScaler("cpu", enabled=False),
    )


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
        self.classifier = nn.Conv2d(2, 1, 1)


def test_parameter_groups() -> None:
    network = Two()
    found = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in parameter_groups(network, 0.1, 0.01, 0.5, decay_all=False)
        for parameter in group["params"]
    }
    expected = {
        network.encoder[0].weight: (0.05, 0.01), network.encoder[0].bias: (0.05, 0.0),
        network.encoder[1].weight: (0.05, 0.0), network.encoder[1].bias: (0.05, 0.0),
        network.classifier.weight: (0.1, 0.01), network.classifier.bias: (0.1, 0.0),
    }
    assert found == {id(parameter): value for parameter, value in expected.items()}
    everywhere = parameter_groups(network, 0.1, 0.01, 0.5, decay_all=True)
    assert {group["weight_decay"] for group in everywhere} == {0.01}


def test_running_mean() -> None:
    network, average = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(5.0)
    network.num_batches_tracked.fill_(7)
    update_ema(average, network, decay=0.9)
    assert average.weight.item() == pytest.approx(0.9 * 1 + 0.1 * 3)
    assert average.running_mean.item() == pytest.approx(0.1 * 5)
    assert average.num_batches_tracked.item() == 7


def test_running_mean_starts_gently() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    state = state_of(network)
    state.ema.weight.data.fill_(0.0)
    network.weight.grad = torch.zeros(1, 1)
    update(state, ema=0.999)
    assert state.ema.weight.item() == pytest.approx(1 - 1 / 10)  # decay (1 + 0) / (10 + 0)


@pytest.mark.parametrize(("step", "ramp", "expected"), [
    (0, 0, 0.1), (9999, 0, 0.999), (0, 2000, 0.999 * (1 - math.exp(-1 / 2000))),
    (1999, 2000, 0.999 * (1 - math.exp(-1))), (10**6, 2000, 0.999),
])
def test_decay_of_the_running_mean(step: int, ramp: int, expected: float) -> None:
    """With a ramp that of YOLOv5's and CSPSG's, which count the update itself."""
    assert ema_decay(step, 0.999, ramp) == pytest.approx(expected, rel=1e-9)


def test_the_ramp_is_used() -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.fill_(1.0)
    state = state_of(network)
    state.ema.weight.data.fill_(0.0)
    network.weight.grad = torch.zeros(1, 1)
    update(state, ema=0.5, ema_ramp=1)
    assert state.ema.weight.item() == pytest.approx(1 - 0.5 * (1 - math.exp(-1)))


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_rises_with_the_warmup(nesterov: bool) -> None:
    """Gradients of 1, by hand: v <- m v + 1; the step is v, or of Nesterov 1 + m v."""
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.zero_()
    groups = parameter_groups(network, 1.0, 0.0, 1.0, False)
    state = TrainingState(
        network=network, ema=None, scaler=torch.amp.GradScaler("cpu", enabled=False),
        optimizer=build_optimizer("sgd", groups, 0.8, nesterov),
        schedule=Schedule("constant", 10, warmup_steps=2, warmup_momentum=0.4),
    )
    place, velocity = 0.0, 0.0
    for momentum, rate in [(0.4, 1 / 3), (0.6, 2 / 3), (0.8, 1.0), (0.8, 1.0)]:
        network.weight.grad = torch.ones(1, 1)
        update(state)
        velocity = momentum * velocity + 1
        place -= rate * (1 + momentum * velocity if nesterov else velocity)
        assert state.optimizer.param_groups[0]["momentum"] == pytest.approx(momentum)
        assert network.weight.item() == pytest.approx(place, rel=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_parameters_given_one_by_one_are_updated(name: str) -> None:
    network = nn.Linear(1, 1, bias=False)
    network.weight.data.zero_()
    optimizer = build_optimizer(name, [{"params": network.parameters(), "lr": 0.5}], 0.9)
    network.weight.grad = torch.ones(1, 1)
    optimizer.step()
    assert network.weight.item() == pytest.approx(-0.5)


@pytest.mark.parametrize(("name", "kind"), [("adam", torch.optim.Adam),
                                            ("adamw", torch.optim.AdamW)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adam_of_any_memory_layout(
    name: str, kind: type[torch.optim.Adam], layout: torch.memory_format
) -> None:
    """Weights, gradients and moments lie otherwise, and the plain loop's numbers come out."""
    torch.manual_seed(0)
    ours, plain = (nn.Parameter(torch.ones(4, 3, 2, 2).contiguous(memory_format=layout))
                   for _ in range(2))
    optimizer = build_optimizer(name, [{"params": [ours], "lr": 0.1}], 0.8)
    expected = kind([plain], lr=0.1, betas=(0.8, 0.999), fused=False)
    for step in range(4):
        gradient = torch.randn(4, 3, 2, 2)
        other = (torch.channels_last, torch.contiguous_format)[step % 2]
        ours.grad, plain.grad = gradient.contiguous(memory_format=other), gradient
        optimizer.step()
        expected.step()
        torch.testing.assert_close(ours, plain)
        loaded = optimizer.state_dict()
        for key in ("exp_avg", "exp_avg_sq"):
            loaded["state"][0][key] = loaded["state"][0][key].contiguous(memory_format=other)
        optimizer.load_state_dict(loaded)
    assert optimizer.param_groups[0]["fused"]


@pytest.mark.parametrize(
    ("clip", "step"), [(0.0, [3.0, 4.0]), (10.0, [3.0, 4.0]), (1.0, [0.6, 0.8])]
)
def test_clipping_and_step(clip: float, step: list[float]) -> None:
    network = nn.Linear(2, 1, bias=False)
    network.weight.data.zero_()
    state = state_of(network, lr=0.5, schedule=Schedule("constant", 10, warmup_steps=1))
    network.weight.grad = torch.tensor([[3.0, 4.0]])
    figures = update(state, clip=clip)
    assert figures["grad_norm"] == pytest.approx(5.0)
    assert figures["lr"] == pytest.approx(0.25)
    assert network.weight.tolist()[0] == pytest.approx([-0.25 * value for value in step], rel=1e-5)
    assert network.weight.grad is None
    assert state.step == 1


def test_non_finite_stops() -> None:
    network = nn.Linear(1, 1, bias=False)
    state = state_of(network)
    with pytest.raises(FloatingPointError, match="loss nan at step 0"):
        backward(state, network.weight.sum() * math.nan)
    before = network.weight.clone()
    network.weight.grad = torch.full((1, 1), math.inf)
    with pytest.raises(FloatingPointError, match="gradient norm"):
        update(state)
    assert torch.equal(network.weight, before)


class Said:
    """A log that keeps the losses."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def step(self, step: int, loss: float, figures: dict[str, float]) -> None:
        self.losses.append(loss)


class Brightness(nn.Module):
    """A weight times the mean of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images: Tensor) -> Tensor:
        return self.weight * images.float().mean((1, 2, 3))


def train_on(values: list[float], accumulate: int) -> tuple[float, list[float]]:
    """The weight after SGD with rate 1, and the losses that were logged, of means of images."""
    network, log = Brightness(), Said()
    settings = Settings(torch.device("cpu"), "fp32", accumulate, clip=0.0, ema=0.0, ema_ramp=0,
                        freeze_bn=False, seed=0)
    images = torch.tensor(values).view(-1, 1, 1, 1).expand(-1, 2, 2, 3)
    target = torch.zeros(1, 2, 2, dtype=torch.uint8)
    batches = iter([(part, target) for part in images.chunk(accumulate)])
    state = state_of(network)
    state.network = distributed.wrap(network)
    train.train_until(1, state, batches, lambda logits, _: logits.mean(), settings, False, log)
    return network.weight.item(), log.losses


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_micro_batches_are_averaged(accumulate: int) -> None:
    """The loss of weight 1 is the mean of all, and so is its gradient."""
    assert train_on([1, 3, 4, 8], accumulate) == (1 - 4, [4.0])


def test_step_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws differ between seeds, steps and ranks, and are the same again."""
    def draw(seed: int, step: int, rank: int) -> float:
        monkeypatch.setattr(distributed, "rank", lambda: rank)
        seed_step(seed, step)
        return torch.rand(()).item()

    assert draw(0, 1, 0) == draw(0, 1, 0)
    assert len({draw(*numbers) for numbers in itertools.product(range(3), repeat=3)}) == 27


def test_frozen_batch_norm() -> None:
    network = Two()
    train_mode(network, freeze_bn=True)
    assert network.training
    assert not network.encoder[1].training
    train_mode(network, freeze_bn=False)
    assert network.encoder[1].training


RANKS = """
import json, sys
from pathlib import Path
sys.path += [str(Path(sys.argv[1]).parents[i]) for i in (0, 2)]  # its folder, conftest's
from test_optimization import train_on
from utils import distributed
distributed.start("cpu", threads=1)
values = [[1, 3, 4, 8], [2, 6, 10, 14]][distributed.rank()]
folder = Path(sys.argv[2])
(folder / f"{distributed.rank()}.json").write_text(json.dumps(train_on(values, accumulate=2)))
distributed.stop()
"""


def test_two_ranks_with_accumulation_have_the_gradient_of_one(tmp_path) -> None:
    """Of all eight images, whose mean is 6; and all ranks log the mean of all."""
    (tmp_path / "step.py").write_text(RANKS)
    done = run_script(tmp_path / "step.py", __file__, tmp_path, ranks=2)
    assert done.returncode == 0, done.stderr
    for rank in (0, 1):
        assert json.loads((tmp_path / f"{rank}.json").read_text()) == [1 - 6, [6.0]]


@pytest.mark.parametrize(("length", "world", "expected"), [
    (5, 2, [[0, 2, 4], [1, 3]]), (2, 3, [[0], [1], []]), (3, 1, [[0, 1, 2]]),
])
def test_each_index_is_on_one_rank(
    length: int, world: int, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distributed, "world", lambda: world)
    found = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        found.append([*distributed.shard(length)])
    assert found == expected
