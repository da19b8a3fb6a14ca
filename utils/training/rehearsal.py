"""Before the first step: what a training will do for days is done once, on a copy."""

import time
from collections.abc import Callable
from copy import deepcopy

import torch
from torch import nn

from utils import distributed
from utils.training.run_folder import Run

LONG = 60.0  # seconds that are worth a line


def rehearse(training: Run, attempt: Callable[[nn.Module], None]) -> None:
    """Has a step, a validation and a save fail now if they would fail later.

    The training stays as it is: weights, batch statistics and all random streams.

    Args:
        training: its folder gets a checkpoint, which is read back and removed.
        attempt: one forward, backward and validation of the network that it is given.
    """
    begun = time.monotonic()
    network = distributed.unwrap(training.state.network)
    device = next(network.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        attempt(deepcopy(network))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    training.try_to_save()
    if (took := time.monotonic() - begun) > LONG:
        distributed.say(f"note: to try one step, one validation and one save took {took:.0f} s")
