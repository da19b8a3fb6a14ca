"""Optimizers and one training step's update."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from utils import distributed
from utils.training.schedules import Schedule
from utils.workers import Stream

OPTIMIZERS = ("sgd", "adam", "adamw")
NON_FINITE = "lower --lr, give --clip or --warmup-steps, or resume from the last checkpoint"


def parameter_groups(
    network: nn.Module, lr: float, weight_decay: float, encoder_lr_factor: float, decay_all: bool
) -> list[dict[str, Any]]:
    """Encoder and rest, each with and without weight decay (norms and biases have none)."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            key = name.startswith("encoder."), decay_all or parameter.ndim > 1
            groups.setdefault(key, []).append(parameter)
    rates = {True: lr * encoder_lr_factor, False: lr}
    return [{"params": parameters, "lr": rates[encoder], "initial_lr": rates[encoder],
             "weight_decay": weight_decay if decay else 0.0}
            for (encoder, decay), parameters in groups.items()]


def build_optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, nesterov: bool = False
) -> torch.optim.Optimizer:
    """SGD with momentum, Adam or AdamW; `momentum` is beta 1 of the latter two."""
    more = {"initial_momentum": momentum} if name == "sgd" else {}
    groups = [{**group, **more, "params": list(group["params"])} for group in groups]
    if name == "sgd":
        return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov)
    kind = torch.optim.AdamW if name == "adamw" else torch.optim.Adam
    if any(p.device.type != "cpu" for group in groups for p in group["params"]):
        return kind(groups, betas=(momentum, 0.999))  # PyTorch chooses well there
    optimizer = kind(groups, betas=(momentum, 0.999), fused=True)  # in a third of the time
    optimizer.register_step_pre_hook(lambda *_: _align(optimizer))
    return optimizer


def _align(optimizer: torch.optim.Optimizer) -> None:
    """Lays gradients and moments out as their parameters are.

    The fused kernels of the CPU take numbers in the order of memory, whatever the strides say.
    """
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        if parameter.grad is not None:
            parameter.grad = _laid_out_as(parameter, parameter.grad)
        moments = optimizer.state.get(parameter, {})
        for key, value in moments.items():
            if value.ndim == parameter.ndim > 1:
                moments[key] = _laid_out_as(parameter, value)


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    if value.stride() == parameter.stride():
        return value
    return torch.empty_like(parameter).copy_(value)


def train_mode(network: nn.Module, freeze_bn: bool) -> None:
    """network.train(); with `freeze_bn` batch norms keep the statistics that they have."""
    network.train()
    for module in network.modules():
        if freeze_bn and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


@dataclass(frozen=True)
class Settings:
    """What every step of a training shares."""

    device: torch.device
    precision: str  # fp32, bf16, fp16
    accumulate: int = 1  # forwards per step
    clip: float = 0.0  # largest gradient norm, 0 for none
    ema: float = 0.0  # decay of the running mean
    ema_ramp: int = 0  # steps of its rise, 0 for the usual one
    freeze_bn: bool = False
    seed: int = 0
    teacher: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None  # loss, logits, images


