"""How a script ends: 0 done, 1 a crash, 2 wrong input, 128 + signal when asked to stop."""

import contextlib
import ctypes
import errno
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
EXPECTED = {  # what this project raises when the input is wrong; anything else is a crash
    "ValueError", "FileNotFoundError", "FileExistsError", "PermissionError", "NotADirectoryError",
    "IsADirectoryError", "OSError", "RuntimeError", "FloatingPointError", "UnknownNetworkError",
}
DISK_FAULTS = (errno.EFBIG, errno.ENOSPC, errno.EDQUOT, errno.EIO)  # not the user's input
MEMORY = re.compile(r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory|"
                    r"not enough memory|Insufficient memory")
OF_PATHS = re.compile(r"lib.python3[^/]*.(pathlib.*|tempfile|shutil)\.py$")  # of the interpreter
KNOWN = [  # what failed beside the program: a machine, a process, a launcher
    (re.compile(r"</torch_\d+|out of shared memory|shm_open|Bus error"),  # of PyTorch alone
     "/dev/shm, through which processes hand over images, is full; give --workers 0 or fewer, or "
     "a larger one (docker run --shm-size 8g)"),
    (re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)"),
     "a process that reads images was killed, likely for want of memory; give fewer --workers "
     "(0: this process reads itself), or free memory and /dev/shm"),
    (re.compile(r"EADDRINUSE|[Aa]ddress already in use"),
     "the port of the launcher is in use; start with --standalone, or give another --master-port"),
]


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """"; did you mean NAME?" for a misspelled word, "" where nothing is near."""
    near = get_close_matches(word, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""


def no_class(name: str, known: Iterable[str]) -> str:
    """What is said of a class that there is not."""
    known = list(known)
    return f"{name!r}: no class; {', '.join(known)}{did_you_mean(name, known)}"


def end_with_launcher() -> None:
    """Has Linux end this process with the launcher that started it: no orphan writes a run folder.

    Called before PyTorch is imported, which takes long enough for a launcher to die meanwhile.
    """
    if "RANK" in os.environ and sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class _Lasting(_Escaping):
    """One that takes what nobody reads any more, and loses it."""

    def write(self, text: str) -> int:
        """Writes, or leads nowhere from now on."""
        self._try(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """As `write`."""
        self._try(self.stream.flush)

    def _try(self, act: Callable, *words: str) -> None:
        try:
            act(*words)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())


def prepare_to_train() -> None:
    """From now on this process ends for Ctrl-C, but for nothing that is behind its output.

    Not for a full disk or a pipe that ended; for Ctrl-C also where the shell that started it in
    the background had that ignored. Where there is something to save, a `StopRequest` takes over.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.stdout, sys.stderr = _Lasting(sys.stdout), _Lasting(sys.stderr)


def open_streams() -> None:
    """Gives a process that was started with closed streams some that lead nowhere.

    Else the next file that is opened, such as a checkpoint, would get what libraries print.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:  # the lowest that is free
        pass
    os.close(number)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), "w"))


