"""A record is one measured number with all that is needed to believe it; a file of records is strict JSON."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from cicm.conventions import InputError
from cicm.evaluation.protocol import Protocol, remedy

FORMAT = "cicm-evaluation-1"
MAX_JSON_BYTES = 16 * 2**20
MAX_CSV_BYTES = 256 * 2**20  # 10,000 photos x 3 bands x 10 methods need about 40 MB
KEYS = ("method", "group", "band", "image", "mask", "missing")


@dataclass(frozen=True)
class Record:
    """One number.

    Args:
        protocol: how it was measured.
        method: short name, the row of a table.
        detail: the method in words: its settings, or the weights' name and hash.
        band: share of the image that was missing, as `20-40`.
        group: size group, as `256x256`.
        metric: name of the metric.
        value: mean over images, or the score of the whole set; None when it could not be measured.
        reason: why there is no value; None when there is one.
        note: what a reader of the value has to know, as that a set of images was small.
        std: standard deviation over images (n - 1 in the denominator); None for scores of a set and for one image.
        interval: bootstrap interval of the mean; None likewise.
        n: images behind the value.
        seed: the training seed of a model, where its weights tell it.
        commit: of this code; None outside git.
        seconds: time of filling, per image, without reading and scoring.
        hardware: where that time was measured.
    """

    protocol: Protocol
    method: str
    detail: str
    band: str
    group: str
    metric: str
    value: float | None
    reason: str | None
    note: str | None
    std: float | None
    interval: tuple[float, float] | None
    n: int
    seed: int | None
    commit: str | None
    seconds: float
    hardware: str

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise InputError(
                f"a record has either a value or a reason why not; got value {self.value} and reason {self.reason!r}."
            )


@dataclass(frozen=True)
class ImageScores:
    """Scores of one filled photo.

    Args:
        method, group, band: the row of the table it counts for.
        image, mask: relative paths, as in the list of pairs.
        missing: share of its pixels that was missing.
        scores: metric -> value.
    """

    method: str
    group: str
    band: str
    image: str
    mask: str
    missing: float
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """The records of one or several methods under one protocol, with the scores of each image.

    Raises:
        InputError: records of different protocols, or two records for the same cell of the table.
    """

    records: tuple[Record, ...]
    images: tuple[ImageScores, ...] = ()

    def __post_init__(self) -> None:
        if not self.records:
            raise InputError("an evaluation needs at least one record; got none.")
        first = self.records[0]
        cells = set()
        for record in self.records:
            if differences := first.protocol.differences(record.protocol):
                raise InputError(
                    f"records of {first.method!r} and {record.method!r} were measured differently and can't share a "
                    f"table: {'; '.join(differences)}. {remedy(first.protocol, record.protocol)}"
                )
            cell = (record.method, record.group, record.band, record.metric)
            if cell in cells:
                raise InputError(
                    f"two records for {' '.join(cell)}; a table has room for one. "
                    "Name the methods apart: LABEL=METHOD on the command line."
                )
            cells.add(cell)

    @property
    def protocol(self) -> Protocol:
        return self.records[0].protocol

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order in which they came."""
        return list(dict.fromkeys(record.method for record in self.records))

    def save(self, path: str | Path, *, overwrite: bool = False) -> list[Path]:
        """Write PATH and, with the ending `.images.csv`, the scores of each image; each appears whole or not at all.

        Returns:
            The files written.

        Raises:
            InputError: a file is there already and `overwrite` is off, the folder is missing, or the ending is
                not `.json`.
        """
        path = Path(path)
        check_output(path, ".json", overwrite=overwrite)
        table = images_path(path)
        content: dict[str, Any] = {"format": FORMAT, "protocol": dataclasses.asdict(self.protocol), "images": None}
        written = [path]
        if self.images:
            check_output(table, ".csv", overwrite=overwrite)
            text = images_to_csv(self.images)
            content["images"] = {"file": table.name, "sha256": hashlib.sha256(text.encode()).hexdigest()}
            write_atomic(table, text.encode())
            written.append(table)
        content["records"] = [
            {key: value for key, value in dataclasses.asdict(record).items() if key != "protocol"}
            for record in self.records
        ]
        write_atomic(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())
        return written

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read what `save` wrote, and nothing else.

        Raises:
            InputError: missing, too large, not JSON, an unknown or missing key, a value of another type, or a table of
                images that is not the one that was written with it.
        """
        path = Path(path)
        try:
            content = json.loads(read_bounded(path, MAX_JSON_BYTES), parse_constant=_no_constant)
        except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InputError(
                f"{path} must be a JSON file written by cicm evaluate -o; it can't be read: {error}."
            ) from None
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} must be a JSON file written by cicm evaluate -o, with format {FORMAT!r}.")
        _same_keys(content, {"format", "protocol", "images", "records"}, f"{path}")
        if not isinstance(content["records"], list):
            raise InputError(f"{path}: records must be a list; got {type(content['records']).__name__}.")
        if isinstance(content["protocol"], dict):  # files from before protocols had names
            content["protocol"] = {"name": "cicm", "source": "", **content["protocol"]}
        protocol = _strict(Protocol, content["protocol"], f"{path}: protocol")
        records = tuple(
            _strict(Record, row, f"{path}: record {number}", protocol=protocol)
            for number, row in enumerate(content["records"])
        )
        if content["images"] is None:
            return cls(records)
        _same_keys(content["images"], {"file", "sha256"}, f"{path}: images")
        name = content["images"]["file"]
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".csv"):
            raise InputError(f"{path}: the table of images must be a .csv beside it; got {name!r}.")
        table = path.with_name(name)
        data = read_bounded(table, MAX_CSV_BYTES)
        if hashlib.sha256(data).hexdigest() != content["images"]["sha256"]:
            raise InputError(f"{table} is not the table that was written with {path.name}; score again with -o.")
        return cls(records, images_from_csv(data.decode(), table))

    @classmethod
    def join(cls, evaluations: Iterable[Evaluation]) -> Evaluation:
        """One evaluation out of several, in their order.

        Raises:
            InputError: different protocols, or the same method twice.
        """
        parts = list(evaluations)
        return cls(
            tuple(record for part in parts for record in part.records),
            tuple(row for part in parts for row in part.images),
        )


# The table of images


def images_path(path: Path) -> Path:
    """Where the scores of each image lie: `a/b.json` -> `a/b.images.csv`."""
    return path.with_name(path.stem + ".images.csv")


def images_to_csv(images: Sequence[ImageScores]) -> str:
    """One row per filled photo, the metrics as columns; nine digits bring back a float32 exactly."""
    metrics = list(dict.fromkeys(name for row in images for name in row.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *metrics])
    for row in images:
        numbers = [format(row.scores[name], ".9g") if name in row.scores else "" for name in metrics]
        writer.writerow([row.method, row.group, row.band, row.image, row.mask, format(row.missing, ".9g"), *numbers])
    return text.getvalue()


def images_from_csv(text: str, path: Path) -> tuple[ImageScores, ...]:
    """The inverse of `images_to_csv`.

    Raises:
        InputError: another header, or a cell that is not a finite number.
    """
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0][: len(KEYS)]) != KEYS:
        raise InputError(f"{path} must begin with the columns {', '.join(KEYS)}; got {rows[0] if rows else 'nothing'}.")
    metrics = rows[0][len(KEYS) :]
    found = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            if len(row) != len(rows[0]):
                raise ValueError(f"{len(row)} cells, not {len(rows[0])}")
            numbers = [float(cell) if cell else None for cell in row[len(KEYS) - 1 :]]
            if any(number is not None and not math.isfinite(number) for number in numbers) or numbers[0] is None:
                raise ValueError("a number that is not finite")
        except ValueError as error:
            raise InputError(f"{path} line {line} is not a row of scores: {error}.") from None
        scores = {name: number for name, number in zip(metrics, numbers[1:]) if number is not None}
        method, group, band, image, mask = row[:5]
        found.append(ImageScores(method, group, band, image, mask, numbers[0], scores))
    return tuple(found)


# Files


def check_output(path: Path, ending: str, *, overwrite: bool) -> None:
    """Refuse an output path before any work is done for it.

    Raises:
        InputError: another ending, a folder, no such folder, or there already.
    """
    if path.suffix.lower() != ending:
        raise InputError(f"the output must end in {ending}; got {path}.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; name a file in it.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} for {path.name}; make it first.")
    if path.exists() and not overwrite:
        raise InputError(f"{path} is there already; name another file, or add --overwrite.")


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(name, 0o666 & ~umask)  # mkstemp makes files that only their owner can read
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def read_bounded(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file that is not larger than it may be.

    Raises:
        InputError: missing, not a file, unreadable or too large.
    """
    if not path.is_file():
        raise InputError(f"{path} {'is not a file' if path.exists() else 'does not exist'}.")
    if (size := path.stat().st_size) > most_bytes:
        raise InputError(f"{path} has {size} bytes; such a file has at most {most_bytes}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}.") from None


