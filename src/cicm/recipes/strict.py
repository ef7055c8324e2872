"""Plain data to frozen dataclasses, strictly: unknown keys and wrong types are refused, the nearest key is named."""

from __future__ import annotations

import difflib
import types
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from cicm.conventions import InputError

T = TypeVar("T")


def from_plain(kind: type[T], plain: Any, where: str = "") -> T:
    """Build a dataclass from nested dicts.

    Args:
        kind: a dataclass; its fields may be dataclasses, dicts of them, tuples, literals, optionals and plain values.
        plain: what a TOML file gives.
        where: dotted place of `plain` in the file, for the messages.

    Raises:
        InputError: an unknown key (the nearest known one is named), a missing one, a value of another type.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Sizes:
        ...     width: int = 64
        >>> from_plain(Sizes, {"widht": 3})
        Traceback (most recent call last):
        cicm.conventions.InputError: unknown key 'widht'; did you mean 'width'?
    """
    if not isinstance(plain, Mapping):
        raise InputError(f"{where or 'a recipe'} must be a table; got {plain!r}.")
    hints = get_type_hints(kind)
    known = {f.name: f for f in fields(kind) if f.init}  # type: ignore[arg-type]
    for key in plain:
        if key not in known:
            raise InputError(unknown_key(_join(where, key), [_join(where, name) for name in known]))
    values = {}
    for name, field in known.items():
        if name in plain:
            values[name] = _convert(hints[name], plain[name], _join(where, name))
        elif field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{_join(where, name)} is missing; a recipe must name it.")
    return kind(**values)


def unknown_key(key: str, known: list[str]) -> str:
    """The message for an unknown key: the nearest known one, or all of them."""
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}?" if close else f"known here are {', '.join(sorted(known))}."
    return f"unknown key {key!r}; {hint}"


def to_plain(config: Any) -> dict[str, Any]:
    """The inverse of `from_plain`, in the order of the fields, without those that are None."""
    return _without_none(asdict(config))  # type: ignore[no-any-return]


def flatten(plain: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Nested tables as one table with dotted keys.

    Example:
        >>> flatten({"a": {"b": 1}, "c": 2})
        {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in plain.items():
        flat |= flatten(value, _join(where, key)) if isinstance(value, Mapping) else {_join(where, key): value}
    return flat


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _without_none(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, (list, tuple)) else value


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        options = [option for option in args if option is not type(None)]
        errors = []
        for option in options:
            try:
                return _convert(option, value, where)
            except InputError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else _wrong(where, " or ".join(map(_name, options)), value)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(a, bool) for a in args):
            raise _wrong(where, "one of " + ", ".join(map(repr, args)), value)
        return value
    if is_dataclass(kind):
        return value if isinstance(value, kind) else from_plain(kind, value, where)  # type: ignore[arg-type]
    if origin in (dict, Mapping) or kind is dict or getattr(origin, "__name__", "") == "Mapping":
        if not isinstance(value, Mapping):
            raise _wrong(where, "a table", value)
        item = args[1] if args else Any
        return {key: _convert(item, element, _join(where, key)) for key, element in value.items()}
    if origin in (tuple, list) or kind in (tuple, list):
        return _sequence(origin or kind, args, value, where)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    # bool is an int to Python, but `steps = true` is a mistake
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _wrong(where, _name(kind), value)
    return value


def _sequence(kind: Any, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, "a list", value)
    if kind is list or not args or args[-1] is Ellipsis:
        inner = args[0] if args else Any
        return kind(_convert(inner, item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise _wrong(where, f"a list of {len(args)}", value)
    return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(args, value, strict=True)))


_NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false"}


def _name(kind: Any) -> str:
    return _NAMES.get(kind, getattr(kind, "__name__", str(kind)))


def _wrong(where: str, expected: str, value: Any) -> InputError:
    return InputError(f"{where} must be {expected}; got {value!r}.")
