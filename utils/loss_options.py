"""What losses can be told, and the options that tell it."""

import argparse
from collections.abc import Collection, Sequence

from model.losses.label_relaxation import IMAGE_WEIGHTED, LossOptions
from utils.argument_types import at_least_zero, odd, whole


def add_loss(
    parser: argparse.ArgumentParser, losses: Collection[str], class_weights: Collection[str]
) -> None:
    """What is made small."""
    group = parser.add_argument_group("loss")
    group.add_argument("--loss", default="cross_entropy", choices=tuple(losses),
                       metavar="NAME", help=", ".join(losses) + ". ohem: cross entropy of the hard "
                       "pixels; image_weighted: classes weigh by how rare they are in an image; "
                       "label_relaxation: so too, and at a border every class that is near is "
                       "right; dice, lovasz: overlap of each class over the images of a forward; "
                       "bce: binary, each class against the rest; focal: so too, of hard pixels")
    group.add_argument("--class-weights", default="none", choices=tuple(class_weights),
                       help="from the classes' pixel shares p in the training split: "
                       "enet 1/ln(1.02+p), enet110 1/ln(1.10+p)")
    group.add_argument("--class-weight-bound", type=at_least_zero, metavar="X",
                       help="a class that is rare in an image weighs up to X more than 1, in the "
                       "losses that weigh by image (default: 1)")
    group.add_argument("--batch-weighting", action=argparse.BooleanOptionalAction, default=False,
                       help="rare in all images of a forward, not in one")
    group.add_argument("--relax-window", type=odd, metavar="PIXELS",
                       help="side of the window whose classes are right, odd (default: 3)")
    group.add_argument("--strict-classes", nargs="*", metavar="CLASS",
                       help="names or train ids of classes whose pixels are never relaxed")
    group.add_argument("--relax-until", type=whole, metavar="EPOCH",
                       help="last epoch, from 0, that is relaxed; then the window reaches half as "
                       "far (3 pixels: plain labels) and borders count twice")
    group.add_argument("--upstream-batch-scale", action=argparse.BooleanOptionalAction,
                       default=False, help="add images up as the published code of these losses "
                       "does: the scale grows with the images of a forward, label_relaxation's "
                       "with their square")
    group.add_argument("--upstream-last-bin", action=argparse.BooleanOptionalAction, default=False,
                       help="image_weighted counts void as the last class, as the published code "
                       "does where void is the next id: CamVid, Mapillary")


def check_loss(args: argparse.Namespace) -> None:
    """Refuses what does not go together. Raises ValueError."""
    if args.loss in IMAGE_WEIGHTED and args.class_weights != "none":
        raise ValueError(f"--class-weights {args.class_weights}: --loss {args.loss} weighs classes "
                         "by each image already; leave one of them out")
    if args.relax_until is not None and args.relax_until >= args.epochs:
        raise ValueError(f"--relax-until {args.relax_until}: --epochs {args.epochs} ends before; "
                         f"epochs are 0 to {args.epochs - 1}")


def build_loss_options(args: argparse.Namespace, class_names: Sequence[str]) -> LossOptions:
    """What the options of `add_loss` ask for.

    Raises:
        ValueError: a strict class that the data set does not have.
    """
    known = {str(number): number for number in range(len(class_names))}
    known |= {name: number for number, name in enumerate(class_names)}
    for word in args.strict_classes or ():
        if word not in known:
            raise ValueError(f"--strict-classes {word!r}: no class; {', '.join(class_names)}, or "
                             f"0 to {len(class_names) - 1}")
    return LossOptions(
        window=args.relax_window or LossOptions.window,
        strict=tuple(sorted({known[word] for word in args.strict_classes or ()})),
        relax_until=args.relax_until,
        class_weight_bound=(LossOptions.class_weight_bound if args.class_weight_bound is None
                            else args.class_weight_bound),
        batch_weighting=args.batch_weighting,
        upstream_batch_scale=args.upstream_batch_scale,
        upstream_last_bin=args.upstream_last_bin,
    )
