"""A table of the paper as data: parts of rows with the numbers as printed, and the scales that rows are made at."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from cicm.conventions import BANDS, InputError
from cicm.plain import from_plain, read_toml
from cicm.recipes.recipe import merge

FOLDER = Path(__file__).parent / "files"
SCALES = "scales"  # the file with the scales that all tables share

PRINTED: dict[str, Literal["higher", "lower"]] = {
    "psnr": "higher",
    "ssim": "higher",
    "l1": "lower",
    "lpips": "lower",
    "fid": "lower",
}
"""The paper's metrics, in its order, and which way is better."""

OURS: dict[str, tuple[str, ...]] = {
    "psnr": ("psnr",),
    "ssim": ("ssim",),
    "l1": ("l1",),
    "lpips": ("lpips-vgg", "sqz-distance"),
    "fid": ("fid", "sqz-frechet"),
}
"""What stands beside a metric of the paper: the first of ours that was measured. Those named sqz are stand-ins."""


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Args:
        recipe: a name below the scale's `recipes`, or of a recipe, or the path of one.
        set: keys of the recipe that the row changes.
        baseline: label of the row that it is compared with; `PART: LABEL` for one of another part; empty for none.
        missing: why it can't be made here; such a row has no recipe.
        about, note: what it is for us, and doubts about the printed numbers.
        x: where it stands on the axis of a figure.
        paper: metric -> the printed number of each band, digit by digit.
    """

    label: str
    recipe: str = ""
    set: dict[str, Any] = field(default_factory=dict)
    baseline: str = ""
    missing: str = ""
    about: str = ""
    note: str = ""
    x: float | None = None
    paper: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def slug(self) -> str:
        """The label as the name of a file."""
        return slug(self.label)


@dataclass(frozen=True)
class Part:
    """A block of a table: its rows share a data set, and their numbers one protocol.

    Args:
        axis: for a figure, what `x` is.
    """

    title: str
    data: str
    row: tuple[Row, ...]
    axis: str = ""

    @property
    def slug(self) -> str:
        """The title as the name of a file."""
        return slug(self.title)


@dataclass(frozen=True)
class DataSet:
    """Photos to train on and photos to score on, and the holes of the latter.

    Args:
        layout: of a published data set (`cicm data list`); empty: `train`, `val` and `test` are folders in `root`.
        train, val, test: splits of the layout, or these folders.
        limit: at most so many photos are scored, evenly spread; 0 scores all.
        masks: folder of mask files; empty: holes are painted from seeds.
        pairs: list of photo, hole and band; empty: one is made once, and kept with the records.
        order, size, fit: of the list that is made, see `cicm evaluate`.
        set: keys that this data set changes in every recipe.
    """

    root: str
    about: str = ""
    layout: str = ""
    train: str = "train"
    val: str = "val"
    test: str = "test"
    limit: int = 0
    masks: str = ""
    pairs: str = ""
    order: Literal["shuffled", "index"] = "shuffled"
    size: int = 256
    fit: Literal["crop", "reduce"] = "crop"
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Base:
    """What a row's recipe stands for at a scale: a recipe with changes, or the reason why there is none.

    Args:
        stages: recipes that are trained before, one after the other, each beginning from the weights of the one before;
            `set` is for the last one, `recipe`, alone.
    """

    recipe: str = ""
    stages: tuple[str, ...] = ()
    set: dict[str, Any] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Scale:
    """The conditions that rows are made under."""

    seeds: tuple[int, ...]
    metrics: tuple[str, ...]
    data: dict[str, DataSet]
    about: str = ""
    recipes: dict[str, Base] = field(default_factory=dict)
    set: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """A table or figure.

    Args:
        title, caption, note: words above and below it.
        scale: name -> conditions; those of `scales.toml`, with the file's own on top.
        bands: that are shown; every record has all that its list has.
    """

    title: str
    caption: str
    part: tuple[Part, ...]
    scale: dict[str, Scale]
    name: str
    note: str = ""
    bands: tuple[str, ...] = tuple(BANDS)

    def find(self, label: str, part: Part) -> tuple[Part, Row]:
        """The row that a baseline names, as seen from a part."""
        for row in part.row:
            if row.label == label:
                return part, row
        for other in self.part:
            for row in other.row:
                if f"{other.title}: {row.label}" == label:
                    return other, row
        raise InputError(f"{self.name}: the baseline {label!r} is no row of {part.title!r}, nor PART: ROW of another.")

    def scale_named(self, name: str) -> Scale:
        """The scale of a name."""
        if name not in self.scale:
            raise InputError(f"{self.name} has no scale {name!r}; it has {', '.join(self.scale)}.")
        return self.scale[name]


def table_names() -> list[str]:
    """Names of the tables and figures that come with the package, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml") if path.stem != SCALES)


