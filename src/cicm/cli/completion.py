"""`cicm --completion SHELL`: a script that lets the Tab key complete verbs, options and file names."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal, get_args, get_origin

from cicm.conventions import InputError

SHELLS = ("bash", "zsh", "tcsh")


def script(shell: str, verbs: Mapping[str, str]) -> str:
    """The completion script for one shell."""
    if shell not in SHELLS:
        raise InputError(f"no completion for the shell {shell!r}; choose one of {', '.join(SHELLS)}.")
    if find_spec("shtab") is None:
        raise InputError("completion needs the package shtab. Install it with pip install shtab.")
    import shtab

    root = argparse.ArgumentParser(prog="cicm")
    found = root.add_subparsers()
    for verb, text in verbs.items():
        module = import_module(f"cicm.cli.{verb}")
        made = getattr(module, "build_parser", None) or module.parser
        plain = found.add_parser(verb, help=text)
        for action in made()._actions:
            if action.dest != "help" and action.help != argparse.SUPPRESS:
                _copy(action, plain, shtab.FILE)
    return shtab.complete(root, shell)


def _copy(action: argparse.Action, parser: argparse.ArgumentParser, files: Mapping[str, Any]) -> None:
    """Add an option of jsonargparse as one of argparse, whose values are its choices or else file names."""
    kind: dict[str, Any] = {"help": action.help}
    if action.option_strings and action.nargs == 0:
        kind["action"] = "store_true"
    else:
        hint = getattr(action, "_typehint", None)
        kind |= {"nargs": action.nargs, "choices": get_args(hint) if get_origin(hint) is Literal else action.choices}
    copied = parser.add_argument(*(action.option_strings or [action.dest]), **kind)
    if action.nargs != 0 and not copied.choices:
        copied.complete = files  # type: ignore[attr-defined]
