"""Logs of a training: console, progress bar, log.jsonl, TensorBoard; of the main rank alone."""

import json
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from utils.files import open_own, shown, write_file
from utils.scoring.validation import ConfusionMatrix
from utils.training.optimization import TrainingState


class Log:
    """Records of a training.

    Args:
        folder: gets `log.jsonl` and TensorBoard events.
        total_steps: of the training.
        start_step: records from here on are of an earlier, interrupted attempt and are dropped.
        validated: step of the last validation; likewise.
        images_per_step: for the rate.
        every: steps between records.
        main: False makes every method do nothing.
    """

    def __init__(
        self, folder: Path, total_steps: int, start_step: int = 0, images_per_step: int = 1,
        every: int = 10, main: bool = True, validated: int = 0,
    ) -> None:
        self.main, self.every, self.images_per_step = main, every, images_per_step
        self.total_steps, self.validated = total_steps, validated
        self.losses: list[float] = []
        self.given_up: set[str] = set()
        self.started = self.said = time.monotonic()
        self.timed_step = start_step
        if not main:
            return
        self.bar = tqdm(total=total_steps, initial=start_step, unit="step",
                        disable=not sys.stderr.isatty(), dynamic_ncols=True)
        self.file = folder / "log.jsonl"
        self._try("TensorBoard", lambda: self._open_board(folder, start_step))
        self._try(self.file.name, lambda: self._drop_after(start_step))

    def _try(self, what: str, write: Callable[[], None]) -> None:
        """Writes: no log is worth a training. What fails is given up, with one warning."""
        if what in self.given_up:
            return
        try:
            write()
        except Exception as error:  # also whatever TensorBoard's thread ran into
            self.given_up.add(what)
            reason = str(getattr(error, "strerror", None) or error).partition("\n")[0]
            print(f"warning: {what}: not written any more ({reason}); the training goes on",
                  file=sys.stderr)

    def _open_board(self, folder: Path, start_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second that --help should not

        self.board = SummaryWriter(folder, purge_step=start_step + 1)

    def _drop_after(self, start_step: int) -> None:
        """Keeps what is recorded up to a step."""
        if self.file.exists():
            lines = self.file.read_bytes().splitlines(keepends=True)
            ends = {"train": start_step, "val": self.validated}
            kept = [line for line in lines if line.endswith(b"\n")
                    and (record := _read(line))[1] <= ends.get(record[0], -1)]
            write_file(self.file, b"".join(kept))

    def line(self, text: str) -> None:
        """Says a line, above the bar."""
        if self.main:
            self.bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def step(self, step: int, loss: float, figures: dict[str, float]) -> None:
        """Takes one step's loss; every now and then records the mean."""
        if not self.main:
            return
        self.losses.append(loss)
        self.bar.update(step - self.bar.n)
        if step % self.every and step != self.total_steps:
            return
        now = time.monotonic()
        rate = (step - self.timed_step) * self.images_per_step / max(now - self.started, 1e-9)
        self.started, self.timed_step = now, step
        mean = sum(self.losses) / len(self.losses)
        self.losses.clear()
        self.record("train", step, {"loss": mean, **figures, "images_per_second": rate})
        self.bar.set_postfix_str(f"loss {mean:.3f}, {rate:.1f} images/s")
        if self.bar.disable and (now - self.said > 10 or step == self.total_steps):
            self.said = now
            self.line(f"step {step}/{self.total_steps}  loss {mean:.4f}  {rate:.1f} images/s")

    def validating(self, done: int, total: int) -> None:
        """Says how far a validation is, if it takes long."""
        now = time.monotonic()
        if not self.main or done and now - self.said < 10:
            return
        self.said, text = now, f"validating, {done} of {total} images"
        self.bar.set_postfix_str(text)
        if self.bar.disable and done:
            self.line(text)

    def record(self, kind: str, step: int, figures: dict[str, Any]) -> None:
        """Writes figures to log.jsonl and TensorBoard, under the tag `kind`."""
        if not self.main:
            return

        def append() -> None:
            with open_own(self.file, "a") as file:
                file.write(json.dumps({"kind": kind, "step": step, **figures}) + "\n")

        def add_scalars() -> None:
            for name, value in figures.items():
                for key, number in (value if isinstance(value, dict) else {"": value}).items():
                    if number is not None:
                        self.board.add_scalar(f"{kind}/{name}/{key}".rstrip("/"), number, step)

        self._try(self.file.name, append)
        self._try("TensorBoard", add_scalars)

    def validation(self, state: TrainingState, confusion: ConfusionMatrix) -> bool:
        """Records a validation; True, and state.best, when it is the best so far."""
        summary = confusion.summary()
        best = self._validated(state, summary["mean_iou"], summary)
        self.line(f"step {state.step}/{self.total_steps}  val mIoU "
                  f"{100 * summary['mean_iou']:.2f} %, best {100 * state.best:.2f} %")
        return best

    def reconstruction(self, state: TrainingState, figures: dict[str, Any]) -> bool:
        """Records how well frames are made from others; True, and state.best, when best so far.

        `figures`: `psnr` in dB of `network`, `flow` and `no_motion`; `better`, a share of frames.
        """
        psnr = figures["psnr"]
        best = self._validated(state, psnr["network"], figures)
        self.line(f"step {state.step}/{self.total_steps}  val PSNR {psnr['network']:.2f} dB, of "
                  f"its flow {psnr['flow']:.2f} dB, without motion {psnr['no_motion']:.2f} dB; "
                  f"{100 * figures['better']:.0f} % of frames better than by the flow")
        return best

    def _validated(self, state: TrainingState, figure: float, figures: dict[str, Any]) -> bool:
        """Records figures; whether `figure` is the best so far, which goes to state.best."""
        self.started, self.timed_step = time.monotonic(), state.step  # the rate is of training
        best = not figure <= state.best  # nan too: a first best.pth there must be
        state.best = max(state.best, figure)
        self.validated = state.step
        self.record("val", state.step, figures)
        return best

    def pictures(self, step: int, pictures: Iterable[tuple[str, np.ndarray]]) -> None:
        """Gives TensorBoard named (H, W, 3) uint8 pictures."""
        for name, picture in pictures if self.main else ():
            self._try("TensorBoard", partial(self._add_image, name, picture, step))

    def _add_image(self, name: str, picture: np.ndarray, step: int) -> None:
        self.board.add_image(f"val/{shown(name)}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Ends bar and files."""
        if self.main:
            self.bar.close()
            self._try("TensorBoard", lambda: self.board.close())


def _read(line: bytes) -> tuple[str, int]:
    """Kind and step of a record; of what is none, a step that no training reaches."""
    try:
        record = json.loads(line)
        return str(record["kind"]), int(record["step"])
    except Exception:  # not ours, or cut off
        return "", sys.maxsize
