"""The precision that a network computes in: as given, or the faster one as timed on this CPU."""

import hashlib
import json
import platform
import re
from collections.abc import Callable
from contextlib import suppress
from copy import deepcopy
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from utils import distributed
from utils.files import read_file, write_file

CHOICES = ("fp32", "bf16")  # of a CPU
KEPT = Path(".cache/streetseg/precision.json")  # in the user's home
FEW = 20  # forwards, for which timing does not pay
ROUNDS, LIMIT = 5, 10.0  # rounds that count, and seconds after which no other begins
GAIN = 1.05  # times as fast as fp32 is what bf16 has to be, for its fewer digits
Run = Callable[[nn.Module, str], object]  # a forward, given a network and a precision


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision on `device`; `precision` is "fp32" (off), "bf16" or "fp16"."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


def choose_precision(
    device: torch.device, wanted: str, network: nn.Module, about: dict[str, Any],
    forwards: int | None, run: Run,
) -> str:
    """`wanted`; instead of "auto" the precision that is fast here, said in a line.

    On CUDA that is bf16 where the hardware has it. The flags of a CPU do not tell: both are timed,
    on the main rank, and the choice is kept for the next time.

    Args:
        device: that computes.
        wanted: fp32, bf16, fp16 or auto.
        network: stays as it is, and so do all random streams: a copy is timed.
        about: what, besides the network's `config`, decides about the time of a run; as JSON.
        forwards: that are to come; below `FEW` it is fp32, unless a choice is kept. None for many.
        run: does one of them, given the copy and a precision.
    """
    if wanted != "auto":
        return wanted
    chosen, reason = "fp32", f"on {device.type}"
    if device.type == "cuda":
        chosen = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu":
        own = _choose_on_cpu(network, about, forwards, run) if distributed.rank() == 0 else None
        chosen, reason = distributed.gather(own, patiently=True)[0]
    distributed.say(f"precision: {chosen}, {reason}")
    return chosen


def choose_for_training(
    device: torch.device, wanted: str, network: nn.Module, inputs: tuple[Tensor, ...], steps: int
) -> str:
    """As `choose_precision`, timed forward and backward.

    Args:
        device: that trains.
        wanted: fp32, bf16, fp16 or auto.
        network: on the device, in the mode and memory format that it is trained in.
        inputs: of a forward on this rank; their content is replaced.
        steps: forwards that are to come.
    """
    for each in inputs:  # noise: sums of equal numbers could end in tiny ones, which are slow
        each.random_(0, 256, generator=torch.Generator(each.device).manual_seed(0))

    def run(network: nn.Module, precision: str) -> None:
        with autocast(device, precision):
            outputs = network(*inputs)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        torch.stack([each.float().square().mean() for each in outputs]).sum().backward()
        network.zero_grad()

    about = {"training": True, "shapes": [list(each.shape) for each in inputs]}
    return choose_precision(device, wanted, network, about, steps, run)


def _choose_on_cpu(
    network: nn.Module, about: dict[str, Any], forwards: int | None, run: Run
) -> tuple[str, str]:
    """The precision, and why."""
    config: Any = network.config
    machine = processor_facts(), str(torch.__version__), torch.get_num_threads()
    decisive = json.dumps([machine, config, about], sort_keys=True, default=str)
    key = f"{config['arch']} {hashlib.sha256(decisive.encode()).hexdigest()[:16]}"
    kept = _read_kept()
    if key in kept:
        return kept[key], f"as timed before (~/{KEPT})"
    if forwards is not None and forwards < FEW:
        return "fp32", f"bf16 is not timed for fewer than {FEW} forwards"
    copy = deepcopy(network)
    with torch.random.fork_rng(devices=()):
        seconds = time_by_turns({choice: partial(run, copy, choice) for choice in CHOICES})
    gain = seconds["fp32"] / seconds["bf16"]
    chosen = "bf16" if gain >= GAIN else "fp32"
    with suppress(OSError, RuntimeError):  # without it, it is timed again
        write_file(Path.home() / KEPT, json.dumps({**_read_kept(), key: chosen}, indent=1).encode())
    return chosen, f"bf16 is {gain:.2f} times as fast as fp32 on this CPU"


def time_by_turns(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median seconds of each, by turns.

    The first turn is to warm up, and counts only where it alone takes the time there is. It ends
    soon where the last one is hopeless beside the first, as bf16 where it is emulated.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    begin, (first, *_, last) = perf_counter(), [*works, *works]
    works[first]()  # loads what all need: in a turn it would count against this one alone
    for turn in range(1 + ROUNDS):
        for name, work in works.items():
            start = perf_counter()
            work()
            seconds[name].append(perf_counter() - start)
        hopeless = turn and seconds[last][-1] > 2 * seconds[first][-1]
        if hopeless or perf_counter() - begin > LIMIT:
            break
    return {name: median(each[1:] or each) for name, each in seconds.items()}


def processor(device: torch.device) -> str:
    """What computes, as far as last digits depend on it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = re.search(r"^model name\s*: (.*)", processor_facts(), re.MULTILINE)
    name = model[1] if model else platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def processor_facts() -> str:
    """Model and abilities of the CPU."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    return "\n".join(x for x in lines if x.startswith(("model", "flags", "Features", "CPU part")))


def _read_kept() -> dict[str, str]:
    """What is kept and can be read; else it is made anew."""
    try:
        content = json.loads(read_file(Path.home() / KEPT))
    except (OSError, ValueError, RuntimeError):
        return {}
    entries = content.items() if isinstance(content, dict) else ()
    return {key: choice for key, choice in entries if choice in CHOICES}
