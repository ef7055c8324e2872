"""A table made at one scale: which runs it takes, where their records lie, which of them are there."""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cicm.conventions import InputError
from cicm.files import digest_of
from cicm.plain import flatten, to_plain
from cicm.recipes import Recipe, load_recipe
from cicm.recipes.recipe import merge
from cicm.tables.plan import Base, DataSet, Part, Row, Table, slug
from cicm.training.config import FREE_KEYS

_RESULTS = Path("results", "tables")
_RUNS = Path("runs", "tables")


@dataclass(frozen=True)
class Job:
    """One row with one seed, resolved.

    Args:
        stages: what is trained before `recipe`, each from the weights of the one before.
    """

    part: Part
    row: Row
    seed: int
    data: str
    recipe: Recipe
    stages: tuple[Recipe, ...] = ()

    @property
    def key(self) -> str:
        """The same for rows that train the same, but for the seed: such a run is made once."""
        return key_of(self.recipe)

    @property
    def steps(self) -> int:
        """Steps of the whole run, with those of its stages."""
        runs = [one.training for one in (*self.stages, self.recipe)]
        return sum(min(training.steps, training.stop_at or training.steps) for training in runs)


@dataclass(frozen=True)
class Missing:
    """A row that can't be made, and why."""

    part: Part
    row: Row
    reason: str


class _Entry(NamedTuple):
    """A record, and the name of the data set that it is of."""

    record: Path
    data: str


