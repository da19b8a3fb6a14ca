"""Processes and threads that read images for a process that computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import repeat, takewhile
from typing import Any

import cv2

from utils.signals import StopRequest


def init_worker(_: int) -> None:
    """One thread each; a signal to the whole group must not end them before the step is done."""
    cv2.setNumThreads(0)
    StopRequest(patience=0)


def map_in_threads(work: Callable, items: Iterable, threads: int) -> Generator[Any]:
    """Results in order, at most two a thread ahead: those that nobody took yet fill the memory.

    After an error, and when no more results are asked for, what has not begun is dropped.
    """
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(max(1, threads)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def iterate_in_thread(items: Iterable) -> Iterator[Any]:
    """The same items, the next three taken in a thread meanwhile."""
    source, end = iter(items), object()
    taken = map_in_threads(lambda _: next(source, end), repeat(None), 1)
    return takewhile(lambda item: item is not end, taken)
