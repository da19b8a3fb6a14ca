"""Puts weights into a network."""

from torch import Tensor, nn


def load_weights(network: nn.Module, weights: dict[str, Tensor], except_: str = "") -> list[str]:
    """Copies weights into a network, every name and shape or an error.

    Args:
        network: gets the weights.
        weights: state dict with this project's names.
        except_: names with this prefix may differ in shape; those keep their values.

    Returns:
        The names left out by `except_`.

    Raises:
        ValueError: a tensor is missing, left over, or of another shape.
    """
    own = network.state_dict()
    counters = {name: own[name] for name in own if name.endswith(".num_batches_tracked")}
    if not weights.keys() & counters.keys():  # files of PyTorch 0.4 and older have none
        weights = counters | weights
    left_out = [
        name
        for name in own
        if except_ and name.startswith(except_)
        and (name not in weights or weights[name].shape != own[name].shape)
    ]
    faults = [f"{name} missing" for name in own if name not in weights and name not in left_out]
    faults += [f"{name} unknown" for name in weights if name not in own and name not in left_out]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in weights and name not in left_out and weights[name].shape != own[name].shape
    ]
    if faults:
        raise ValueError(
            f"the weights do not fit the network: {len(faults)} of {len(own)} tensors differ "
            f"({'; '.join(faults[:3])})"
        )
    network.load_state_dict({k: own[k] if k in left_out else weights[k] for k in own})
    return left_out