def load_table(name: str) -> Table:
    """Find and check a table.

    Args:
        name: `3` or `table3`, `figure3`, or the path of a .toml file.

    Raises:
        InputError: no such table, an unknown key, numbers that are not as many as bands, two rows of one name, or a
            baseline that is no row.

    Example:
        >>> load_table("3").part[0].row[1].paper["psnr"]
        ('29.214', '21.728', '18.811')
    """
    path = _find(name)
    plain = read_toml(path, "table")
    plain["scale"] = merge(read_toml(FOLDER / f"{SCALES}.toml", "table"), plain.get("scale", {}))
    plain.setdefault("name", path.stem)
    try:
        table = from_plain(Table, plain)
    except InputError as error:
        raise InputError(f"table {name}: {error}") from error
    _check(table)
    return table


def slug(text: str) -> str:
    """A label as part of a file's name.

    Example:
        >>> slug("intra & inter"), slug("w/o ratio"), slug("L = 13")
        ('intra-inter', 'w-o-ratio', 'l-13')
    """
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))


def _check(table: Table) -> None:
    if slug(table.name) != table.name:
        raise InputError(f"a table's name must be of small letters, digits and dashes; got {table.name!r}.")
    if unknown := [band for band in table.bands if band not in BANDS]:
        raise InputError(f"{table.name}: the bands are {', '.join(BANDS)}; got {', '.join(unknown)}.")
    if not table.part or not all(part.row for part in table.part):
        raise InputError(f"{table.name}: a table needs a part, and each part a row.")
    _distinct(table.name, [(part.title, part.slug) for part in table.part])
    for part in table.part:
        _distinct(f"{table.name}, {part.title}", [(row.label, row.slug) for row in part.row])
        for row in part.row:
            where = f"{table.name}, row {row.label!r}"
            if bool(row.recipe) == bool(row.missing):
                raise InputError(f"{where}: a row has either a recipe, or `missing` with the reason why there is none.")
            if row.baseline:
                table.find(row.baseline, part)
            for metric, numbers in row.paper.items():
                if metric not in PRINTED:
                    raise InputError(f"{where}: the paper's metrics are {', '.join(PRINTED)}; got {metric!r}.")
                if len(numbers) != len(table.bands):
                    raise InputError(
                        f"{where}: {metric} must have a number for each of {', '.join(table.bands)}; "
                        f"got {len(numbers)}."
                    )
                if wrong := [text for text in numbers if not re.fullmatch(r"\d+(\.\d+)?", text)]:
                    raise InputError(f"{where}: {metric} must hold printed numbers; got {wrong[0]!r}.")


def _distinct(where: str, names: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for text, short in names:
        if not short or short in seen:
            raise InputError(f"{where}: {text!r} needs a name of its own; got {short!r} twice or nothing.")
        seen[short] = text


def _find(name: str) -> Path:
    path = Path(name)
    if path.suffix == ".toml":
        if path.is_file():
            return path
        raise InputError(f"no table file at {name}. `cicm table list` lists those that come with the package.")
    for known in (name, f"table{name}", f"figure{name}"):
        if known in table_names():
            return FOLDER / f"{known}.toml"
    close = difflib.get_close_matches(name, table_names(), n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(table_names())}, or a path to a .toml."
    raise InputError(f"unknown table {name!r}; {hint}")
