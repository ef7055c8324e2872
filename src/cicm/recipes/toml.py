"""TOML out: nested tables of plain values. Python reads TOML by itself (`tomllib`) but does not write it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(plain: Mapping[str, Any]) -> str:
    """Nested dicts of strings, numbers, booleans and lists as TOML; reading it gives the same back.

    Example:
        >>> print(dumps({"name": "a", "model": {"options": {"width": 8}}}))
        name = "a"
        <BLANKLINE>
        [model.options]
        width = 8
        <BLANKLINE>
    """
    lines: list[str] = []
    _table(plain, (), lines)
    return "\n".join(lines).lstrip("\n") + "\n"


def _table(plain: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    values = {key: value for key, value in plain.items() if not isinstance(value, Mapping)}
    tables = {key: value for key, value in plain.items() if isinstance(value, Mapping)}
    if path and (values or not tables):
        lines += ["", f"[{'.'.join(map(_key, path))}]"]
    lines += [f"{_key(key)} = {toml_value(value)}" for key, value in values.items()]
    for key, value in tables.items():
        _table(value, (*path, key), lines)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _string(key)


def toml_value(value: Any) -> str:
    """One value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            return str(value)
        text = repr(value)
        return text if any(c in text for c in ".e") else text + ".0"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _string(value)
    assert isinstance(value, (list, tuple)), f"no TOML form for {value!r}"
    return "[" + ", ".join(map(toml_value, value)) + "]"


def _string(text: str) -> str:
    # JSON escapes as TOML does, but for DEL
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
