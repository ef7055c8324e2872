"""Plain data: frozen dataclasses to and from dicts, TOML and JSON, strictly.

Recipes, tables, records and the headers of weights are read here, so that all refuse the same mistakes: an unknown key
(the nearest known one is named), a missing one, a value of another type. `msgspec` does the mapping, `tomli_w` writes
TOML, Python's own `tomllib` and `json` read.

Rules and where they come from:
    - `steps = true` is refused: to Python a bool is an int, but not to whoever wrote the file (msgspec's strict mode).
    - `lr = 1` is a number: TOML has integers and floats, people do not tell them apart (msgspec).
    - `"1"` stays a string: a value that was converted in silence hides a mistake (msgspec's strict mode).
    - Unknown keys are refused: msgspec passes over them for dataclasses, so that check is ours.
    - NaN, Infinity and 1e999 are refused in JSON: the standard (RFC 8259, section 6) has no such numbers.
    - Nesting without end and integers of more than 64 bits are refused in one line: Python raises RecursionError and
      ValueError for some of them, others fail much later, and a file from a stranger must not end in a traceback.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import tomllib
import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from cicm.conventions import InputError
from cicm.files import read_bounded, reason_of

T = TypeVar("T")
_DEEPEST = 64  # tables and lists in each other; files of ours have at most six


# Dataclasses ----------------------------------------------------------------------------------------------------------


def from_plain(kind: type[T], plain: Any, where: str = "") -> T:
    """Build a dataclass from nested dicts.

    Args:
        kind: a dataclass; its fields may be dataclasses, dicts and tuples of them, literals and plain values, or None.
        plain: what a TOML or JSON file gives; a finished dataclass may stand in place of its dict.
        where: dotted place of `plain` in the file, for the messages.

    Raises:
        InputError: an unknown key (the nearest known one is named), a missing one, a value of another type, or what
            the dataclass itself refuses.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     width: int = 64
        >>> from_plain(Sizes, {"width": "wide"})
        Traceback (most recent call last):
        cicm.conventions.InputError: width must be an integer; got 'wide'.
        >>> from_plain(Sizes, {"widht": 3})
        Traceback (most recent call last):
        cicm.conventions.InputError: unknown key 'widht'; did you mean 'width'?
    """
    try:
        _shallow(plain)
    except RecursionError as error:
        raise InputError(f"{where or 'the data'}: {_why(error)}") from None
    leaves = list(_leaves(kind, plain, where))
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, InputError):  # the dataclass itself refused
            raise error.__cause__ from None
        for leaf, value, place in leaves:
            try:
                msgspec.convert(value, leaf)
            except msgspec.ValidationError:
                raise _wrong(place, _words(leaf), value) from None
        raise InputError(f"{where or 'the data'}: {reason_of(error)}") from None


def to_plain(config: Any) -> dict[str, Any]:
    """The inverse of `from_plain`, in the order of the fields, without those that are None; tuples become lists."""
    return _without_none(asdict(config))  # type: ignore[no-any-return]  # msgspec's own leaves out what `convert` defaulted


def flatten(plain: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted keys; an empty table stays as a value.

    Example:
        >>> flatten({"a": {"b": 1, "m": {}}, "c": 2})
        {'a.b': 1, 'a.m': {}, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        place = _join(where, key)
        flat |= flatten(value, place) if isinstance(value, Mapping) and value else {place: value}
    return flat


def _unknown_key(key: str, known: list[str]) -> str:
    """The message for an unknown key: the nearest known one, or all of them."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known here are {', '.join(sorted(known))}."
    return f"unknown key {key!r}; {hint}"


