"""SIGTERM and SIGINT: asked once, a training saves and leaves; asked again, it leaves at once."""

import os
import signal
import time
from types import FrameType


class Stopped(Exception):
    """Raised where it is safe to leave; `code` is the exit code, 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class StopRequest:
    """Remembers the first stop signal. The handler does nothing else: no I/O, no exception.

    Args:
        patience: seconds in which further signals are the same request. A launcher passes on what
            the terminal or the cluster has sent to the whole group already.
    """

    def __init__(self, patience: float = 1.0) -> None:
        self.number, self.patience, self.since = 0, patience, 0.0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.number and time.monotonic() - self.since >= self.patience:
            os._exit(128 + number)
        if not self.number:
            self.number, self.since = number, time.monotonic()

    def __bool__(self) -> bool:
        return self.number > 0
