"""CUDA graphs: a small network on a GPU waits mostly for the launches of its kernels."""

from collections.abc import Callable

import torch
from torch import Tensor

AGAIN = 4  # calls with one size, one after the other, before it is worth a capture
SETTLED = AGAIN + 1  # calls until the capture is over
WARM_UP = 3  # runs before the capture, in which libraries choose and load their kernels


class Replayed:
    """A function of images on a GPU that is captured when a size has come four times in a row.

    From then on, until another size comes, images are copied to where the captured kernels read and
    all are launched at once. A capture costs four runs and more; images whose sizes change do
    without. The function may not look at what it computes, and its parameters stay where they are.

    Args:
        work: from a tensor on any device to one on `device`.
        device: a CUDA device.
    """

    def __init__(self, work: Callable[[Tensor], Tensor], device: torch.device) -> None:
        self._work, self._device = work, device
        self._shape, self._count = torch.Size(), 0
        self._graph: torch.cuda.CUDAGraph | None = None
        self._input = self._output = torch.empty(0)

    def __call__(self, images: Tensor) -> Tensor:
        """The function's value, in memory of its own."""
        if images.shape != self._shape:
            self._shape, self._count, self._graph = images.shape, 0, None
        self._count += 1
        if self._count <= AGAIN:
            return self._work(images)
        if self._graph is None:
            self._input = torch.empty_like(images, device=self._device).copy_(images)
            self._graph, self._output = capture(self._work, self._input)
        self._input.copy_(images)
        self._graph.replay()
        return self._output.clone()


def capture(
    work: Callable[[Tensor], Tensor], images: Tensor
) -> tuple[torch.cuda.CUDAGraph, Tensor]:
    """The kernels of `work(images)`, and where they leave its value."""
    graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream(images.device)
    side.wait_stream(torch.cuda.current_stream(images.device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work(images)
    torch.cuda.current_stream(images.device).wait_stream(side)
    # Threads that read and write images meanwhile may use the device.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = work(images)
    return graph, output
