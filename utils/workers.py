"""Processes and threads that read images for a process that computes."""

import contextlib
import errno
import multiprocessing
import os
import shutil
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from enum import IntEnum
from functools import partial
from itertools import repeat, takewhile
from multiprocessing import queues, resource_tracker
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from utils import distributed, files
from utils.stopping import StopRequest

PATIENCE = 800.0  # seconds; most of them for a batch
STOP = {signal.SIGTERM, signal.SIGINT}


class Stream(IntEnum):
    """Random streams, the first word of a generator's seed: no draw of one moves another's."""

    ORDER = 1
    AUGMENTATION = 2
    DROPOUT = 3
    CROP_CENTERS = 4
    MOSAIC = 5
    TRIPLETS = 6
    PASTE = 7


class Loader(DataLoader):
    """Samples read by processes that outlive a signal to their whole group, until the step is done.

    Under `forkserver` only where the server was not started before, by something else.

    Args:
        dataset: gives a sample per key.
        workers: processes; 0 reads in this one.
        device: that computes; batches for a GPU come in pinned memory.
        how: `sampler`, `batch_size`, ... of a DataLoader.
    """

    def __init__(self, dataset: Dataset, workers: int, device: torch.device, **how: Any) -> None:
        # Before the other ranks lose their patience: they do not know the cause.
        self.patience = 0.75 * distributed.GROUP.get("patience", PATIENCE)
        # With a generator of its own: else its start would draw from the global one.
        super().__init__(dataset, num_workers=workers, timeout=self.patience if workers else 0,
                         worker_init_fn=partial(_init_worker, files.known),
                         pin_memory=device.type == "cuda", generator=torch.Generator(), **how)

    def __iter__(self) -> Any:
        if self.num_workers and multiprocessing.get_start_method() != "fork":
            resource_tracker.ensure_running()  # else its own start would lift what is held
        held = _mask("SIG_BLOCK", STOP)  # a new worker dies of them
        try:
            return self._named(super().__iter__())
        finally:
            _mask("SIG_SETMASK", held)

    def _named(self, batches: Iterator) -> Iterator:
        """The batches; a disk that has gone silent is named."""
        try:
            yield from batches
        except RuntimeError as error:
            if "timed out" not in str(error):
                raise
            source = getattr(self.dataset, "dataset", self.dataset)  # of which it is a part
            root = getattr(source, "root", "the data set")
            raise RuntimeError(f"{root}: a process that reads there has not answered for "
                               f"{self.patience:.0f} s; is its disk there? --workers 0 reads "
                               "without processes") from None


def _mask(how: str, signals: Any) -> Any:
    """As signal.pthread_sigmask, where the system has it: Windows does not."""
    known = hasattr(signal, "pthread_sigmask")
    return signal.pthread_sigmask(getattr(signal, how), signals) if known else set()


def check_shared_memory(workers: int, size: int) -> None:
    """Refuses batches for which the memory that processes hand them over in is too small.

    Each of this one's `workers` has `size` bytes ready at a time. Raises OSError.
    """
    need = workers * size * int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    with contextlib.suppress(FileNotFoundError):  # of Linux
        free = shutil.disk_usage("/dev/shm").free
        if need > free:
            raise OSError(errno.ENOSPC, f"/dev/shm: {free / 1e6:,.1f} MB are free, and the "
                          f"{workers} processes that read images need up to {need / 1e6:,.1f} MB; "
                          "give --workers 0 or fewer, or a larger one (docker run --shm-size 8g)")


def _init_worker(known: set[str], _: int) -> None:
    """In a worker: one thread, kept memory, and its own answer to the signals held back."""
    files.known |= known  # nothing, where this is a fork
    cv2.setNumThreads(0)
    distributed.keep_freed_memory()  # else each image takes milliseconds of page faults
    StopRequest(patience=0)
    _mask("SIG_UNBLOCK", STOP)
    queues.Queue._on_queue_feeder_error = staticmethod(_end)  # type: ignore[attr-defined]


def _end(*_: object) -> None:
    """In a worker that has no room for a batch in shared memory: as if the kernel had said so.

    Else the batch would be lost, and waited for.
    """
    os.kill(os.getpid(), getattr(signal, "SIGBUS", signal.SIGTERM))


def map_in_threads(work: Callable, items: Iterable, threads: int) -> Generator[Any]:
    """Results in order, at most two a thread ahead: those that nobody took yet fill the memory.

    After an error, and when no more results are asked for, what has not begun is dropped.
    """
    waiting: deque[Future] = deque()
    pool = ThreadPoolExecutor(max(1, threads))
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # who wants to leave does not wait for a slow disk
        pool.shutdown(wait=not isinstance(sys.exception(), KeyboardInterrupt), cancel_futures=True)


def iterate_in_thread(items: Iterable) -> Iterator[Any]:
    """The same items, the next three taken in a thread meanwhile."""
    source, end = iter(items), object()
    taken = map_in_threads(lambda _: next(source, end), repeat(None), 1)
    return takewhile(lambda item: item is not end, taken)


def read_shard(dataset: Any, workers: int, device: torch.device) -> Loader:
    """This rank's samples, one at a time; each sample on exactly one rank."""
    shard = distributed.shard(len(dataset))
    return Loader(dataset, workers, device, batch_size=None, sampler=shard)