class Series:
    """A table at a scale, under a name of its own.

    Records lie in `results/tables/NAME/TABLE/PART/ROW-SEED.json`, each with the scores of its images and the resolved
    recipe beside it; runs in `runs/tables/NAME`. Rows that train the same, in one table or in several, share a run and
    a record, which lies where the first of them stands.

    Args:
        name: of the series; that of the scale if empty.
        data: data sets in place of the scale's.
        only: names of the data sets whose parts are made; None for all.

    Raises:
        InputError: an unknown scale, or a name that is none for a folder.
    """

    def __init__(
        self,
        table: Table,
        scale: str,
        name: str = "",
        *,
        data: Mapping[str, DataSet] | None = None,
        only: Iterable[str] | None = None,
        results: Path = _RESULTS,
        runs: Path = _RUNS,
    ) -> None:
        self.table, self.scale_name, self.scale = table, scale, table.scale_named(scale)
        self.name = name or scale
        if slug(self.name) != self.name:
            raise InputError(f"a series' name must be of small letters, digits and dashes; got {self.name!r}.")
        self.data = {**self.scale.data, **(data or {})}
        self.only = None if only is None else frozenset(only)
        self.results, self.runs = results / self.name, runs / self.name
        self._index: dict[tuple[str, int], _Entry] | None = None
        self.unreadable: dict[Path, str] = {}

    # What it takes ----------------------------------------------------------------------------------------------------

    def jobs(
        self, rows: Sequence[str] | None = None, seeds: Sequence[int] | None = None
    ) -> tuple[list[Job], list[Missing]]:
        """The runs of the table, all rows with the first seed first, and the rows that can't be made.

        Args:
            rows: labels, or labels as they stand in file names, also as `PART: LABEL`; None for all.
            seeds: None for the scale's.

        Raises:
            InputError: an unknown label, or a row whose recipe or changes are refused; the row is named.
        """
        wanted = self._wanted(rows)
        found: list[Job] = []
        missing: list[Missing] = []
        for part, row in wanted:
            reason = self._reason(part, row)
            if reason:
                missing.append(Missing(part, row, reason))
            else:
                asked = self.scale.seeds if seeds is None else seeds
                found += [self._resolve(part, row, seed) for seed in dict.fromkeys(asked)]
        order = {seed: place for place, seed in enumerate(dict.fromkeys(job.seed for job in found))}
        return sorted(found, key=lambda job: order[job.seed]), missing

    def _wanted(self, rows: Sequence[str] | None) -> list[tuple[Part, Row]]:
        everything = [(part, row) for part in self.table.part for row in part.row]
        if rows is None:
            return everything
        kept: list[tuple[Part, Row]] = []
        for text in rows:
            fits = [
                (part, row) for part, row in everything if text in (row.label, row.slug, f"{part.title}: {row.label}")
            ]
            if not fits:
                labels = list(dict.fromkeys(row.label for _, row in everything))
                close = difflib.get_close_matches(text, labels, n=1)
                hint = f"did you mean {close[0]!r}?" if close else f"its rows are {', '.join(labels)}."
                raise InputError(f"{self.table.name} has no row {text!r}; {hint}")
            kept += [pair for pair in fits if pair not in kept]
        return [pair for pair in everything if pair in kept]

    def _reason(self, part: Part, row: Row) -> str:
        """Why a row can't be made at this scale; empty if it can."""
        if row.missing:
            return row.missing
        if base := self._base(row).missing:
            return base
        if part.data not in self.data:
            return f"the scale {self.scale_name} has no data set {part.data}"
        if self.only is not None and part.data not in self.only:
            return f"no photos were given in place of {part.data}"
        return ""

    def _base(self, row: Row) -> Base:
        return self.scale.recipes.get(row.recipe, Base(recipe=row.recipe))

    def _resolve(self, part: Part, row: Row, seed: int) -> Job:
        base, data = self._base(row), self.data[part.data]
        folders = {
            name: data.root if data.layout else str(Path(data.root, getattr(data, name))) for name in ("train", "val")
        }
        photos: dict[str, Any] = {"data.layout": data.layout}
        photos |= {"data.train": folders["train"], "data.val": folders["val"]}
        if data.layout:
            photos |= {"data.train_split": data.train, "data.val_split": data.val}
        photos |= {**data.set, "training.seed": seed}
        if base.stages:  # where each begins is known when it is trained
            photos["training.init"] = ""
        changes = {**self.scale.set, **base.set, **photos}
        for key, value in row.set.items():  # the row last, also in order, so that its changes hold
            changes |= merge({key: changes.pop(key, None)}, {key: value})
        try:
            found = [load_recipe(name, {**self.scale.set, **photos}) for name in base.stages]
            found.append(load_recipe(base.recipe, changes))
            recipes = [dataclasses.replace(recipe, name=f"{recipe.name}.{slug(part.data)}") for recipe in found]
        except InputError as error:
            raise InputError(f"{self.table.name}, row {row.label!r}: {error}") from error
        return Job(part, row, recipes[-1].training.seed, part.data, recipes[-1], tuple(recipes[:-1]))

    # Where things are -------------------------------------------------------------------------------------------------

    def run_folder(self, job: Job) -> Path:
        """Where a job trains; rows that train the same share it."""
        return self.folder_of(job.recipe)

    def folder_of(self, recipe: Recipe) -> Path:
        """Where a recipe trains: a job's own, or that of a stage, which rows share too."""
        return self.runs / f"{recipe.name}-{key_of(recipe)}-{recipe.training.seed}"

    def target(self, job: Job) -> Path:
        """Where a job's record is written."""
        return self.results / self.table.name / job.part.slug / f"{job.row.slug}-{job.seed}.json"

    def pairs(self, data: str) -> Path:
        """Where the list of a data set is kept, if it was made here."""
        return self.results / f"{slug(data)}.pairs.csv"

    def failure(self, job: Job) -> Path:
        """Where the reason stands why a job failed last."""
        return self.target(job).with_suffix(".failed.txt")

    # What is there ----------------------------------------------------------------------------------------------------

    @property
    def index(self) -> dict[tuple[str, int], _Entry]:
        """(key, seed) -> record, over all tables of the series; read once, kept up by `add`."""
        if self._index is None:
            self._index = {}
            for recipe in sorted(self.results.glob("*/*/*.toml")):
                record = recipe.with_suffix(".json")
                if record.is_file():
                    try:
                        there = load_recipe(str(recipe))  # fills in keys that are younger than the file
                    except InputError as error:
                        self.unreadable[record] = str(error)
                        continue
                    found = _Entry(record, there.name.rpartition(".")[2])
                    self._index.setdefault((key_of(there), there.training.seed), found)
        return self._index

    def add(self, job: Job, record: Path) -> None:
        """A record has been written."""
        self.index[job.key, job.seed] = _Entry(record, slug(job.data))

    def record(self, job: Job) -> Path | None:
        """The record of a job, which another row may have made; None if there is none."""
        found = self.index.get((job.key, job.seed))
        return found.record if found else None

    def records(self, job: Job) -> dict[int, Path]:
        """seed -> record, over all seeds that were ever run."""
        return {seed: found.record for (key, seed), found in sorted(self.index.items()) if key == job.key}

    def stale(self, job: Job) -> str | None:
        """In words, what lies where this job's record would be and is of another recipe; None if nothing does."""
        target = self.target(job)
        if not target.exists() or self.record(job) == target:
            return None
        try:
            there = load_recipe(str(target.with_suffix(".toml")))
        except InputError as error:
            return f"its recipe can't be read ({error})"
        return f"it was made with {' and '.join(_differences(there, job.recipe)[:3])}"


