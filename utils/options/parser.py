"""The argument parser of every script, number types, and which options need which."""

import argparse
import math
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NoReturn

from utils.stopping import did_you_mean

SWITCH: dict[str, Any] = {"action": argparse.BooleanOptionalAction, "default": False}
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
    "results": ("half",),
    "teacher_weight": ("teacher",),
    "extend": ("resume",),
}


class Parser(argparse.ArgumentParser):
    """argparse with this project's habits: `--crop_size` is `--crop-size`, errors are one line."""

    def __init__(self, doc: str | None) -> None:
        description, _, examples = (doc or "").partition("\n\n")
        super().__init__(description=description, epilog=examples, formatter_class=_Formatter,
                         allow_abbrev=False)
        self.color = False  # of --help in Python 3.14: the streams of a script take no escapes
        self.add_argument("--debug", action="store_true", help="show the traceback of an error")

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        words = [_kebab(word) for word in (sys.argv[1:] if args is None else args)]
        for before, word in zip(["", *words], words, strict=False):
            if not word or re.fullmatch("--[^=]*=", word):
                self.error(f"{before if not word else word[:-1]} '': empty, as a variable of the "
                           "shell is that was never set")
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
                raise ValueError(f"{_option(name)}: has no effect with {_option(owner)} "
                                 f"{values[owner]}; it is an option of {' and '.join(wanted)}")
        for name, others in NEEDS.items():
            if name in given and all(values.get(other, True) in (None, False) for other in others):
                words = " or ".join(map(_option, others))
                raise ValueError(f"{_option(name)}: has no effect without {words}; give both, or "
                                 "leave it out")

    def error(self, message: str) -> NoReturn:
        if message.startswith("unrecognized arguments"):
            wrong = [word.partition("=")[0] for word in message.split() if word[:2] == "--"]
            message += did_you_mean("".join(wrong[:1]), self._option_string_actions)
        elif found := re.match(r"argument (--[\w-]+).*: invalid choice: '(.*?)' ", message):
            choices = self._option_string_actions[found[1]].choices or ()
            message += did_you_mean(found[2], choices)
        elif found := re.search(r"unknown \w+ '(.*?)'; known: (.*)", message):
            message += did_you_mean(found[1], found[2].split(", "))
        self.exit(2, f"error: {message}; {self.prog} --help lists the options\n")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        default = action.default
        if isinstance(default, list | tuple):
            return f"{action.help} (default: {' '.join(map(str, default))})"
        return action.help if default in (None, False) else super()._get_help_string(action)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        return getattr(action.type, "metavar", super()._get_default_metavar_for_optional(action))


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _kebab(word: str) -> str:
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if name.startswith("--") else word


@dataclass(frozen=True)
class Number:
    """The type of an option that is a number.

    Args:
        words: say what is expected, where anything else is refused.
        test: of the number.
        read: a text; what it raises is a refusal.
        metavar: of such an option in --help, unless it has one of its own.
    """

    words: str
    test: Callable[[Any], bool]
    read: Callable[[str], Any] = float
    metavar: str = "X"

    def __call__(self, text: str) -> Any:
        with suppress(ValueError, ArithmeticError):  # 1/0 too
            if self.test(value := self.read(text)):
                return value
        raise argparse.ArgumentTypeError(f"{text!r} is not {self.words}")


def _digits(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _whole(least: int, most: int, end: str) -> Number:
    return Number(f"a whole number from {least}{end}", lambda n: least <= n <= most, _digits, "N")


positive, whole = (_whole(least, 2**63 - 1, ", below 2^63") for least in (1, 0))
side = few = _whole(1, 65536, " to 65536")  # pixels; epochs, seconds
threads, readers = (_whole(least, 1024, " to 1024") for least in (1, 0))
odd = Number("an odd number from 1", lambda n: n > 0 and n % 2 == 1, _digits, "N")
share = Number("a number from 0 to 1", lambda x: 0 <= x <= 1)
below_one = Number("a number from 0, below 1", lambda x: 0 <= x < 1,
                   lambda text: float(Fraction(text) if "/" in text else text))
fraction = Number("a number between 0 and 1", lambda x: 0 < x < 1)
at_least_zero = Number("a number from 0", lambda x: 0 <= x < math.inf)
above_zero = Number("a number above 0", lambda x: 0 < x < math.inf)


def checked(check: Callable[[str], Any]) -> Callable[[str], Any]:
    """The type of an option whose words `check` refuses with a ValueError that says why."""

    def word(text: str) -> Any:
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

    def __call__(self, parser: Any, namespace: Any, values: Any, *rest: Any) -> None:
        if len(values) > 2:
            parser.error(f"argument {self.option_strings[0]}: one number or two are expected")
        setattr(namespace, self.dest, values)
