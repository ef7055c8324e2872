"""A named run as data: found by name or path, resolved through `extends`, changed key by key, loaded strictly."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cicm.conventions import InputError
from cicm.plain import dump_toml, from_plain, read_toml, to_plain
from cicm.training.config import RunConfig

FOLDER = Path(__file__).parent / "files"
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,199}")
_BASE = re.compile(r"[^./\\\0][^/\\\0]{0,199}")


@dataclass(frozen=True, kw_only=True)
class Recipe(RunConfig):
    """A run with its name.

    Args:
        name: `<network>[-cicm]-<dataset>[-<change>]`; names the run's folder.
    """

    name: str
    about: str = ""

    def to_toml(self) -> str:
        """The recipe with everything it inherits and every default, as a recipe file that extends nothing."""
        plain = to_plain(self)
        head = {key: plain.pop(key) for key in ("name", "about")}
        return dump_toml(head | plain)


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def about(name: str) -> str:
    """The line about a recipe that comes with the package."""
    return str(_read(_find(name)).get("about", ""))


def load_recipe(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """Find, resolve and check a recipe.

    Args:
        name: one of `recipe_names()`, or the path of a .toml file.
        changes: dotted key -> value, applied in order; a table is merged key by key, an empty one replaces.

    Raises:
        InputError: no such recipe, a chain of `extends` longer than one, an unknown key, a value of another type.

    Example:
        >>> load_recipe("unet-cicm-toy", {"training.steps": 7}).training.steps
        7
    """
    path = _find(name)
    plain = _read(path)
    try:
        if base := plain.pop("extends", None):
            if not isinstance(base, str) or not _BASE.fullmatch(base):
                raise InputError(
                    f"extends must be the name of one recipe, beside this one or of the package; got {base!r:.200}. "
                    "A path is no name: copy that recipe beside this one."
                )
            below = _read(_find(base, beside=path))
            if "extends" in below:
                raise InputError(
                    f"it extends {base!r}, which itself extends {below['extends']!r}. A recipe extends at most one "
                    "other, so that two files tell everything; extend the lower one."
                )
            below = {key: value for key, value in below.items() if key not in ("name", "about")}
            plain = merge(below, plain)
        plain.setdefault("name", path.stem)
        for key, value in (changes or {}).items():
            for part in reversed(key.split(".")):
                value = {part: value}
            plain = merge(plain, value)
        recipe = from_plain(Recipe, plain)
    except InputError as error:
        raise InputError(f"recipe {name}: {error}") from error
    if not _NAME.fullmatch(recipe.name):
        raise InputError(
            f"a recipe's name must be of small letters, digits, dots and dashes; got {recipe.name!r:.300}."
        )
    return recipe


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Tables are merged key by key, everything else is replaced; an empty table replaces too.

    Example:
        >>> merge({"a": {"b": 1, "c": 2}, "m": {"x": 1}}, {"a": {"c": 3}, "m": {}})
        {'a': {'b': 1, 'c': 3}, 'm': {}}
    """
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both and value else value
    return merged


def _find(name: str, beside: Path | None = None) -> Path:
    if beside is not None and (near := beside.with_name(f"{name}.toml")).is_file():
        return near
    if (own := FOLDER / f"{name}.toml").is_file() and _NAME.fullmatch(name):
        return own
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return path
    if path.suffix == ".toml":
        raise InputError(f"no recipe file at {name}. `cicm recipes` lists those that come with the package.")
    close = difflib.get_close_matches(name, recipe_names(), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(recipe_names())}, or a path to a .toml."
    raise InputError(f"unknown recipe {name!r}; {hint}")


def _read(path: Path) -> dict[str, Any]:
    return read_toml(path, "recipe")
