"""The options of the network that is trained."""

import argparse
from collections.abc import Callable, Collection
from typing import Any

from utils.argument_types import Show, checked


def add_network(
    parser: argparse.ArgumentParser,
    names: Collection[str],
    check: Callable[[str], str],
    describe: Callable[[], str],
) -> None:
    """The network to train.

    Args:
        parser: gets the options.
        names: of this project's networks.
        check: gives a name back, or raises ValueError.
        describe: what can be built, in words.
    """
    group = parser.add_argument_group("network")
    group.add_argument("--arch", default="deeplabv3_resnet18", type=checked(check), metavar="NAME",
                       help=", ".join(names) + "; or smp:ARCHITECTURE:ENCODER, a network of "
                       "segmentation_models_pytorch")
    group.add_argument("--list-models", action=Show, text=describe,
                       help="print the names that --arch takes, and exit")
    group.add_argument("--output-stride", type=int, choices=(8, 16),
                       help="pixels per feature cell of a dilated encoder; 8 is finer and slower "
                       "(default: the network's own)")
    group.add_argument("--skip", type=int, choices=(2, 4, 8),
                       help="pixels per cell of the finer features that a DeepLabV3+ decoder "
                       "joins, and of its logits (default: the network's own)")
    group.add_argument("--checkpoint-activations", action=argparse.BooleanOptionalAction,
                       default=False,
                       help="keep only the input of each residual block for backward, which "
                       "computes the rest again: less memory, more time, equal results")


def starting_network(args: argparse.Namespace, last: dict[str, Any] | None) -> dict[str, Any]:
    """How to build the network: as the options say with the first weights, or as it was `last`.

    Weights bring pixel statistics along, which no option of a resumed training knows.
    """
    if last:
        return dict(last["model"]["options"])
    given = {"init": args.init, "encoder": args.pretrained_encoder}
    chosen = {"output_stride": args.output_stride, "skip": args.skip}
    return given | {name: value for name, value in chosen.items() if value}
