"""Activation checkpointing: less is kept for backward, results are the same bit for bit."""

import pytest
import torch
from torch import Tensor, nn

import model
from model.encoders.wide_resnet38 import stage
from model.layers import checkpoint_activations, run_stages
from utils.training.optimization import train_mode


class Stages(nn.Module):
    """Two stages of WideResNet38's blocks, narrow."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([stage(3, (8, 8), blocks=2, pool=True),
                                     stage(8, (4, 8, 16), dropout=0.5)])
        self.recompute = False

    def forward(self, x: Tensor) -> Tensor:
        return run_stages(self.stages, x, (1,), self.recompute)[0]


def step(network: nn.Module, images: Tensor) -> tuple[dict[str, Tensor], int]:
    """Gradients and state after a step, and the bytes that forward kept for backward."""
    parameters = {tensor.untyped_storage().data_ptr() for tensor in network.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = network(images).float().square().mean()
    loss.backward()
    gradients = {f"gradient of {name}": p.grad for name, p in network.named_parameters()}
    return network.state_dict() | gradients | {"after": torch.rand(1)}, sum(kept.values())


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert [name for name in first if not torch.equal(first[name], second[name])] == []


@pytest.mark.parametrize("freeze_bn", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_results_are_equal(precision: torch.dtype, freeze_bn: bool) -> None:
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = Stages()
        network.recompute = recompute
        train_mode(network, freeze_bn)
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            results.append(step(network, torch.randn(2, 3, 32, 32))[0])
    assert_equal(*results)
    assert results[1]["stages.0.block1.norms.0.num_batches_tracked"] == (0 if freeze_bn else 1)


def train_step(name: str, recompute: bool) -> tuple[dict[str, Tensor], int]:
    torch.manual_seed(0)
    network = model.build_model(name, 5).train()
    if recompute:
        checkpoint_activations(network)
    return step(network, torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))


@pytest.mark.parametrize("name", [
    "deeplabv3plus_resnet50",
    *(pytest.param(name, marks=pytest.mark.slow)
      for name in ("deeplabv3plus_wide_resnet38", "deeplabv3plus_se_resnext50"))
])
def test_networks_keep_less(name: str) -> None:
    (plain, kept), (again, kept_again) = train_step(name, False), train_step(name, True)
    assert_equal(plain, again)
    assert kept_again < 0.5 * kept


def test_nothing_is_computed_again_in_evaluation() -> None:
    network = Stages().eval()
    images = torch.randn(1, 3, 32, 32, requires_grad=True)
    network.recompute = True
    seen = []
    network.stages[0].block1.register_forward_hook(lambda *a: seen.append(a))
    network(images).sum().backward()
    with torch.no_grad():
        network.train()(images.repeat(2, 1, 1, 1))
    assert len(seen) == 2


@pytest.mark.slow
def test_compiled() -> None:
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = Stages().train()
        network.stages[1].block1.dropout.p = 0.0  # the compiler draws others
        network.recompute = recompute
        if recompute:
            network.compile()
        results.append(step(network, torch.randn(2, 3, 32, 32))[0])
    for name, tensor in results[0].items():
        if name != "after":
            torch.testing.assert_close(results[1][name], tensor, rtol=1e-4, atol=1e-5)