@dataclass
class TrainingState:
    """What a training is at one instant. Data; the functions below change it."""

    network: nn.Module  # wrapped for several ranks
    ema: nn.Module | None  # running mean of the weights, plain
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    scaler: torch.amp.GradScaler  # does nothing unless fp16
    step: int = 0
    epoch: int = 0  # finished: trained and validated
    best: float = -1.0  # highest validation mIoU, of SDCNet2D PSNR; none yet

    @property
    def validated(self) -> nn.Module:
        """The network that is evaluated and shipped: the running mean when there is one."""
        return self.ema or distributed.unwrap(self.network)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        return {
            "weights": self.validated.state_dict(),
            "raw_weights": distributed.unwrap(self.network).state_dict() if self.ema else None,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step, "epoch": self.epoch, "best": self.best,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Everything back, exactly; groups keep the initial rates and decays given now."""
        self.validated.load_state_dict(state["weights"])
        raw = state["raw_weights"] or state["weights"]  # the running mean may be switched on now
        distributed.unwrap(self.network).load_state_dict(raw)
        pairs = zip(state["optimizer"]["param_groups"], self.optimizer.param_groups, strict=True)
        groups = [{**saved, **{key: now[key] for key in now if key not in ("params", "lr")}}
                  for saved, now in pairs]
        self.optimizer.load_state_dict({**state["optimizer"], "param_groups": groups})
        if state["scaler"]:  # none of a training that was in another precision
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.epoch, self.best = state["step"], state["epoch"], state["best"]


def seed_step(seed: int, step: int) -> None:
    """Makes the dropout of a step a function of (seed, step, rank)."""
    entropy = np.random.SeedSequence((Stream.DROPOUT, seed, step, distributed.rank()))
    torch.manual_seed(int(entropy.generate_state(1)[0]))


def make_ema(network: nn.Module) -> nn.Module:
    """A frozen copy in evaluation mode."""
    return deepcopy(network).eval().requires_grad_(False)


@torch.no_grad()
def update_ema(ema: nn.Module, network: nn.Module, decay: float) -> None:
    """ema <- decay * ema + (1 - decay) * network, for every floating tensor; others are copied."""
    pairs = list(zip(chain(ema.parameters(), ema.buffers()),
                     chain(network.parameters(), network.buffers()), strict=True))
    floating = [pair for pair in pairs if pair[1].is_floating_point()]
    averages, values = map(list, zip(*floating, strict=True))
    torch._foreach_lerp_(averages, values, 1 - decay)
    for average, value in pairs:
        if not value.is_floating_point():
            average.copy_(value)


def backward(state: TrainingState, loss: Tensor) -> float:
    """Adds the gradients of one micro-batch; returns its loss as a number.

    Raises FloatingPointError: it is not finite; nothing was changed.
    """
    value = loss.item()
    if not math.isfinite(value):
        raise FloatingPointError(f"loss {value} at step {state.step}; {NON_FINITE}")
    state.scaler.scale(loss).backward()
    return value


def ema_decay(step: int, decay: float, ramp: int) -> float:
    """Decay of the running mean at a step from 0, which rises to `decay`.

    By decay * (1 - exp(-(step + 1) / ramp)), without a ramp min(decay, (1 + step) / (10 + step)).
    """
    if ramp:
        return decay * -math.expm1(-(step + 1) / ramp)
    return min(decay, (1 + step) / (10 + step))


def update(
    state: TrainingState, clip: float = 0.0, ema: float = 0.0, ema_ramp: int = 0
) -> dict[str, float]:
    """One optimizer step from the gradients gathered: unscale, clip, step, average.

    `clip`, `ema` and `ema_ramp` as in `Settings`. Returns the learning rate of the first group and
    the norm of the gradient before clipping.

    Raises FloatingPointError: the gradient is not finite, and not because fp16 looks for its scale.
    """
    factor = state.schedule(state.step)
    for group in state.optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor
        if "momentum" in group:  # of SGD
            group["momentum"] = state.schedule.momentum(state.step, group["initial_momentum"])
    state.scaler.unscale_(state.optimizer)
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    total = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if clip:
        nn.utils.clip_grads_with_norm_(parameters, clip, total)
    norm = total.item()
    if not math.isfinite(norm) and state.scaler.get_scale() <= 1:
        raise FloatingPointError(f"gradient norm {norm} at step {state.step}; {NON_FINITE}")
    state.scaler.step(state.optimizer)
    state.scaler.update()
    state.optimizer.zero_grad(set_to_none=True)
    if state.ema is not None:
        decay = ema_decay(state.step, ema, ema_ramp)
        update_ema(state.ema, distributed.unwrap(state.network), decay)
    state.step += 1
    return {"lr": state.optimizer.param_groups[0]["lr"], "grad_norm": norm}