# Strict reading


def _no_constant(name: str) -> float:
    raise InputError(f"a file of records holds finite numbers only; got {name}.")


def _same_keys(content: Any, expected: set[str], where: str) -> None:
    if not isinstance(content, dict):
        raise InputError(f"{where} must be an object; got {type(content).__name__}.")
    if content.keys() != expected:
        raise InputError(
            f"{where} must have the keys {', '.join(sorted(expected))}; missing: "
            f"{', '.join(sorted(expected - content.keys())) or 'none'}, unknown: "
            f"{', '.join(sorted(content.keys() - expected)) or 'none'}."
        )


def _strict(kind: type, content: Any, where: str, **given: Any) -> Any:
    """Build a dataclass from plain JSON values: all keys, no others, each of its declared type."""
    hints = get_type_hints(kind)
    _same_keys(content, set(hints) - set(given), where)
    values = {name: _typed(hints[name], value, f"{where}, {name}") for name, value in content.items()}
    return kind(**values, **given)


def _typed(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint)
    if get_origin(hint) is tuple:
        if isinstance(value, list) and (options[-1] is ... or len(value) == len(options)):
            kinds = [options[0]] * len(value) if options[-1] is ... else options
            return tuple(_typed(kind, item, where) for kind, item in zip(kinds, value))
    elif get_origin(hint) is dict:
        if isinstance(value, dict):
            return {key: _typed(options[1], item, where) for key, item in value.items()}
    elif options:  # X | None
        if value is None and type(None) in options:
            return None
        if value is not None:
            return _typed(options[0], value, where)
    elif hint is float:
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            return float(value)
    elif isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    raise InputError(f"{where} must be {getattr(hint, '__name__', hint)}; got {str(value)[:80]!r}.")