def _leaves(kind: Any, plain: Any, where: str) -> Iterator[tuple[Any, Any, str]]:
    """(kind, value, dotted place) of all that is below dataclasses, dicts and tuples; checks keys and lengths."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        inner = [option for option in args if option is not type(None)]
        if plain is not None and len(inner) == 1:
            yield from _leaves(inner[0], plain, where)
        else:
            yield kind, plain, where
    elif isinstance(kind, type) and is_dataclass(kind):
        if isinstance(plain, kind):
            return
        hints, known = get_type_hints(kind), [field for field in fields(kind) if field.init]
        for key in _table(plain, where):
            if key not in (names := [field.name for field in known]):
                raise InputError(_unknown_key(_join(where, key), [_join(where, name) for name in names]))
        for field in known:
            place = _join(where, field.name)
            if field.name in plain:
                yield from _leaves(hints[field.name], plain[field.name], place)
            elif field.default is MISSING and field.default_factory is MISSING:
                raise InputError(f"{place} is missing. Add it.")
    elif kind is dict or origin is dict or getattr(origin, "__name__", "") == "Mapping":
        for key, value in _table(plain, where).items():
            yield from _leaves(args[1] if args else Any, value, _join(where, key))
    elif origin in (tuple, list):
        exact = origin is tuple and args[-1] is not ...
        if not isinstance(plain, (list, tuple)) or (exact and len(plain) != len(args)):
            raise _wrong(where, _words(kind), plain)
        for index, value in enumerate(plain):
            yield from _leaves(args[index] if exact else args[0], value, f"{where}[{index}]")
    else:
        if isinstance(plain, int) and not -(2**63) <= plain < 2**63:  # TOML has 64 bits, and so has torch
            raise InputError(f"{where} must be a whole number of at most 64 bits; got one of {plain.bit_length()}.")
        yield kind, plain, where


def _table(plain: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(plain, Mapping):
        raise _wrong(where or "the whole", "a table", plain)
    return plain


_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "nothing"}


def _words(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in args if option is not type(None))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin in (tuple, list):
        return f"a list of {len(args)}" if origin is tuple and args[-1] is not ... else "a list"
    return _NAMES.get(kind) or str(getattr(kind, "__name__", kind))


def _wrong(where: str, expected: str, value: Any) -> InputError:
    text = repr(value)
    return InputError(f"{where} must be {expected}; got {text if len(text) <= 200 else text[:200] + '...'}.")


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value


# Files ----------------------------------------------------------------------------------------------------------------


def dump_toml(plain: Mapping[str, Any]) -> str:
    """Nested dicts of strings, numbers, booleans and lists as TOML; reading it gives the same back.

    Example:
        >>> print(dump_toml({"name": "a", "model": {"options": {"width": 8}}}))
        name = "a"
        <BLANKLINE>
        [model.options]
        width = 8
        <BLANKLINE>
    """
    return tomli_w.dumps(plain)


def read_toml(path: str | os.PathLike, what: str, most_bytes: int = 1 << 20) -> dict[str, Any]:
    """A TOML file.

    Raises:
        InputError: missing, empty, too large, or no TOML in UTF-8.
    """
    data = read_bounded(path, most_bytes, what)
    try:
        return _shallow(tomllib.loads(data.decode()))
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} cannot be read as a {what}: {_why(error)} A {what} is a TOML file in UTF-8."
        ) from error


def dump_json(plain: Any) -> str:
    """Plain data as JSON, one item a line, with a newline at the end.

    Raises:
        ValueError: a number that is not finite, which JSON does not have.

    Example:
        >>> dump_json({"a": [1]})
        '{\\n "a": [\\n  1\\n ]\\n}\\n'
    """
    return json.dumps(plain, indent=1, allow_nan=False) + "\n"


def read_json(path: str | os.PathLike, what: str, most_bytes: int = 1 << 24) -> Any:
    """A JSON file.

    Raises:
        InputError: missing, empty, too large, no JSON, a number that is not finite or has thousands of digits, or
            nesting without end.
    """
    data = read_bounded(path, most_bytes, what)
    try:
        return _shallow(json.loads(data, parse_constant=_finite, parse_float=_finite))
    except (ValueError, RecursionError) as error:
        raise InputError(f"the {what} {os.fspath(path)} can't be read as JSON: {_why(error)}") from error


def _shallow(plain: T) -> T:
    """Refuse tables and lists in each other deeper than any file of ours, which later steps would walk by recursion."""
    waiting: list[tuple[Any, int]] = [(plain, 0)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise RecursionError
        if isinstance(value, (dict, list)):
            waiting += [(one, depth + 1) for one in (value.values() if isinstance(value, dict) else value)]
    return plain


def _why(error: BaseException) -> str:
    """The reason in words for people: Python's own speak of its settings and of its stack."""
    if isinstance(error, RecursionError):
        return f"its tables or lists are nested deeper than {_DEEPEST}."
    if "integer string conversion" in str(error):
        return "it holds a whole number of thousands of digits."
    return reason_of(error)


def _finite(text: str) -> float:
    if not math.isfinite(number := float(text)):
        raise ValueError(f"expected finite numbers only; got {text}")
    return number