def run(main: Callable[[], None]) -> NoReturn:
    """Runs a script and exits. Faults that this project found get one line; crashes a traceback."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):  # a file name may hold what a terminal cannot show
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(_Escaping, streams)
    try:
        main()
        sys.stdout.flush()
        code = 0
    except Stopped as stopped:
        code = stopped.code
        traceback.clear_frames(stopped.__traceback__)
    except KeyboardInterrupt:
        code = 130
        if any(each.name.startswith("ThreadPoolExecutor") for each in threading.enumerate()):
            with contextlib.suppress(OSError):
                sys.stdout.flush()
            os._exit(code)  # else Python would wait for what they read
    except BrokenPipeError as error:  # | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        before = error.__context__  # what was to be said there
        code = report(before) if isinstance(before, Exception) else 1
    except Exception as error:
        code = report(error)
        # Lets go of main's DataLoader, which then ends its workers; left to the interpreter, they
        # would be waited for without having been told.
        traceback.clear_frames(error.__traceback__)
        if peers := sys.modules.get("utils.distributed"):
            peers.leave()
    finally:
        sys.stdout, sys.stderr = streams
        for stream in streams:  # else Python would try again, fail, and end with 120
            _Lasting(stream).flush()
    sys.exit(code)


def report(error: Exception) -> int:
    """Says what went wrong, in one line if this project found it; returns the exit code."""
    if getattr(error, "told", False):  # by the main rank
        return code_of(error, type(error).__name__)
    message = str(getattr(error, "strerror", None) or error).strip()
    named = getattr(error, "filename", None)
    if named and not isinstance(named, int):  # by the system: a name too long, no permission
        from utils.files import shown  # which imports this module
        message = f"{shown(named)}: {message}"
    full = (number := getattr(error, "errno", None)) in DISK_FAULTS  # whoever wrote
    if number and full and not named and message == os.strerror(number):
        message += ", where this writes or its output goes; mend that, and run it again"
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    last = next(file for file in reversed(files) if not OF_PATHS.search(file))
    kind = type(error).__name__
    if message.startswith("Caught ") and "Original Traceback" in message:  # in a worker
        files = [line for line in message.splitlines() if line.startswith('  File "')]
        last = files[-1].split('"')[1]
        kind, _, message = message.splitlines()[-1].partition(": ")
    inside = Path(last).is_relative_to(ROOT) and "site-packages" not in Path(last).parts
    expected = full or inside and kind in EXPECTED
    failure = explain(error)  # by all ranks, that those which wait for this one know whose it is
    if "--debug" in sys.argv or not (expected or failure is not None):
        traceback.print_exception(error)
        return 1
    # A RuntimeError of PyTorch may come up in a line of ours.
    own = expected and not (failure is not None and kind == "RuntimeError")
    if line := message if own else failure:
        rank = os.environ.get("RANK", "0") if os.environ.get("WORLD_SIZE", "1") != "1" else "0"
        who = "" if rank == "0" else f"rank {rank}: "  # of those behind the main one
        print(f"error: {who}{line}", file=sys.stderr)
    return code_of(error, kind) if expected else 1


def explain(error: Exception) -> str | None:
    """Cause and remedy of what failed beside the program, in a line.

    It is "" if another process says it, None if nothing is known of such an error.
    """
    text = f"{type(error).__name__}: {error} {error.__cause__ or ''}"
    ranks = sys.modules.get("utils.distributed")  # else this is one process without PyTorch
    peers = ranks and ranks.GROUP.get("peers")
    if peers and (line := peers.blame(error)) is not None:
        return line
    frames = traceback.extract_tb(error.__traceback__)
    if isinstance(error, EOFError | ConnectionError) and any("dataloader" in frame.filename
                                                             for frame in frames):
        text = "DataLoader worker (pid) exited unexpectedly"  # in the middle of a batch
    line = next((line for pattern, line in KNOWN if pattern.search(text)), None)
    if MEMORY.search(text):
        reason = str(error).strip().partition("\n")[0][:150]
        line = (f"out of memory ({reason}); give a smaller --batch-size or --crop-size, a training "
                "also --accumulate or --checkpoint-activations")
    return "; ".join([line, *getattr(error, "__notes__", ())]) if line else None


def code_of(error: Exception, kind: str) -> int:
    """1 for what no other input would mend, else 2; `kind` is the error's type or a worker's."""
    lost = kind in ("FloatingPointError", "RuntimeError") and "Symlink loop" not in str(error)
    return 1 if lost or getattr(error, "errno", None) in DISK_FAULTS else 2


class Stopped(Exception):
    """Raised where it is safe to leave; `code` is the exit code, 128 + signal."""

    def __init__(self, number: int) -> None:
        number = number or signal.SIGTERM  # 0: another rank was asked
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


class StopRequest:
    """Remembers the first stop signal. The handler does nothing else: no I/O, no exception.

    Further signals within `patience` seconds are the same request: a launcher passes on what the
    terminal or the cluster has sent to the whole group already.
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
