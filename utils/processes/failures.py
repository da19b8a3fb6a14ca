"""What failed beside the program: a machine, a process, a launcher; cause and remedy."""

import re
import sys
import traceback

READERS = "a process that reads images"
MEMORY = re.compile(r"out of memory|OutOfMemoryError|MemoryError|can't allocate memory|"
                    r"not enough memory|Insufficient memory")
KNOWN = [
    (re.compile(r"</torch_\d+|out of shared memory|shm_open|Bus error"),  # of PyTorch alone
     "/dev/shm, through which processes hand over images, is full; give --workers 0 or fewer, or "
     "a larger one (docker run --shm-size 8g)"),
    (re.compile(r"DataLoader worker \(pid.*(killed by signal|exited unexpectedly)"),
     f"{READERS} was killed, likely for want of memory; give fewer --workers (0: this process "
     "reads itself), or free memory and /dev/shm"),
    (re.compile(r"EADDRINUSE|[Aa]ddress already in use"),
     "the port of the launcher is in use; start with --standalone, or give another --master-port"),
]


def explain(error: Exception) -> str | None:
    """The line; "" if another process says it; None if nothing is known of such an error."""
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
