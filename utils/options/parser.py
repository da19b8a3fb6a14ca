"""argparse with this project's habits."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NoReturn

# option -> another one, and the values of that with which it has an effect
OWNERS = {
    "relax_window": ("loss", ("label_relaxation",)),
    "strict_classes": ("loss", ("label_relaxation",)),
    "relax_until": ("loss", ("label_relaxation",)),
    "class_weight_bound": ("loss", ("image_weighted", "label_relaxation")),
    "batch_weighting": ("loss", ("image_weighted", "label_relaxation")),
    "upstream_batch_scale": ("loss", ("image_weighted", "label_relaxation")),
    "upstream_last_bin": ("loss", ("image_weighted",)),
    "poly_power": ("schedule", ("poly", "scl-poly")),
    "restart_factor": ("schedule", ("scl-poly",)),
    "restart_power": ("schedule", ("scl-poly",)),
    "final_factor": ("schedule", ("linear",)),
    "nesterov": ("optimizer", ("sgd",)),
    "warmup_momentum": ("optimizer", ("sgd",)),
}
# option -> others, without all of which it has none
NEEDS = {
    "nesterov": ("momentum",),
    "warmup_momentum": ("warmup_steps",),
    "ema_ramp": ("ema",),
    "coarse_boost": ("class_uniform",),
    "max_cu_epoch": ("class_uniform", "propagated_root"),
    "overlap": ("window",),
    "window_batch": ("window",),
    "verify": ("cache",),
}


class Parser(argparse.ArgumentParser):
    """argparse with this project's habits: `--crop_size` is `--crop-size`, errors are one line."""

    def __init__(self, doc: str | None) -> None:
        description, _, examples = (doc or "").partition("\n\n")
        super().__init__(
            description=description,
            epilog=examples,
            formatter_class=_Formatter,
            allow_abbrev=False,
        )
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = [_kebab(word) for word in (sys.argv[1:] if args is None else args)]
        parsed, rest = super().parse_known_args(words, namespace)
        if vars(parsed).get("resume") is None:  # else the options are not complete yet
            self.check_effects(parsed)
        return parsed, rest

    def check_effects(self, args: argparse.Namespace) -> None:
        """Refuses options that were given and have no effect. Raises ValueError."""
        values = vars(args)
        given = {name for name, value in values.items() if value != self.get_default(name)}
        for name, (owner, wanted) in OWNERS.items():
            if name in given and values.get(owner, wanted[0]) not in wanted:
                raise ValueError(
                    f"{_option(name)}: has no effect with {_option(owner)} {values[owner]}; it is "
                    f"an option of {' and '.join(wanted)}")
        for name, others in NEEDS.items():
            if name in given and not any(values.get(other, True) for other in others):
                words = " or ".join(map(_option, others))
                raise ValueError(f"{_option(name)}: has no effect without {words}; give both, or "
                                 "leave it out")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; {self.prog} --help lists the options\n")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if isinstance(default, list | tuple):
            return f"{action.help} (default: {' '.join(map(str, default))})"
        return action.help if default in (None, False) else super()._get_help_string(action)


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kebab(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


def positive(text: str) -> int:
    """A whole number from 1."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def whole(text: str) -> int:
    """A whole number from 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def odd(text: str) -> int:
    """An odd whole number."""
    if not text.isdigit() or int(text) % 2 == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not an odd number from 1")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def below_one(text: str) -> float:
    """A number or a fraction, from 0 to below 1."""
    try:
        value = float(Fraction(text) if "/" in text else text)
    except (ValueError, ArithmeticError):  # 1/0 too
        value = 1.0
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0, below 1")
    return value


def at_least_zero(text: str) -> float:
    """A finite number from 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0")
    return value


def above_zero(text: str) -> float:
    """A finite number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def checked(check: Callable[[str], str]) -> Callable[[str], str]:
    """The type of an option whose words `check` refuses with a ValueError that says why."""

    def word(text: str) -> str:
        try:
            return check(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return word


class Show(argparse.Action):
    """An option that prints a text and ends the script.

    Args:
        text: makes it, when it is wanted.
    """

    def __init__(
        self, option_strings: Sequence[str], dest: str, text: Callable[[], str], help: str
    ) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)
        self.text = text

    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        print(self.text())
        parser.exit(0)


class OneOrTwo(argparse.Action):
    """Takes one number or two, and refuses more."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace,
        values: str | Sequence[Any] | None, option_string: str | None = None,
    ) -> None:
        if not isinstance(values, list) or len(values) > 2:
            parser.error(f"argument {self.option_strings[0]}: one number or two are expected")
        setattr(namespace, self.dest, values)
