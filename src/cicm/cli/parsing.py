"""One parser for all verbs: the same look of help, and one line for what was typed wrong."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from cicm.conventions import InputError


class _Help(argparse.RawDescriptionHelpFormatter):
    """Text as it is written, and the default of each option that has one."""

    def _get_help_string(self, action: argparse.Action) -> str:
        told = action.help or ""
        shown = (
            action.default is not None and action.default is not argparse.SUPPRESS and action.default not in ("", [])
        )
        if not shown or isinstance(action.default, bool) or "default" in told or not action.option_strings:
            return told
        return f"{told} (default: %(default)s)"


def verb_parser(verb: str, description: str, examples: str, usage: str | None = None) -> ArgumentParser:
    """A parser for `cicm VERB`; text is printed as it is written."""
    return ArgumentParser(
        prog=f"cicm {verb}",
        usage=usage,
        description=description,
        epilog=examples,
        formatter_class=_Help,
        exit_on_error=False,
        default_env=False,
    )


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """The options of a command line."""
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{told}. See {parser.prog} --help.") from None


def colour_of(text: str) -> tuple[int, int, int]:
    """A colour from six hexadecimal digits.

    Example:
        >>> colour_of("#ff00ff")
        (255, 0, 255)
    """
    if not re.fullmatch("#?[0-9a-fA-F]{6}", text):
        raise InputError(f"a colour is written in six hexadecimal digits, such as ff00ff; got {text!r}.")
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


def box_of(text: str) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) from X,Y,W,H in pixels.

    Example:
        >>> box_of("40,60,120,80")
        (40, 60, 160, 140)
    """
    numbers = text.split(",")
    if len(numbers) != 4 or not all(re.fullmatch(r"\s*[0-9]{1,9}\s*", number) for number in numbers):
        raise InputError(
            f"a box is X,Y,W,H: left, top, width and height in pixels, such as 40,60,120,80; got {text!r}."
        )
    x, y, width, height = map(int, numbers)
    return x, y, x + width, y + height


def polygon_of(text: str) -> tuple[tuple[float, float], ...]:
    """Corners (x, y) from X,Y,X,Y,... in pixels.

    Example:
        >>> polygon_of("10,20,60,20,35,70.5")
        ((10.0, 20.0), (60.0, 20.0), (35.0, 70.5))
    """
    numbers = text.split(",")
    if (
        len(numbers) < 6
        or len(numbers) % 2
        or not all(re.fullmatch(r"\s*[0-9]{1,9}(\.[0-9]+)?\s*", n) for n in numbers)
    ):
        raise InputError(
            f"a polygon is X,Y,X,Y,...: three or more corners in pixels, such as 10,20,60,20,35,70; got {text!r}."
        )
    values = list(map(float, numbers))
    return tuple(zip(values[::2], values[1::2], strict=True))
