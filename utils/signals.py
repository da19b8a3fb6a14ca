"""SIGTERM and SIGINT: asked once, a training saves and leaves; asked twice, it leaves at once."""

import os
import signal
from types import FrameType


class Stopped(Exception):
    """Raised where it is safe to leave; `code` is the exit code, 128 + signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class StopRequest:
    """Remembers the first stop signal. The handler does nothing else: no I/O, no exception."""

    def __init__(self) -> None:
        self.number = 0
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.number:
            os._exit(128 + number)
        self.number = number

    def __bool__(self) -> bool:
        return self.number > 0
