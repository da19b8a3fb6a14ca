"""One process or many: everything here does nothing, correctly, when there is one."""

import contextlib
import ctypes
import os
import platform
import re
import socket
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from utils.files import reason, shown
from utils.processes import count_cores
from utils.processes.peers import Peers, meet
from utils.processes.waiting_threads import sleep_beside_others
from utils.stopping import end_with_launcher

PATIENCE = 600.0  # seconds
WAITING = timedelta(days=30)  # for what one rank prepares for all, as long as it lives
LAUNCHED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
NUMBERS = {  # the least that they are
    "RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 0, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1}
GROUP: dict[str, Any] = {}  # of this process, once it has joined others
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST = 2**30  # bytes; larger pieces go back to the system still
OLD_MOST = 2**25  # the most that glibc before 2.35 takes


def start(device: str, threads: int | None = None, patience: float = PATIENCE) -> torch.device:
    """Joins the processes that `torch.distributed.run` launched; sets this process's threads.

    On the CPU, memory that is freed is kept for the next tensor.

    Args:
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        threads: of this process on the CPU; default cores / local ranks.
        patience: seconds in which the processes have to answer each other, once they compute.

    Returns this process's device.

    Raises ValueError: the device is not there.
    """
    launched = is_launched()  # first: it says what is wrong with the others
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    local_world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    chosen = find_device(device, local_rank, local_world)
    threads = threads or max(1, count_cores() // local_world)
    torch.set_num_threads(threads)
    sleep_beside_others(threads)
    if chosen.type == "cpu":
        keep_freed_memory()
    if launched:
        join(chosen, timedelta(seconds=patience))
    return chosen


def is_launched() -> bool:
    """Whether this is one of the processes of a launcher.

    Raises ValueError: by halves, as what a cluster's shell leaves behind.
    """
    launched = bool({"RANK", "WORLD_SIZE"} & os.environ.keys())
    missing = [name for name in LAUNCHED if launched and not os.environ.get(name)]
    number = {name: os.environ.get(name, str(least)) for name, least in NUMBERS.items()
              if launched or name.startswith("LOCAL_")}
    wrong = [name for name, text in number.items()
             if not text.isdecimal() or int(text) < NUMBERS[name]]
    if launched and not missing and not wrong:
        ends = {"MASTER_PORT": 1 << 16, "RANK": int(number["WORLD_SIZE"])}
        wrong = [name for name, end in ends.items() if int(number[name]) >= end]
    if missing or wrong:
        fault = (f"without {', '.join(missing)}" if missing else
                 f"{wrong[0]} cannot be {shown(number[wrong[0]])}")
        raise ValueError(f"RANK, WORLD_SIZE or LOCAL_RANK is set, as by a launcher, but {fault}; "
                         "start with python -m torch.distributed.run, or unset RANK and WORLD_SIZE "
                         "and what begins with LOCAL_")
    return launched


def join(device: torch.device, patience: timedelta) -> None:
    """Waits until all processes of the launcher are there.

    Raises RuntimeError: the launcher has ended, or one of the processes.
    """
    end_with_launcher()
    place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it listens before we start
        try:
            socket.create_connection(place, timeout=60).close()
        except ConnectionRefusedError:
            raise RuntimeError(f"the launcher at {place[0]}:{place[1]} has ended") from None
    cuda = device.type == "cuda"
    set_timeout = getattr(dist, "set_timeout", None) or dist.distributed_c10d._set_pg_timeout
    try:
        store, number, count = next(dist.rendezvous("env://", timeout=patience))
        store = dist.PrefixStore(meet(store, number, count, patience), store)
        dist.init_process_group("nccl" if cuda else "gloo", store=store, rank=number,
                                world_size=count, timeout=patience,
                                device_id=device if cuda else None)
        GROUP["patient"] = dist.new_group(backend="gloo", timeout=patience)
        set_timeout(WAITING, GROUP["patient"])  # now that every rank is there
        GROUP["patience"] = patience.total_seconds()
        GROUP["peers"] = Peers(gather((socket.gethostname(), os.getpid())), store.clone(), patience)
    except RuntimeError as error:
        if "EADDRINUSE" in str(error):
            raise
        if dist.is_initialized():
            dist.destroy_process_group()
        raise RuntimeError("the ranks have not come together: one of them, or the launcher, ended "
                           f"meanwhile, or their network is cut ({reason(error)})") from None


def find_device(name: str, local_rank: int = 0, local_world: int = 1) -> torch.device:
    """The device of a name; "auto" takes CUDA, then MPS, then the CPU.

    Raises ValueError: the device is not there.
    """
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", name):
        raise ValueError(f"--device {name}: auto, cpu, cuda, cuda:N or mps is expected")
    gpus = torch.cuda.device_count()
    if name == "auto":
        mps = torch.backends.mps.is_available() and local_world == 1
        name = "cuda" if gpus else "mps" if mps else "cpu"
    kind, _, index = name.partition(":")
    if kind == "cuda":
        number = int(index or local_rank)
        if number >= gpus or local_world > max(gpus, 1):
            raise ValueError(f"--device {name}: {gpus} CUDA GPUs visible, {local_world} processes "
                             "here; use --device cpu or fewer processes")
        torch.cuda.set_device(number)
        return torch.device("cuda", number)
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"--device {name}: no MPS device here; use --device cpu")
    return torch.device(kind)


def stop() -> None:
    """Leaves the process group; when all is well, together with the others."""
    if dist.is_initialized() and sys.exception() is None:  # else a rank may be gone already
        dist.barrier()
    leave()


def leave() -> None:
    """Leaves the process group, if this is in one.

    Who has given up an exchange ends here: PyTorch would wait for it.
    """
    if peers := GROUP.pop("peers", None):
        if peers.gave_up:
            sys.stderr.flush()
            os._exit(1)
        peers.end()
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """This process's number among all."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Processes in all."""
    return dist.get_world_size() if dist.is_initialized() else 1


def say(text: str) -> None:
    """Prints a line, once."""
    if rank() == 0:
        print(text, flush=True)


def barrier() -> None:
    """Waits for the others."""
    if dist.is_initialized():
        dist.barrier()


@contextlib.contextmanager
def main_first() -> Iterator[None]:
    """Runs the block on the main rank, then on the others: what it caches is made once."""
    if rank() > 0:
        _wait()
    yield
    if rank() == 0:
        _wait()


def _wait() -> None:
    """A barrier without patience: what the main rank prepares may take hours."""
    if dist.is_initialized():
        GROUP["peers"].attend(dist.barrier(group=GROUP["patient"], async_op=True))


def synchronize_batch_norm(network: nn.Module, device: torch.device) -> nn.Module:
    """Batch statistics over all ranks; PyTorch has it on CUDA only."""
    if device.type != "cuda":
        say(f"--sync-bn: not on {device.type}; every process keeps its own batch statistics")
        return network
    own = getattr(network, "synchronize_batch_norm", None)  # of layers that torch would spoil
    return own() if own else nn.SyncBatchNorm.convert_sync_batchnorm(network)


def wrap(network: nn.Module, compiled: bool = False) -> nn.Module:
    """The network to train: itself, compiled if wished, in DistributedDataParallel if needed."""
    wrapped: Any = torch.compile(network) if compiled else network
    return DistributedDataParallel(wrapped) if world() > 1 else wrapped


def unwrap(network: nn.Module) -> nn.Module:
    """The plain network, not compiled."""
    network = network.module if isinstance(network, DistributedDataParallel) else network
    return getattr(network, "_orig_mod", network)


def accumulate(network: nn.Module, last: bool) -> contextlib.AbstractContextManager:
    """Around forward and backward: gradients travel with the last micro-batch of a step only."""
    if isinstance(network, DistributedDataParallel) and not last:
        return network.no_sync()
    return contextlib.nullcontext()


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum over all ranks, in place, exact for integers."""
    if dist.is_initialized():
        dist.all_reduce(tensor)
    return tensor


def gather(part: Any, patiently: bool = False) -> list[Any]:
    """The parts of all ranks, in their order, on every rank; of plain data, not tensors.

    Args:
        part: of this rank.
        patiently: however long another one takes to have its own.
    """
    if not dist.is_initialized():
        return [part]
    if patiently:
        _wait()
    parts: list[Any] = [None] * world()
    dist.all_gather_object(parts, part)
    return parts


def agree(what: str, own: dict[str, Any], error: type[Exception], remedy: str) -> None:
    """Has every rank end if one of them has something else than the main rank.

    Args:
        what: is compared, in words.
        own: name -> plain data of this rank, or a digest.
        error: what is raised, on every rank; the main rank says it.
        remedy: that follows in the message.
    """
    if world() == 1:
        return
    for number, (host, other) in enumerate(parts := gather((socket.gethostname(), own), True)):
        differ = [name for name, value in other.items() if value != parts[0][1].get(name)]
        if differ:
            raised = error(f"{what} differ: rank {number} on {host} has another {differ[0]} than "
                           f"rank 0 on {parts[0][0]}; {remedy}")
            raised.told = rank() > 0  # type: ignore[attr-defined]
            raise raised


def mean_over_ranks(*values: float, device: torch.device) -> list[float]:
    """The means of some numbers over all ranks; the numbers themselves with one rank."""
    if not dist.is_initialized():
        return list(values)
    total = sum_over_ranks(torch.tensor(values, dtype=torch.float32, device=device))
    return [value / world() for value in total.tolist()]


def broadcast_buffers(network: nn.Module) -> None:
    """Gives every rank the main rank's batch statistics, so that all evaluate one network."""
    if dist.is_initialized():
        for buffer in network.buffers():
            dist.broadcast(buffer, src=0)


def shard(length: int) -> range:
    """This rank's part of range(length): each index on exactly one rank, none twice."""
    return range(rank(), length, world())


def keep_freed_memory() -> bool:
    """Has glibc keep what is freed for the next tensor, instead of giving it back.

    By default every large tensor is mapped, filled with zeros by the kernel page by page, and
    unmapped: in a training on the CPU 18,000 pages a step, a fifth of its time. A
    step needs again what the last one needed, so that the most memory in use hardly changes.

    Returns whether there is something to set: other C libraries are left alone.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    kept = library.mallopt(M_MMAP_THRESHOLD, MOST) or library.mallopt(M_MMAP_THRESHOLD, OLD_MOST)
    return bool(kept and library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