def with_root(data: DataSet, root: str, masks: str | None = None) -> DataSet:
    """A data set whose photos lie elsewhere, or are others altogether, in the same layout.

    Its list of pairs stays if all that it names is there; otherwise one is made. Masks stay if their folder is there;
    otherwise holes are painted.
    """
    data = dataclasses.replace(data, root=root)
    if masks is not None or not Path(data.masks).is_dir():
        data = dataclasses.replace(data, masks=masks or "")
    if data.pairs and not _fits(data):
        data = dataclasses.replace(data, pairs="")
    return data


def scored_folder(data: DataSet) -> Path:
    """The folder that the paths of a data set's list are relative to."""
    return Path(data.root) if data.layout else Path(data.root, data.test)


def key_of(recipe: Recipe) -> str:
    """Ten hex digits over everything that decides a run's numbers, the name of its data set included, but not the seed.

    Example:
        >>> a, b = (load_recipe("unet-cicm-toy", {key: 3}) for key in ("training.seed", "data.workers"))
        >>> key_of(a) == key_of(b) != key_of(load_recipe("unet-cicm-toy", {"training.lr": 1.0}))
        True
    """
    return digest_of(json.dumps(_deciding(recipe), sort_keys=True).encode())[:10]


def _deciding(config: Any, where: str = "") -> dict[str, Any]:
    """What decides a run's numbers and is not the default, so that a key that is new changes nothing."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(config):
        key, value = f"{where}{field.name}", getattr(config, field.name)
        given = field.default if field.default is not dataclasses.MISSING else None
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else given
        if key in FREE_KEYS | {"about", "training.seed"}:
            continue
        if dataclasses.is_dataclass(value):
            found |= {key: True} if default is None else {}  # a section that is there, even an empty one
            found |= _deciding(value, f"{key}.")
        elif isinstance(value, Mapping) and any(map(dataclasses.is_dataclass, value.values())):
            for name, item in value.items():
                found |= {f"{key}.{name}": True, **_deciding(item, f"{key}.{name}.")}
        elif value != default:
            found[key] = value
    return found


def _differences(there: Recipe, here: Recipe) -> list[str]:
    old, new = flatten(to_plain(there)), flatten(to_plain(here))
    free = FREE_KEYS | {"about", "training.seed"}
    keys = [key for key in {**old, **new} if key not in free and old.get(key) != new.get(key)]
    return [f"{key} = {old.get(key, 'nothing')}, now {new.get(key, 'nothing')}" for key in keys] or ["another seed"]


def _fits(data: DataSet) -> bool:
    from cicm.data.pair_lists import GENERATED, read_pairs

    if not Path(data.pairs).is_file():
        return False
    folder = scored_folder(data)
    return all(
        (folder / pair.image).is_file()
        and (pair.mask.startswith(GENERATED) or bool(data.masks and Path(data.masks, pair.mask).is_file()))
        for pair in read_pairs(data.pairs)
    )
