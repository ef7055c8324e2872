"""One parser for all verbs: the same look of help, and one line for what was typed wrong."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from cicm.conventions import InputError


def verb_parser(verb: str, description: str, examples: str, usage: str | None = None) -> ArgumentParser:
    """A parser for `cicm VERB`; text is printed as it is written."""
    return ArgumentParser(
        prog=f"cicm {verb}",
        usage=usage,
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        exit_on_error=False,
        default_env=False,
    )


def parse(parser: ArgumentParser, argv: Sequence[str]) -> Namespace:
    """The options of a command line.

    Raises:
        InputError: what is wrong with it, in one line.
    """
    try:
        return parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        told = " ".join(str(error).split()).rstrip(".")
        raise InputError(f"{told}. See {parser.prog} --help.") from None
