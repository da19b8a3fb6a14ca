"""Batch norms folded into the convolutions before them, for inference."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIZE = (64, 96)  # of the image that shows what takes whose output
ACTIVATIONS = nn.ReLU, nn.ReLU6, nn.SiLU, nn.Hardswish


def fuse(network: nn.Module) -> nn.Module:
    """A copy, in evaluation mode, that computes the same with fewer layers.

    A batch norm goes into the weights of a convolution when it was seen, in a forward, to be all
    that takes its output. The order of names would not do: other libraries' encoders also hand
    such an output on to a decoder, or run layers in another order. An activation that is all that
    takes the output of one or the other overwrites it, a pass over new memory less.
    """
    network = copy.deepcopy(network).eval()
    new: dict[Any, nn.Module] = {}
    pairs, activations = _see_uses(network)
    for activation in activations:
        activation.inplace = True
    for convolution, norm in pairs:
        fused: Any = fuse_conv_bn_eval(convolution, norm)
        new |= {convolution: fused.as_plain() if hasattr(fused, "as_plain") else fused,
                norm: nn.Identity()}
    for module in list(network.modules()):
        for name, part in module._modules.items():
            if part in new:
                setattr(module, name, new[part])
    return network


class _Uses(TorchDispatchMode):
    """Counts the operations that take a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[int] = Counter()  # by id
        self.kept: list[Any] = []  # else another tensor could get the id of one that is gone

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled under it; True imports the compiler, 6 s of each process

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        taken = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        self.counts.update({id(each) for each in taken})
        result = func(*args, **(kwargs or {}))
        self.kept += [*taken, result]
        return result


@torch.no_grad()
def _see_uses(network: nn.Module) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """What nothing else takes the input of.

    Returns:
        (convolution, batch norm) that run once each, the norm on the other's output; activations
        that run on outputs of either.
    """
    outputs: dict[int, tuple[nn.Module, Tensor]] = {}
    pairs: list[tuple[nn.Module, nn.Module, int]] = []
    activated: dict[nn.Module, list[int]] = {}
    runs: Counter[nn.Module] = Counter()

    def after(layer: nn.Module, args: Any, output: Tensor) -> None:
        outputs[id(output)] = layer, output
        runs[layer] += 1
        before = outputs.get(id(args[0]), (None,))[0] if args else None
        if isinstance(before, nn.Conv2d) and type(layer) is nn.BatchNorm2d:
            pairs.append((before, layer, id(args[0])))

    def before_activation(layer: nn.Module, args: Any) -> None:
        activated.setdefault(layer, []).append(id(args[0]) if args else 0)

    layers = list(network.modules())
    hooks = [each.register_forward_hook(after) for each in layers
             if isinstance(each, nn.Conv2d) or type(each) is nn.BatchNorm2d]
    hooks += [each.register_forward_pre_hook(before_activation) for each in layers
              if isinstance(each, ACTIVATIONS)]
    place = next(network.parameters()).device
    images = torch.zeros(1, 3, *SIZE, dtype=torch.uint8, device=place)
    with _Uses() as uses:
        result = network(images, full_size=False)
    uses.counts.update(id(each) for each in tree_leaves(result))
    for hook in hooks:
        hook.remove()
    alone = [(convolution, norm) for convolution, norm, output in pairs
             if uses.counts[output] == runs[convolution] == runs[norm] == 1]
    return alone, [activation for activation, inputs in activated.items()
                   if all(each in outputs and uses.counts[each] == 1 for each in inputs)]
