"""How a script ends: 0 done, 1 a crash, 2 wrong input, 128 + signal when asked to stop."""

import errno
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = {  # what this project raises when the input is wrong; anything else is a crash
    "ValueError", "FileNotFoundError", "OSError", "PermissionError", "NotADirectoryError",
    "IsADirectoryError", "RuntimeError", "FloatingPointError", "UnknownNetworkError",
}
DISK_FAULTS = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EIO)  # not the user's input


class _Escaping:
    """A standard stream on which control characters of names are text, and move no cursor."""

    CODES = {code: ascii(chr(code))[1:-1] for code in (*range(32), *range(127, 160))
             if chr(code) not in "\n\r\t"}

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes a text, escaped."""
        return self.stream.write(text.translate(self.CODES))


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a script and exits.

    Faults that this project found get one line; crashes a traceback.
    """
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what a terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Escaping, streams)
    try:
        main()
        code = 0
    except Stopped as stopped:
        code = stopped.code
        traceback.clear_frames(stopped.__traceback__)
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        code = report(error)
        # Lets go of main's DataLoader, which then ends its workers; left to the interpreter, they
        # would be waited for without having been told.
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.stdout, sys.stderr = streams
    sys.exit(code)


def report(error: Exception) -> int:
    """Says what went wrong, in one line if this project found it; returns the exit code."""
    message = str(getattr(error, "strerror", None) or error).strip()
    kind, last = type(error).__name__, traceback.extract_tb(error.__traceback__)[-1].filename
    if message.startswith("Caught ") and "Original Traceback" in message:  # in a worker
        files = [line for line in message.splitlines() if line.startswith('  File "')]
        last = files[-1].split('"')[1]
        kind, _, message = message.splitlines()[-1].partition(": ")
    inside = Path(last).is_relative_to(ROOT) and "site-packages" not in Path(last).parts
    if "--debug" in sys.argv or not inside or kind not in EXPECTED:
        traceback.print_exception(error)
        return 1
    print(f"error: {message}", file=sys.stderr)
    lost = isinstance(error, FloatingPointError) or getattr(error, "errno", None) in DISK_FAULTS
    return 1 if lost else 2


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
