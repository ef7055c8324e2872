"""The folder of a run: what is in it, and whether it may be used."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from cicm.conventions import InputError
from cicm.files import PART, place, reason_of, write_atomic
from cicm.locks import alone
from cicm.plain import dump_json, flatten, read_json, read_toml
from cicm.training.config import FREE_KEYS
from cicm.training.records import environment

RECIPE = "recipe.toml"
ENVIRONMENT = "environment.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
GRIDS = "grids"
LOCK = ".lock"


def may_resume(folder: Path, recipe: str) -> bool:
    """Whether the folder holds this run's beginnings; False when it is new. Writes nothing.

    Raises:
        InputError: the folder holds something else, or another recipe's run.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise InputError(f"expected a folder for the run; {folder} is a file. Give another --output.")
    if not any(path.name != LOCK for path in folder.iterdir()):
        return False
    if not (folder / RECIPE).is_file():
        raise InputError(f"{folder} is not empty and holds no run (no {RECIPE}). Give a new folder with --output.")
    try:
        there = read_toml(folder / RECIPE, "recipe")
    except InputError as error:
        raise InputError(f"{error} Give a new folder with --output.") from error
    if changed := _differences(there, tomllib.loads(recipe)):
        key, old, new = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise InputError(
            f"{folder} holds a run with {key} = {old!r}; this one has {new!r}{more}. Give a new folder with --output; "
            f"to begin from that run's weights, --set training.init={folder / WEIGHTS}."
        )
    return True


def _differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """(key, old value, new value) of everything that decides a run's numbers and differs.

    Example:
        >>> _differences({"training": {"lr": 1, "log_every_steps": 1}}, {"training": {"lr": 2, "log_every_steps": 5}})
        [('training.lr', 1, 2)]
    """
    before, after = flatten(old), flatten(new)
    keys = [key for key in [*before, *(key for key in after if key not in before)] if key not in FREE_KEYS | {"about"}]
    return [(k, before.get(k), after.get(k)) for k in keys if before.get(k) != after.get(k)]


def held(folder: Path) -> AbstractContextManager[None]:
    """The folder, for this run alone.

    Raises:
        InputError: another process trains in it.
    """
    return alone(folder / LOCK, f"another training runs in {folder}", "Wait for it, or give another --output.")


def is_first_process() -> bool:
    """Whether this is the process that writes, of those that train together; known before they have met."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def prepare(folder: Path, recipe: str) -> list[str]:
    """Write down what runs, where, and remove what a killed run was writing; returns what a person should know."""
    (folder / GRIDS).mkdir(exist_ok=True)
    for left in folder.rglob(f".*{PART}*"):
        left.unlink(missing_ok=True)
    write_atomic(folder / RECIPE, recipe)
    path, starts, told = folder / ENVIRONMENT, [], []
    if path.exists():
        try:
            starts = read_json(path, "list of environments")
            if not isinstance(starts, list):
                raise InputError(f"expected a list of environments in {path}.")
        except InputError as error:
            aside, starts = path.with_name("environment.damaged.json"), []
            place(path, aside, overwrite=True)
            told.append(f"{reason_of(error)} It is kept as {aside.name}, and a new one begun.")
    write_atomic(path, dump_json([*starts, environment()]))
    return told
