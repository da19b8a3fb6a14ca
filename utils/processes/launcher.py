"""`torch.distributed.run` that ends as its processes did, with no traceback below their words.

Of several hosts, it ends with a line when they have lost each other: it would wait a quarter of an
hour for its kernel to give up a connection to the first host that was cut.
"""

import os
import socket
import sys
import threading
import time
from contextlib import suppress

from torch.distributed import DistError
from torch.distributed import run as elastic
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous import RendezvousError

ASK = 5.0  # seconds between two looks at the first host, and for its answer


def watch(place: tuple[str, int], patience: float) -> None:
    """Ends the trainings of this host when the first one, once seen, has not answered for long."""
    seen = None
    while seen is None or time.monotonic() - seen < patience:
        with suppress(OSError):
            socket.create_connection(place, timeout=ASK).close()
            seen = time.monotonic()
        time.sleep(ASK)
    fail(f"{place[0]}:{place[1]} has not answered for {patience:.0f} s: its launcher ended, or "
         "the network between the hosts is cut")


def fail(line: str) -> None:
    """Says what was wrong and ends at once: a thread may wait for a host that is gone."""
    print(f"error: {socket.gethostname()}: {line}; start it again on every host", file=sys.stderr,
          flush=True)
    os._exit(1)


def main(words: list[str]) -> int:
    """The exit code of the training. `words` are those of torch.distributed.run."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # elastic does, and warns; ours set their own
    args = elastic.parse_args(words)
    if ":" in args.rdzv_endpoint:  # several hosts
        # Else one that is started again is not told where processes meet: the others know it.
        os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        host, _, port = args.rdzv_endpoint.rpartition(":")
        conf = dict(pair.split("=", 1) for pair in args.rdzv_conf.split(",") if pair)
        patience = float(conf.get("join_timeout", 600))
        threading.Thread(target=watch, args=((host, int(port)), patience), daemon=True).start()
    try:
        elastic.run(args)
    except ChildFailedError as error:  # it has said why
        return max(1, error.get_first_failure()[1].exitcode)
    except SignalException as signal:
        return 128 + signal.sigval
    except (RendezvousError, DistError) as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        fail(f"the {args.nnodes} hosts have not come together at {args.rdzv_endpoint} in time, or "
             f"one has given up ({reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
