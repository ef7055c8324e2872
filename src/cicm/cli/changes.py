"""Changes of a recipe as they are typed: `--set key.to.it=value`. Only the command line turns text into values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from cicm.conventions import InputError


def parse_changes(words: Iterable[str]) -> dict[str, Any]:
    """Dotted key -> value, in order; a key given twice has the last value, at the last place.

    Example:
        >>> parse_changes(["training.lr=1e-3", "data.train=photos/mine"])
        {'training.lr': 0.001, 'data.train': 'photos/mine'}
    """
    changes: dict[str, Any] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set takes key.to.it=value; got {word!r}.")
        name = ".".join(part.strip() for part in key.split("."))
        changes.pop(name, None)
        changes[name] = parse_value(value)
    return changes


def parse_value(text: str) -> Any:
    """A value in TOML; what is no TOML is taken as a string.

    Example:
        >>> parse_value("[1, 2]"), parse_value("true"), parse_value(" photos/mine")
        ([1, 2], True, 'photos/mine')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text.strip()
