"""The options of optimizer, learning-rate schedule and loss, and what they refuse."""

import argparse
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from utils.options.parser import SWITCH, at_least_zero, below_one, few, odd, positive, share, whole
from utils.stopping import no_class
from utils.training.schedules import SCHEDULES, Schedule, Shape


def add_optimization(parser: argparse.ArgumentParser, optimizers: Collection[str]) -> None:
    """Batches, optimizer, weight decay, EMA."""
    add = parser.add_argument_group("optimization").add_argument
    add_length(add, epochs=200, batch_size=8)
    add("--accumulate", type=positive, default=1,
        help="forward passes that a step is split into, to save memory")
    add("--optimizer", default="sgd", choices=tuple(optimizers), help="update rule")
    add("--lr", type=at_least_zero, default=0.01, help="learning rate")
    add("--encoder-lr-factor", type=at_least_zero, default=1.0,
        help="the encoder's learning rate is this times --lr")
    add("--momentum", type=below_one, default=0.9, help="of SGD; beta 1 of Adam and AdamW")
    add("--nesterov", **SWITCH, help="SGD looks ahead along its momentum")
    add("--weight-decay", type=at_least_zero, default=1e-4, help="on convolution weights")
    add("--decay-all", **SWITCH, help="weight decay on norms and biases too")
    add("--clip", type=at_least_zero, default=0.0, help="largest norm of the gradient; 0 is none")
    add("--ema", type=share, default=0.0, help="decay of a running mean of the weights, which is "
        "then validated and saved, for example 0.999; 0 is none")
    add("--ema-ramp", type=whole, default=0, help="the decay is reached as 1 - exp(-step / N), in "
        "optimizer steps; 0: as (1 + step) / (10 + step)")
    add("--freeze-bn", **SWITCH, help="batch norms keep their statistics")
    add("--sync-bn", **SWITCH, help="batch statistics over all processes; CUDA only")
    add("--compile", **SWITCH, help="torch.compile the training forward")


def add_length(add: Any, epochs: int, batch_size: int) -> None:
    """How long a training is, the size of its steps, and the seed; with these defaults."""
    add("--epochs", type=few, default=epochs, help="passes over the training split")
    add("--max-steps", type=positive, help="end after N optimizer steps, if the epochs are longer")
    add("--batch-size", type=positive, default=batch_size,
        help="crops per optimizer step, over all processes")
    add("--seed", type=whole, default=0,
        help="of weights, order, crops and whatever else is random")


def check_optimization(args: argparse.Namespace, world: int, cuda: bool) -> None:
    """Refuses batches that do not divide.

    Raises ValueError: what was given, what is allowed.
    """
    forwards = world * args.accumulate
    if args.batch_size % forwards:
        raise ValueError(f"--batch-size {args.batch_size} does not divide into {world} processes x "
                         f"--accumulate {args.accumulate}")
    synchronized = args.sync_bn and cuda and world > 1
    if args.batch_size < 2 * forwards and not args.freeze_bn and not synchronized:
        raise ValueError(f"--batch-size {args.batch_size} leaves one image per forward; batch norm "
                         f"needs two: at least --batch-size {2 * forwards}")


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """The learning-rate schedule."""
    add = parser.add_argument_group("schedule").add_argument
    add("--schedule", default="poly", choices=tuple(SCHEDULES), help="learning-rate schedule; "
        "constant and linear do not end at 0, steps is a tenth from half of the way and a "
        "hundredth from nine tenths. scl-poly is a poly that starts again with epoch --relax-until")
    add("--schedule-per", default="step", choices=("step", "epoch"),
        help="the rate changes at every optimizer step or at every epoch")
    add("--warmup-steps", type=whole, default=0, help="steps of linear rise before the schedule")
    add("--warmup-momentum", type=share, help="momentum of SGD at the first step, which rises to "
        "--momentum with the warm-up (default: --momentum)")
    add("--poly-power", type=at_least_zero, help="exponent of poly and scl-poly (default: 0.9)")
    add("--final-factor", type=at_least_zero,
        help="part of --lr that linear ends at (default: 0.01)")
    add("--restart-factor", type=at_least_zero,
        help="part of --lr that scl-poly starts again with (default: 1)")
    add("--restart-power", type=at_least_zero,
        help="exponent of scl-poly from there (default: 1.5)")


def check_schedule(args: argparse.Namespace) -> None:
    """Refuses a schedule that does not say when it starts again. Raises ValueError."""
    if args.schedule == "scl-poly" and args.relax_until is None:
        raise ValueError("--schedule scl-poly: when does it start again? give --relax-until")


