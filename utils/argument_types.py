"""Numbers as options take them: text to a number in its range, or a message that says the range."""

import argparse
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any


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
