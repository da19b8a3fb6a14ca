"""ONNX files: written from a network, and run as one."""

import copy
import importlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.fusion import fuse
from model.layers import Segmenter
from utils.untrusted import check_about

KEY = "streetseg"  # of our entry in an ONNX file's metadata
OPSET = 18


def load_package(name: str, purpose: str) -> Any:
    """An optional package. Raises ValueError without it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ValueError(f"{purpose} needs packages that are not installed: pip install onnx "
                         "onnxscript onnxruntime") from None


class Graph(nn.Module):
    """What is exported: uint8 pixels in; full-size logits, or labels, out."""

    def __init__(self, network: nn.Module, labels: bool) -> None:
        super().__init__()
        self.network, self.labels = network, labels

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, C, H, W) float32 logits, or (N, H, W) uint8 labels."""
        logits = self.network(images)
        return logits.argmax(1).to(torch.uint8) if self.labels else logits


def write_onnx(network: nn.Module, about: dict[str, Any], path: Path, labels: bool) -> None:
    """Writes a network with its normalization, for any batch, height and width.

    Args:
        network: in evaluation mode, on the CPU.
        about: what a snapshot says of it, without the weights; goes into the file.
        path: of the file.
        labels: whether the last layer is the choice of a class.
    """
    onnx = load_package("onnx", "an ONNX file")
    load_package("onnxscript", "an ONNX file")
    name = "labels" if labels else "logits"
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=32),
             3: torch.export.Dim("width", min=32)}
    images = torch.zeros(2, 3, 96, 160, dtype=torch.uint8)
    graph = Graph(replace_layers(fuse(network)), labels).eval()
    program: Any = torch.onnx.export(
        graph, (images,), dynamo=True, opset_version=OPSET,
        input_names=["images"], output_names=[name], dynamic_shapes=(sizes,), verbose=False)
    content = program.model_proto
    # What is cut to the size of the input has that as a long formula.
    for place, axis in zip(content.graph.output[0].type.tensor_type.shape.dim[-2:],
                           ("height", "width"), strict=True):
        place.dim_param = axis
    entry = content.metadata_props.add()
    entry.key, entry.value = KEY, json.dumps(about)
    onnx.save(content, str(path))


class ExportedNetwork(Segmenter):
    """An ONNX file that behaves like the network it was written from, in as many threads as torch.

    Raises ValueError: no ONNX file of export.py, or onnxruntime is missing.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        runtime = load_package("onnxruntime", f"{path}: running it")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            providers = runtime.get_available_providers()
            self.session = runtime.InferenceSession(str(path), options, providers)
        except Exception:  # onnxruntime raises its own types
            raise ValueError(f"{path}: damaged, or no ONNX file") from None
        stored = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if stored is None:
            raise ValueError(f"{path}: not written by export.py: it does not say its classes")
        try:
            self.about: dict[str, Any] = json.loads(stored)
        except (ValueError, RecursionError):
            raise ValueError(f"{path}: what it says of its classes is not JSON; export it "
                             "again") from None
        check_about(self.about, path)
        self.config = self.about["model"]
        self.labels = self.session.get_outputs()[0].name == "labels"
        self.place = nn.Parameter(torch.empty(0), requires_grad=False)  # where tensors are taken

    def forward(self, images: Tensor, full_size: bool = True) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, C, H, W); of a file of labels 1 for the label, 0 else."""
        pixels = np.ascontiguousarray(images.cpu().numpy())
        try:
            output, = self.session.run(None, {"images": pixels})
        except Exception as error:  # onnxruntime raises its own types
            size = "x".join(map(str, pixels.shape[-2:]))
            raise RuntimeError(f"the ONNX file does not run on {size} pixels: {error}") from None
        found, classes = torch.from_numpy(output), self.config["num_classes"]
        if self.labels:
            if int(found.max()) >= classes:
                raise ValueError(f"the ONNX file gives class {int(found.max())}, it says that it "
                                 f"has {classes}")
            found = nn.functional.one_hot(found.long(), classes).permute(0, 3, 1, 2).float()
        elif found.ndim != 4 or found.shape[1] != classes:
            raise ValueError(f"the ONNX file gives logits of shape {tuple(found.shape)}, it says "
                             f"that it has {classes} classes")
        return found


def quantize(source: Path, target: Path, images: Iterable[np.ndarray]) -> None:
    """Writes an ONNX file of `write_onnx` with 8-bit weights and activations.

    Their ranges are taken from `images`, (1, 3, H, W) uint8 each.
    """
    tools = load_package("onnxruntime.quantization", "int8")
    onnx = load_package("onnx", "int8")
    left = ({"images": image} for image in images)

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        """Hands out the images."""

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(left, None)

    stored = {entry.key: entry.value for entry in onnx.load(str(source)).metadata_props}
    tools.quantize_static(
        str(source), str(target), Reader(), quant_format=tools.QuantFormat.QDQ, per_channel=True,
        activation_type=tools.QuantType.QUInt8, weight_type=tools.QuantType.QInt8,
        op_types_to_quantize=["Conv"])
    content = onnx.load(str(target))
    if KEY not in {entry.key for entry in content.metadata_props}:
        entry = content.metadata_props.add()
        entry.key, entry.value = KEY, stored[KEY]
        onnx.save(content, str(target))


def replace_layers(network: nn.Module) -> nn.Module:
    """Itself, with other layers that compute the same."""
    for module in list(network.modules()):
        for name, part in module._modules.items():
            if (new := _replacement(part)) is not None:
                setattr(module, name, new)
    return network


def _replacement(layer: nn.Module | None) -> nn.Module | None:
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        size: Any = layer.output_size
        bins = (size, size) if isinstance(size, int) else tuple(size)
        return AdaptivePool(bins) if None not in bins and max(bins) > 1 else None
    if isinstance(layer, nn.Conv2d) and type(layer).__name__ == "Conv2dSame":
        return _pad_before(layer)
    return None


class AdaptivePool(nn.Module):
    """nn.AdaptiveAvgPool2d to `bins`, rows and columns, as two products of matrices."""

    def __init__(self, bins: Sequence[int]) -> None:
        super().__init__()
        self.bins = bins

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) -> (N, C, *bins)."""
        rows, columns = (self._shares(x, axis).to(x.dtype) for axis in (0, 1))
        return rows @ x @ columns.T

    def _shares(self, x: Tensor, axis: int) -> Tensor:
        """(bins, length): what every bin takes of each place."""
        length, bins = x.shape[axis - 2], self.bins[axis]
        place = torch.arange(length, device=x.device)[None]
        number = torch.arange(bins, device=x.device)[:, None]
        begin, end = number * length // bins, ((number + 1) * length + bins - 1) // bins
        inside = (place >= begin) & (place < end)
        return inside / inside.sum(1, keepdim=True)


def _pad_before(layer: nn.Conv2d) -> nn.Module:
    """timm's convolution that pads as TensorFlow does, by an amount that depends on the size.

    Of sizes that its stride divides, and others do not reach it, the amount is always the same; an
    exporter does not see that, and works for many minutes on the sizes of all layers behind.
    """
    padding: Any = ()
    for kernel, stride, dilation in zip(layer.kernel_size, layer.stride, layer.dilation,
                                        strict=True):
        amount = max(dilation * (kernel - 1) + 1 - stride, 0)
        padding = (amount // 2, amount - amount // 2, *padding)  # the last axis first
    plain: Any = copy.copy(layer)
    plain.__class__, plain.padding = nn.Conv2d, (0, 0)
    return nn.Sequential(nn.ConstantPad2d(padding, 0.0), plain)