def build_schedule(args: argparse.Namespace, offsets: Sequence[int]) -> Schedule:
    """What the options of `add_schedule` ask for.

    Args:
        args: the options.
        offsets: steps at which the epochs begin, and the end; when --max-steps cuts them before
            scl-poly starts again, it does not.
    """
    epochs = tuple(offsets) if args.schedule_per == "epoch" else ()
    plain = Schedule(args.schedule, offsets[-1], args.warmup_steps, Shape(), epochs,
                     args.warmup_momentum)
    restart = args.relax_until if args.schedule == "scl-poly" else None
    given = {"power": args.poly_power, "restart_factor": args.restart_factor,
             "restart_power": args.restart_power, "final_factor": args.final_factor}
    if restart is not None and restart < len(offsets) - 1:
        given["restart"] = plain.progress(offsets[restart])
    shape = Shape(**{name: value for name, value in given.items() if value is not None})
    return replace(plain, shape=shape)


def add_loss(
    parser: argparse.ArgumentParser, losses: Collection[str], class_weights: Collection[str]
) -> None:
    """The loss and its options."""
    add = parser.add_argument_group("loss").add_argument
    add("--loss", default="cross_entropy", choices=tuple(losses), metavar="NAME",
        help=", ".join(losses) + ". ohem: cross entropy of the hard pixels; image_weighted: "
        "classes weigh by how rare they are in an image; label_relaxation: so too, and at a border "
        "every class that is near is right; dice, lovasz: overlap of each class over the images of "
        "a forward; bce: binary, each class against the rest; focal: so too, of hard pixels")
    add("--class-weights", default="none", choices=tuple(class_weights), help="from the classes' "
        "pixel shares p in the training split: enet 1/ln(1.02+p), enet110 1/ln(1.10+p)")
    add("--class-weight-bound", type=at_least_zero, help="a class that is rare in an image weighs "
        "up to X more than 1, in the losses that weigh by image (default: 1)")
    add("--batch-weighting", **SWITCH, help="rare in all images of a forward, not in one")
    add("--teacher", metavar="FILE|DIR|NAME", help="network of the same classes whose "
        "probabilities are learned beside the labels")
    add("--teacher-weight", type=share, help="of its loss, the labels have the rest (default: 0.5)")
    add("--relax-window", type=odd, metavar="PIXELS",
        help="side of the window whose classes are right, odd (default: 3)")
    add("--strict-classes", nargs="*", metavar="CLASS",
        help="names or train ids of classes whose pixels are never relaxed")
    add("--relax-until", type=whole, metavar="EPOCH", help="last epoch, from 0, that is relaxed; "
        "then the window reaches half as far (3 pixels: plain labels) and borders count twice")
    add("--upstream-batch-scale", **SWITCH,
        help="add images up as the published code of these losses does: the scale grows with the "
        "images of a forward, label_relaxation's with their square")
    add("--upstream-last-bin", **SWITCH, help="image_weighted counts void as the last class, as "
        "the published code does where void is the next id: CamVid, Mapillary")


def check_loss(args: argparse.Namespace, image_weighted: Sequence[str]) -> None:
    """Refuses what does not go together. Raises ValueError."""
    if args.loss in image_weighted and args.class_weights != "none":
        raise ValueError(f"--class-weights {args.class_weights}: --loss {args.loss} weighs classes "
                         "by each image already; leave one of them out")
    if args.relax_until is not None and args.relax_until >= args.epochs:
        raise ValueError(f"--relax-until {args.relax_until}: --epochs {args.epochs} ends before; "
                         f"epochs are 0 to {args.epochs - 1}")


def loss_settings(args: argparse.Namespace, class_names: Sequence[str]) -> dict[str, Any]:
    """What the options of `add_loss` ask for, by the names of `LossOptions`.

    Raises ValueError: a strict class that the data set does not have.
    """
    known = {str(number): number for number in range(len(class_names))}
    known |= {name: number for number, name in enumerate(class_names)}
    numbers = f"or 0 to {len(class_names) - 1}"
    for word in args.strict_classes or ():
        if word not in known:
            raise ValueError(f"--strict-classes {no_class(word, [*class_names, numbers])}")
    same = ("relax_until", "class_weight_bound", "batch_weighting", "upstream_batch_scale",
            "upstream_last_bin")
    settings = {"window": args.relax_window,
                "strict": tuple(sorted({known[word] for word in args.strict_classes or ()})),
                **{name: getattr(args, name) for name in same}}
    return {name: value for name, value in settings.items() if value is not None}
