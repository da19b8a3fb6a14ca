"""A network ready to predict."""

from typing import Any

import numpy as np
import torch

from model import MODELS, from_snapshot
from model.exported import ExportedNetwork
from model.fusion import fuse
from utils.inference import FEW_IMAGES, Predictor, Workload
from utils.sliding import Inference


def open_predictor(
    snapshot: dict[str, Any],
    device: torch.device,
    precision: str,
    inference: Inference,
    table: np.ndarray | None = None,
    compiled: bool = False,
    workload: Workload = FEW_IMAGES,
) -> Predictor:
    """The network of a snapshot on a device, its batch norms fused; the rest as of `Predictor`.

    Args:
        precision: fp32, bf16, fp16, or auto.
        compiled: the network is compiled when it meets a new size, its weights as constants, in
            the precision that is fast without.
        workload: what auto is chosen for.

    Raises:
        ValueError: the snapshot is an ONNX file and `compiled` asked for.
    """
    network: Any = from_snapshot(snapshot)
    exported = isinstance(network, ExportedNetwork)
    if not exported:
        network = fuse(network)
    network = network.to(device, memory_format=torch.channels_last)
    ours = not exported and snapshot["model"]["arch"] in MODELS
    predictor = Predictor(network, table=table, inference=inference,
                          replayed=device.type == "cuda" and ours and not compiled)
    predictor = predictor.with_precision(precision, workload)
    if compiled:
        if exported:
            raise ValueError("--compile: an ONNX file is run by onnxruntime; leave it out")
        network.compile(dynamic=False, options={"freezing": True})
    return predictor
