"""Where the `Motion` between two frames comes from: `MOTIONS` is the list."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import pairwise
from threading import Lock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.sdcnet import SMALLEST as SDCNET_SMALLEST
from model.sdcnet import SDCNet2D, load_sdcnet
from model.snapshot import load_weights
from utils import checkpoint
from utils.video.flow import SMALLEST as DIS_SMALLEST
from utils.video.flow import Motion, dis_flow

STRIDE, SMALLEST = 8, 128  # pixels: of RAFT's features; a side that its coarsest level needs
UPDATES = 12  # of the recurrent unit, torchvision's default


def build_dis(weights: str | None, device: torch.device) -> Motion:
    """OpenCV's dense inverse search, on the CPU; ValueError if weights are given."""
    if weights:
        raise ValueError(f"--motion-weights {weights}: dis has none; choose another --motion")
    return lambda target, source, before: dis_flow(target, source)


class Raft:
    """A motion: Teed and Deng, "RAFT", ECCV 2020, as torchvision has it.

    Args:
        network: (N, 3, H, W) target and source, -1..1 -> list of (N, 2, H, W) flows.
        device: where it computes. A pair of 1024x2048 takes 6 GB there.
    """

    def __init__(self, network: nn.Module, device: torch.device) -> None:
        self.network, self.device = network.to(device).eval(), device
        self.one_at_a_time = Lock()  # else every thread that asks fills the memory

    @torch.inference_mode()
    def __call__(
        self, target: np.ndarray, source: np.ndarray, before: Callable[[], np.ndarray] | None
    ) -> np.ndarray:
        """(H, W, 2) float32 backward flow of two (H, W, 3) uint8 RGB frames."""
        height, width = target.shape[:2]
        with self.one_at_a_time:
            pair = self._input(target), self._input(source)
            flow = self.network(*pair, num_flow_updates=UPDATES)[-1][0, :, :height, :width]
            return np.ascontiguousarray(flow.permute(1, 2, 0).cpu().numpy())

    def _input(self, frame: np.ndarray) -> Tensor:
        """(1, 3, h, w) -1..1, padded on the right and below."""
        pixels = torch.from_numpy(frame).to(self.device).permute(2, 0, 1)[None].float()
        bottom, right = (max(SMALLEST, -(-side // STRIDE) * STRIDE) - side
                         for side in frame.shape[:2])
        return F.pad(pixels / 127.5 - 1, (0, right, 0, bottom), mode="replicate")


def build_raft(size: str, weights: str | None, device: torch.device) -> Motion:
    """RAFT, `size` large or small, its weights from a file as torchvision's, or downloaded once.

    Raises ValueError: neither a file nor a connection, or weights of another network.
    """
    optical_flow = import_module("torchvision.models.optical_flow")  # seconds, for RAFT alone
    build: Any = getattr(optical_flow, f"raft_{size}")
    if weights:
        network = build(weights=None)
        try:
            load_weights(network, checkpoint.state_dict(checkpoint.read(weights), weights))
        except ValueError as error:
            raise ValueError(f"--motion-weights {weights}: not of raft, {size}: {error}") from None
        return Raft(network, device)
    try:
        return Raft(build(weights="DEFAULT"), device)
    except OSError as error:  # of urllib
        url = getattr(optical_flow, f"Raft_{size.title()}_Weights").DEFAULT.url
        raise ValueError(f"--motion: the weights of RAFT could not be downloaded "
                         f"({getattr(error, 'reason', error)}); give --motion-weights FILE, a copy "
                         f"of {url}, or lay it into {torch.hub.get_dir()}/checkpoints; "
                         "--motion dis needs none") from None


class Reconstruction:
    """A motion: SDCNet, which corrects another, `flow`, by what three frames show.

    Without a frame before, as on the way back of a check, it is that flow.
    """

    def __init__(self, network: SDCNet2D, flow: Motion, device: torch.device) -> None:
        self.network, self.flow, self.device = network.to(device), flow, device
        self.one_at_a_time = Lock()

    def __call__(
        self, target: np.ndarray, source: np.ndarray, before: Callable[[], np.ndarray] | None
    ) -> np.ndarray:
        """(H, W, 2) float32 backward flow of (H, W, 3) uint8 RGB frames."""
        if before is None:
            return self.flow(target, source, None)
        frames = [before(), source, target][: self.network.FRAMES]
        flows = [self.flow(later, earlier, None) for earlier, later in pairwise(frames)]
        with self.one_at_a_time:
            stacks = [torch.from_numpy(np.stack(part)).to(self.device).permute(0, 3, 1, 2)[None]
                      for part in (frames, flows)]
            flow = self.network.displacement(*stacks)[0].permute(1, 2, 0)
            return np.ascontiguousarray(flow.cpu().numpy())


def build_sdcnet(weights: str | None, device: torch.device) -> Motion:
    """SDCNet2D or SDCNet2DRecon, as its weights are; ValueError for none or others."""
    if not weights:
        raise ValueError("--motion sdcnet: has no weights of its own; give --motion-weights FILE, "
                         "of train_sdcnet.py or published")
    network = load_sdcnet(weights)
    if network.motion not in MOTIONS:
        raise ValueError(f"{weights}: trained on the flow of {network.motion}, unknown here; "
                         f"known: {', '.join(MOTIONS)}")
    try:
        flow = MOTIONS[network.motion](None, device)
    except ValueError as error:
        raise ValueError(f"{weights}: corrects the flow of {network.motion}, whose weights it "
                         f"needs in {torch.hub.get_dir()}/checkpoints: {error}") from None
    return Reconstruction(network, flow, device)


MOTIONS: dict[str, Callable[[str | None, torch.device], Motion]] = {
    "dis": build_dis,
    "raft": partial(build_raft, "large"),
    "raft_small": partial(build_raft, "small"),
    "sdcnet": build_sdcnet,
}


def smallest_side(name: str) -> int:
    """Pixels that height and width of a frame need, for a motion of `MOTIONS`."""
    return SDCNET_SMALLEST if name == "sdcnet" else DIS_SMALLEST
