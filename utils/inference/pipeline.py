"""Reading, a network and writing at the same time, as fast as the slowest of them."""

from collections.abc import Callable, Generator, Iterable, Iterator
from time import perf_counter
from typing import Any, NamedTuple

import torch

from utils.inference.cuda_graph import SETTLED
from utils.workers import map_in_threads


class Done(NamedTuple):
    """An item that went through."""

    item: Any
    result: Any  # of `finish`
    fault: Exception | None  # why it could not be read


def pipeline(
    items: Iterable[Any],
    read: Callable[[Any], Any],
    infer: Callable[[Any], Any],
    finish: Callable[[Any, Any, Any], Any],
    threads: int,
    stop: object = False,
) -> Generator[Done]:
    """What became of each item, in order.

    Args:
        items: one after the other.
        read: from an item to what is inferred from, in threads, a few items ahead. What it cannot
            read (OSError, ValueError) is passed over.
        infer: in order and in the thread of the caller, so that it may remember earlier items.
        finish: takes item, what was read and what was inferred; in threads, a few items behind.
            What it raises ends the pipeline.
        threads: for `read`, and as many for `finish`.
        stop: once it is true nothing more is inferred; what is inferred already is finished.
    """
    def attempt(item: Any) -> tuple[Any, Any, Exception | None]:
        try:
            return item, read(item), None
        except (OSError, ValueError) as error:
            return item, None, error

    def inferred() -> Iterator[tuple[Any, Any, Any, Exception | None]]:
        for item, value, fault in map_in_threads(attempt, items, threads):
            if stop:
                return
            yield item, value, None if fault else infer(value), fault

    def complete(step: tuple[Any, Any, Any, Exception | None]) -> Done:
        item, value, answer, fault = step
        return Done(item, None if fault else finish(item, value, answer), fault)

    return map_in_threads(complete, inferred(), threads)


def synchronize(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


class Pace:
    """Clocks of a run: end to end, from when it is made, and those of its network.

    Args:
        device: of the network; waited for before and after each of its runs.
        unit: of what is counted.
    """

    def __init__(self, device: torch.device, unit: str = "image") -> None:
        self.device, self.unit = device, unit
        self.seconds: list[float] = []  # of each run of the network
        self.start = perf_counter()

    def timed(self, infer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """The same function, its time taken."""
        def run(value: Any) -> Any:
            synchronize(self.device)
            start = perf_counter()
            answer = infer(value)
            synchronize(self.device)
            self.seconds.append(perf_counter() - start)
            return answer

        return run

    def __str__(self) -> str:
        """A line on the rate of everything up to now, and one on that of the network in it."""
        count, total = len(self.seconds), perf_counter() - self.start
        lines = [f"end to end {count / total:.2f} {self.unit}s/s: {count} read, segmented and "
                 f"written in {total:.2f} s"]
        first = SETTLED if count > 2 * SETTLED else 1
        if later := self.seconds[first:]:
            lines.append(f"network {len(later) / sum(later):.2f} {self.unit}s/s: pixels to labels, "
                         f"waited for; without the first{f' {first}' if first > 1 else ''}; while "
                         "other threads read and write")
        return "\n".join(lines)
