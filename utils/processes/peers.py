"""The other ranks of a training: whether they live, and which of them ended."""

import re
import secrets
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

BEAT = 2.0  # seconds, or a quarter of the patience
ROLL_CALL = 5.0  # seconds
LOST = re.compile(r"gloo/|NCCL|by peer|pair closure")  # in the words of an exchange that failed


def meet(store: dist.Store, rank: int, world: int, patience: timedelta) -> str:
    """A prefix for keys in a launcher's store that is of this start of the ranks alone.

    Launchers keep a store when they start ranks again, in which these would find the addresses of
    the ranks before; https://github.com/pytorch/pytorch/issues/135712. Counts of starts differ
    between hosts, so rank 0 draws a word and tells each rank that asks, by a word of that rank.

    Raises RuntimeError: not all ranks have come in time.
    """
    word = secrets.token_hex(8)
    if rank > 0:
        store.set(f"asks/{rank}", word)
        word = store.get(f"told/{word}").decode()
        store.set(f"{word}/{rank}", "")
        return word
    end = time.monotonic() + patience.total_seconds()
    while left := [n for n in range(1, world) if not store.check([f"{word}/{n}"])]:
        for number in left:  # who has asked may be one of a start before: it does not answer
            if store.check([f"asks/{number}"]):
                store.set(f"told/{store.get(f'asks/{number}').decode()}", word)
        if time.monotonic() > end:
            raise RuntimeError(f"rank {left[0]} has not come")
        time.sleep(0.05)
    return word


class Peers:
    """Tells the other ranks that this one lives, and knows whether they do.

    Rank 0 listens to all, all to rank 0. `store` is a connection of its own to the launcher's; as
    that may hang where a network is cut, threads use it that nobody waits for. `processes` are
    host and process id of every rank; `patience` is without a beat.
    """

    def __init__(
        self, processes: Sequence[tuple[str, int]], store: dist.Store, patience: timedelta
    ) -> None:
        self.processes, self.rank, self.world = processes, dist.get_rank(), len(processes)
        self.store = store
        self.patience, self.gave_up = patience.total_seconds(), False
        heard = range(1, self.world) if self.rank == 0 else range(1)
        self.last = dict.fromkeys(heard, time.monotonic())
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._beat, daemon=True)
        self.thread.start()

    def _beat(self) -> None:
        beats: dict[int, bytes] = {}
        with suppress(RuntimeError):  # the store is gone: nobody is heard any more
            while not self.ended.wait(min(BEAT, self.patience / 4)):
                self.store.set(f"beat/{self.rank}", str(time.time_ns()))
                for number in self.last:
                    name = f"beat/{number}"
                    beat = self.store.get(name) if self.store.check([name]) else None
                    if beat is not None and beat != beats.get(number):
                        beats[number], self.last[number] = beat, time.monotonic()

    def end(self) -> None:
        """Beats no more: a thread in PyTorch while Python ends takes the process down with it."""
        self.ended.set()
        self.thread.join(ROLL_CALL)

    def attend(self, work: dist.Work) -> None:
        """Waits for an exchange as long as those live whom this rank hears; else RuntimeError."""
        while not work.is_completed():
            for number, last in self.last.items():
                if time.monotonic() - last > self.patience:
                    self.gave_up = True
                    raise RuntimeError(self._describe(number))
            time.sleep(0.01)
        work.wait()

    def blame(self, error: Exception) -> str | None:
        """Which rank ended or fell silent, when a failed exchange with it is what `error` is.

        Ranks that fail by themselves say so in the launcher's store, those that were left alone
        call the roll there, and the first of them tells.

        Returns a line; "" if another rank tells; None if `error` is this rank's own.
        """
        alone = isinstance(error, dist.DistError) or (
            isinstance(error, RuntimeError) and LOST.search(str(error)))
        present: dict[int, str] = {}
        call = threading.Thread(target=self._call, args=(bool(alone), present), daemon=True)
        call.start()
        call.join(2 * ROLL_CALL)
        if not alone:
            return None
        if call.is_alive():  # it waits for an answer of the store
            return self._describe(0)
        if not present:
            ended = "the launcher or rank 0 ended, which the other ranks need"
            return "; ".join([ended, *getattr(error, "__notes__", ())])
        first = min(number for number, how in present.items() if how == "alone")
        if "failed" in present.values() or first != self.rank:
            return ""
        lost = [self._describe(number) for number in range(self.world) if number not in present]
        reason = str(error).partition("\n")[0][:150]
        return "; ".join([*(lost or [f"the ranks lost each other ({reason})"]),
                          *getattr(error, "__notes__", ())])

    def _call(self, alone: bool, present: dict[int, str]) -> None:
        """Says how this rank is; who is left alone fills `present` with how the others are."""
        end = time.monotonic() + ROLL_CALL
        with suppress(RuntimeError):
            self.store.set(f"end/{self.rank}", "alone" if alone else "failed")
            while alone and len(present) < self.world and time.monotonic() < end:
                time.sleep(0.1)
                present |= {number: self.store.get(f"end/{number}").decode()
                            for number in range(self.world) if self.store.check([f"end/{number}"])}

    def _describe(self, number: int) -> str:
        """A rank that does not answer."""
        host, process = self.processes[number]
        which = f"rank {number} (process {process} on {host})"
        if host == socket.gethostname() and not Path(f"/proc/{process}").exists():
            return f"{which} ended without a word: killed, perhaps for want of memory"
        return f"{which} has not answered: it hangs, was killed, or its network is cut"
