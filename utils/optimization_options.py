"""How weights are found: the options and what they refuse."""

import argparse
from collections.abc import Collection

from utils.argument_types import at_least_zero, below_one, positive, share, whole


def add_optimization(parser: argparse.ArgumentParser, optimizers: Collection[str]) -> None:
    """How weights are found."""
    group = parser.add_argument_group("optimization")
    group.add_argument("--epochs", type=positive, default=200, metavar="N",
                       help="passes over the training split")
    group.add_argument("--max-steps", type=positive, metavar="N",
                       help="end after N optimizer steps, if the epochs are longer")
    group.add_argument("--batch-size", type=positive, default=8, metavar="N",
                       help="images per optimizer step, over all processes")
    group.add_argument("--accumulate", type=positive, default=1, metavar="N",
                       help="forwards that a step is split into, to save memory")
    group.add_argument("--optimizer", default="sgd", choices=tuple(optimizers), help="update rule")
    group.add_argument("--lr", type=at_least_zero, default=0.01, metavar="X", help="learning rate")
    group.add_argument("--encoder-lr-factor", type=at_least_zero, default=1.0, metavar="X",
                       help="the encoder's learning rate is this times --lr")
    group.add_argument("--momentum", type=below_one, default=0.9, metavar="X",
                       help="of SGD; beta 1 of Adam and AdamW")
    group.add_argument("--nesterov", action=argparse.BooleanOptionalAction, default=False,
                       help="SGD looks ahead along its momentum")
    group.add_argument("--weight-decay", type=at_least_zero, default=1e-4, metavar="X",
                       help="on convolution weights")
    group.add_argument("--decay-all", action=argparse.BooleanOptionalAction, default=False,
                       help="weight decay on norms and biases too")
    group.add_argument("--clip", type=at_least_zero, default=0.0, metavar="X",
                       help="largest norm of the gradient; 0 is none")
    group.add_argument("--ema", type=share, default=0.0, metavar="X",
                       help="decay of a running mean of the weights, which is then validated and "
                       "saved, for example 0.999; 0 is none")
    group.add_argument("--ema-ramp", type=whole, default=0, metavar="N",
                       help="the decay is reached as 1 - exp(-step / N), in optimizer steps; 0: as "
                       "(1 + step) / (10 + step)")
    group.add_argument("--freeze-bn", action=argparse.BooleanOptionalAction, default=False,
                       help="batch norms keep their statistics")
    group.add_argument("--sync-bn", action=argparse.BooleanOptionalAction, default=False,
                       help="batch statistics over all processes; CUDA only")
    group.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False,
                       help="torch.compile the training forward")
    group.add_argument("--seed", type=whole, default=0, metavar="N",
                       help="of weights, order, augmentation and dropout")


def check_optimization(args: argparse.Namespace, world: int, cuda: bool) -> None:
    """Refuses batches that do not divide.

    Raises:
        ValueError: what was given, what is allowed.
    """
    forwards = world * args.accumulate
    if args.batch_size % forwards:
        raise ValueError(
            f"--batch-size {args.batch_size} does not divide into {world} processes x "
            f"--accumulate {args.accumulate}"
        )
    if args.batch_size < 2 * forwards and not args.freeze_bn and not (
        args.sync_bn and cuda and world > 1
    ):
        raise ValueError(
            f"--batch-size {args.batch_size} leaves one image per forward; batch norm needs two: "
            f"at least --batch-size {2 * forwards}"
        )
