"""Activation checkpointing: backward computes a block's insides again instead of keeping them.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016, https://arxiv.org/abs/1604.06174
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def checkpoint_activations(network: Any) -> None:
    """Lets a network trade a second forward of its blocks for memory in training.

    Raises:
        ValueError: it has no encoder that can.
    """
    encoder: Any = getattr(network, "encoder", None)
    if not hasattr(encoder, "checkpoint_activations"):
        raise ValueError(f"--checkpoint-activations: {network.config['arch']} has no encoder that "
                         "can; the deeplabv3_ and deeplabv3plus_ networks have")
    encoder.checkpoint_activations = True


def run_stages(
    stages: Iterable[nn.Sequential], x: Tensor, wanted: Collection[int], recompute: bool
) -> list[Tensor]:
    """The features after the `wanted` stages, from fine to coarse.

    Args:
        stages: run one after the other.
        x: input of the first.
        wanted: places of stages; the features of others are not kept.
        recompute: of each block in a stage, only the input is kept for backward.
    """
    features = []
    for place, stage in enumerate(stages):
        for block in stage:
            x = run(block, x, recompute=recompute)
        if place in wanted:
            features.append(x)
    return features


def run(block: nn.Module, *inputs: Tensor, recompute: bool) -> Tensor:
    """block(*inputs); with `recompute`, only the inputs are kept for backward.

    Gradients and running statistics are the same bit for bit.
    """
    if not (recompute and block.training and torch.is_grad_enabled()):
        return block(*inputs)
    if torch.compiler.is_compiling():  # the compiler computes again what gradients need, no more
        return checkpoint(block, *inputs, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager, AbstractContextManager]:
        return nullcontext(), statistics_aside(block)

    return checkpoint(block, *inputs, use_reentrant=False, context_fn=contexts)


@contextmanager
def statistics_aside(block: nn.Module) -> Iterator[None]:
    """Batch norms update copies of their running statistics.

    A batch would count twice otherwise: in forward and when backward computes it again.
    """
    norms = [module for module in block.modules() if isinstance(module, _BatchNorm)]
    buffers = [(norm, name, buffer) for norm in norms for name, buffer in norm.named_buffers()]
    for norm, name, buffer in buffers:
        setattr(norm, name, buffer.clone())
    try:
        yield
    finally:
        for norm, name, buffer in buffers:
            setattr(norm, name, buffer)
