"""SDCNet2D: how the pixels of a frame moved, from frames and the optical flow between them.

Reda et al., SDC-Net, ECCV 2018, in the form in which Zhu et al., CVPR 2019, propagate labels with
it, https://arxiv.org/abs/1812.01593: half a FlowNetS that corrects a given flow.

The published networks were trained on the flow of FlowNet2, whose weights are gone. Here flow is an
input, from wherever it comes. Published weights load and compute as published, but on the flow of
another method, as DIS or RAFT, results are not bit-compatible with the published ones.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import Normalize
from model.snapshot import load_weights
from utils import checkpoint

FLOW_MEAN, FLOW_STD = (-0.94427323, -1.23077035), (13.77204132, 7.47463894)
STRIDE = 64  # pixels per cell of the coarsest features
SMALLEST = 33  # pixels; less cannot be mirrored to a whole cell
ENCODER = (  # name, channels in and out, kernel, stride; after conv1
    ("conv2", 32, 64, 5, 2), ("conv3", 64, 128, 5, 2), ("conv3_1", 128, 128, 3, 1),
    ("conv4", 128, 256, 3, 2), ("conv4_1", 256, 256, 3, 1), ("conv5", 256, 256, 3, 2),
    ("conv5_1", 256, 256, 3, 1), ("conv6", 256, 512, 3, 2), ("conv6_1", 512, 512, 3, 1),
)  # fmt: skip
DECODER = (  # name, channels in and out
    ("deconv5", 512, 256), ("deconv4", 512, 128), ("deconv3", 384, 64), ("deconv2", 192, 32),
    ("deconv1", 96, 16), ("deconv0", 48, 8),
)  # fmt: skip
EXPECTED = "one of train_sdcnet.py, or sdc_cityscapes_vrec.pth.tar, is expected"
FINEST = DECODER[-1][-1]  # channels
WEIGHTS = {"color": 0.7, "gradient": 0.2, "smoothness": 0.1}  # published


class SDCNet2D(nn.Module):
    """Predicts where the pixels of the next frame are in the last of two known ones.

    Untrained it answers with the last flow that it is given. Parameters have the published names.
    Mean and std are (x, y) of the flow, in pixels.
    """

    NAME = "sdcnet2d"
    FRAMES = 2  # that it sees
    SOURCE = -1  # which of them is sampled
    motion = "dis"  # whose flow it was trained on, of `model.flow.MOTIONS`

    def __init__(
        self, flow_mean: tuple[float, ...] = FLOW_MEAN, flow_std: tuple[float, ...] = FLOW_STD
    ) -> None:
        super().__init__()
        options = {"flow_mean": tuple(flow_mean), "flow_std": tuple(flow_std)}
        self.config = {"arch": self.NAME, "num_classes": 0, "options": options}
        self.normalize = Normalize(flow_mean, tuple(3 * value for value in flow_std))
        channels = 3 * self.FRAMES + 2 * (self.FRAMES - 1)
        self.conv1 = _convolution(channels, 32, 7, 2)
        for name, *numbers in ENCODER:
            self.add_module(name, _convolution(*numbers))
        for name, inputs, outputs in DECODER:
            enlarge = nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)
            self.add_module(name, nn.Sequential(enlarge, nn.LeakyReLU(0.1)))
        self.final_flow = nn.Conv2d(channels + FINEST, 2, 3, padding=1)
        with torch.no_grad():  # it answers with the last flow: training only has to improve on it
            for parameter in self.final_flow.parameters():
                parameter.zero_()
            for axis in (0, 1):
                self.final_flow.weight[axis, (axis + 1) * (self.FRAMES - 1) - 1, 1, 1] = 1

    def forward(self, frames: Tensor, flows: Tensor) -> Tensor:
        """Where each pixel of the wanted frame is in frame `SOURCE` of the given ones.

        Args:
            frames: (N, T, 3, H, W) uint8 or float in 0..255, RGB, T = `FRAMES` in the order of
                time, or against it; SDCNet2D wants the one after the last, SDCNet2DRecon the last.
            flows: (N, T - 1, 2, H, W) float, pixels (x, y); flow i says of each pixel of frame
                i + 1 how far away it is in frame i.

        Returns (N, 2, H, W) float, pixels (x, y), likewise; for `model.sdcnet.warp`.

        Raises ValueError: other shapes, or sides below 33.
        """
        self._check(frames, flows)
        features, levels = self._join(frames, flows), []  # N, 5T - 2, H', W'
        levels.append(features)
        features = self.conv1(features)
        for name, *_, stride in ENCODER:
            if stride > 1:
                levels.append(features)
            features = getattr(self, name)(features)  # at last N, 512, H' / 64, W' / 64
        for name, *_ in DECODER:
            features = torch.cat([levels.pop(), getattr(self, name)(features)], 1)
        with torch.autocast(features.device.type, enabled=False):  # bf16 has 8 bits, pixels more
            vectors = self.final_flow(features.to(self.final_flow.weight.dtype))  # N, 2, H', W'
        vectors = vectors * self.normalize.std + self.normalize.mean
        return vectors[..., : frames.shape[-2], : frames.shape[-1]]

    @torch.no_grad()
    def displacement(self, frames: Tensor, flows: Tensor) -> Tensor:
        """As `forward`, without gradients."""
        return self(frames, flows)

    def _check(self, frames: Tensor, flows: Tensor) -> None:
        count, height, width = frames.shape[0], *frames.shape[-2:]
        wanted = ((count, self.FRAMES, 3, height, width),
                  (count, self.FRAMES - 1, 2, height, width))
        if (tuple(frames.shape), tuple(flows.shape)) != wanted:
            raise ValueError(f"frames {tuple(frames.shape)} and flows {tuple(flows.shape)}; "
                             f"{self.NAME} takes {wanted[0]} and {wanted[1]}")
        if min(height, width) < SMALLEST:
            raise ValueError(f"frames of {height}x{width}; at least {SMALLEST} pixels are needed")

    def _join(self, frames: Tensor, flows: Tensor) -> Tensor:
        """(N, 5T - 2, H', W'): x of all flows, y of all, red of all frames, green, blue."""
        frames = _mirror(frames.to(torch.promote_types(frames.dtype, torch.float32)))
        frames = (frames - frames.mean((1, -2, -1), keepdim=True)) / 255
        height, width = flows.shape[-2:]
        flows = _mirror(flows)
        flows[..., 0, :, width:] *= -1  # what is mirrored moves the other way
        flows[..., 1, height:, :] *= -1
        parts = self.normalize(flows), frames
        return torch.cat([part.transpose(1, 2).flatten(1, 2) for part in parts], 1)


class SDCNet2DRecon(SDCNet2D):
    """Says where the pixels of the last of three frames are in the one before.

    It sees the frame that it explains, so it serves to carry labels over, not to predict.
    """

    NAME = "sdcnet2d_recon"
    FRAMES = 3
    SOURCE = -2


SDCNETS: dict[str, type[SDCNet2D]] = {kind.NAME: kind for kind in (SDCNet2D, SDCNet2DRecon)}


def _convolution(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2), nn.LeakyReLU(0.1))


def _mirror(sequence: Tensor) -> Tensor:
    """(N, T, C, H, W) -> H and W grown to whole cells by mirroring to the right and down."""
    height, width = sequence.shape[-2:]
    grown = F.pad(sequence.flatten(0, 1), (0, -width % STRIDE, 0, -height % STRIDE), "reflect")
    return grown.unflatten(0, sequence.shape[:2])


def load_sdcnet(path: str | Path) -> SDCNet2D:
    """The network of a checkpoint file, of train_sdcnet.py or published, in evaluation mode.

    Raises FileNotFoundError, ValueError: missing, damaged, or of another network.
    """
    content = checkpoint.read(path)
    if "format" not in content:
        return _published(checkpoint.state_dict(content, path), path).eval()
    checkpoint.check_format(content, path)
    config = content["model"]
    if config["arch"] not in SDCNETS:
        raise ValueError(f"{path}: a network {config['arch']}; {EXPECTED}")
    checkpoint.check_finite(content["weights"], path)
    network = SDCNETS[config["arch"]](**config["options"])
    load_weights(network, content["weights"])
    network.motion = content["dataset"].get("motion", network.motion)
    return network.eval()


def _published(weights: dict[str, Tensor], path: str | Path) -> SDCNet2D:
    """The network of a state dict of NVIDIA/semantic-segmentation, branch sdcnet.

    That project reads BGR frames, ours are RGB: input channels are reversed. Weights of its flow
    network, and a mean of pixels that nothing there reads, are left out. ValueError for others.
    """
    first = weights.get("conv1.0.weight")
    inputs = {5 * kind.FRAMES - 2: kind for kind in SDCNETS.values()}
    kind = inputs.get(first.shape[1]) if first is not None and first.ndim == 4 else None
    if kind is None or "final_flow.weight" not in weights:
        raise ValueError(f"{path}: not the tensors of an SDCNet; {EXPECTED}")
    options = {name: tuple(weights[name].flatten().tolist())
               for name in ("flow_mean", "flow_std") if name in weights}
    weights = {key: tensor for key, tensor in weights.items()
               if key not in (*options, "rgb_mean") and not key.startswith("flownet2.")}
    try:
        network = kind(**options)
        for name in ("conv1.0.weight", "final_flow.weight"):
            weights[name] = _reverse_colors(weights[name], kind.FRAMES)
        load_weights(network, weights)
    except (ValueError, RuntimeError, IndexError) as error:
        raise ValueError(f"{path}: looks like a published SDCNet, but {error}") from None
    return network


def _reverse_colors(weight: Tensor, frames: int) -> Tensor:
    """(K, C, h, w) whose input begins with flows and then has `frames` channels of each color."""
    flows, rest = 2 * (frames - 1), weight.shape[1] - 5 * frames + 2
    first, colors, last = weight.split([flows, 3 * frames, rest], 1)
    return torch.cat([first, colors.unflatten(1, (3, frames)).flip(1).flatten(1, 2), last], 1)


def warp(images: Tensor, displacement: Tensor) -> Tensor:
    """Images sampled at displaced places, bilinear; beyond the border is the border.

    (N, C, H, W) float by (N, 2, H, W) float, pixels (x, y) at those of the result -> the former.
    """
    height, width = images.shape[-2:]
    x, y = (torch.arange(n, device=displacement.device) for n in (width, height))
    x, y = displacement[:, 0] + x, displacement[:, 1] + y[:, None]
    # Aligned corners: -1 and 1 are the centers of the outermost pixels.
    grid = torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], -1)
    return F.grid_sample(images, grid, "bilinear", padding_mode="border", align_corners=True)


def reconstruction_loss(made: Tensor, wanted: Tensor, displacement: Tensor) -> dict[str, Tensor]:
    """What SDCNet2D is trained with: color, differences of neighbors in color, smooth motion.

    Args:
        made: (N, 3, H, W) float in 0..255, the warped frame.
        wanted: (N, 3, H, W) float in 0..255.
        displacement: (N, 2, H, W) float, pixels, that warped it.

    Returns:
        `color` (0..1), `gradient` (0..255), `smoothness` (pixels), each (), a mean; and `total`,
        weighted as published.
    """
    made_steps, wanted_steps = _steps(made), _steps(wanted)
    x, y = _steps(displacement)
    parts = {
        "color": F.l1_loss(made, wanted) / 255,
        "gradient": F.l1_loss(made_steps[0].abs(), wanted_steps[0].abs())
        + F.l1_loss(made_steps[1].abs(), wanted_steps[1].abs()),
        "smoothness": x.abs().mean() + y.abs().mean(),
    }
    total = torch.stack([WEIGHTS[name] * part for name, part in parts.items()]).sum()
    return parts | {"total": total}


def _steps(values: Tensor) -> tuple[Tensor, Tensor]:
    """From each pixel to the next one in its row, and in its column."""
    return values.diff(dim=-1), values.diff(dim=-2)
