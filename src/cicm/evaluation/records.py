"""A record is one measured number with all that is needed to believe it; a file of records is strict JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cicm.conventions import InputError
from cicm.evaluation.protocol import Protocol, remedy
from cicm.files import check_output, digest_of, read_bounded, write_atomic
from cicm.plain import dump_json, from_plain, read_json

FORMAT = "cicm-evaluation-1"
_MOST_JSON_BYTES = 16 * 2**20
_MOST_CSV_BYTES = 256 * 2**20  # 10,000 photos x 3 bands x 10 methods need about 40 MB
_KEYS = ("method", "group", "band", "image", "mask", "missing")


@dataclass(frozen=True)
class Record:
    """One number.

    Args:
        detail: the method in words: its settings, or the weights' name and hash.
        band: share of the image that was missing, as `20-40`.
        group: size group, as `256x256`.
        value: mean over images, or the score of the whole set; None when it could not be measured.
        note: what a reader of the value has to know, as that a set of images was small.
        std: standard deviation over images (n - 1 in the denominator); None for scores of a set and for one image.
        n: images behind the value.
        seconds: time of filling, per image, without reading and scoring.
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
class _Beside:
    """The table of images that belongs to a file of records."""

    file: str
    sha256: str


@dataclass(frozen=True)
class _File:
    """A file of records as it is stored: the protocol once, and records without it."""

    format: str
    protocol: Protocol
    images: _Beside | None
    records: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class ImageScores:
    """Scores of one filled photo.

    Args:
        image, mask: relative paths, as in the list of pairs.
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
        check_output(path, endings=[".json"], overwrite=overwrite, what="file of records")
        content: dict[str, Any] = {"format": FORMAT, "protocol": dataclasses.asdict(self.protocol), "images": None}
        written = [path]
        if self.images:
            table = check_output(images_path(path), overwrite=overwrite, what="table of images")
            text = _to_csv(self.images)
            content["images"] = {"file": table.name, "sha256": digest_of(text.encode())}
            write_atomic(table, text)
            written.append(table)
        content["records"] = [
            {key: value for key, value in dataclasses.asdict(record).items() if key != "protocol"}
            for record in self.records
        ]
        write_atomic(path, dump_json(content))
        return written

    @classmethod
    def load(cls, path: str | Path) -> Evaluation:
        """Read what `save` wrote, and nothing else.

        Raises:
            InputError: missing, too large, not JSON, an unknown or missing key, a value of another type, or a table of
                images that is not the one that was written with it.
        """
        path = Path(path)
        content = read_json(path, "file of records", _MOST_JSON_BYTES)
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise InputError(f"{path} must be a JSON file written by cicm evaluate -o, with format {FORMAT!r}.")
        try:
            file = from_plain(_File, content)
            records = tuple(
                from_plain(Record, {**row, "protocol": file.protocol}, f"records[{number}]")
                for number, row in enumerate(file.records)
            )
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        if file.images is None:
            return cls(records)
        name = file.images.file
        if Path(name).name != name or not name.endswith(".csv"):
            raise InputError(f"{path}: the table of images must be a .csv beside it; got {name!r}.")
        table = path.with_name(name)
        data = read_bounded(table, _MOST_CSV_BYTES, "table of images")
        if digest_of(data) != file.images.sha256:
            raise InputError(f"{table} is not the table that was written with {path.name}; score again with -o.")
        return cls(records, _from_csv(data.decode(), table))

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


def _to_csv(images: Sequence[ImageScores]) -> str:
    """One row per filled photo, the metrics as columns; nine digits bring back a float32 exactly."""
    metrics = list(dict.fromkeys(name for row in images for name in row.scores))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_KEYS, *metrics])
    for row in images:
        numbers = [format(row.scores[name], ".9g") if name in row.scores else "" for name in metrics]
        writer.writerow([row.method, row.group, row.band, row.image, row.mask, format(row.missing, ".9g"), *numbers])
    return text.getvalue()


def _from_csv(text: str, path: Path) -> tuple[ImageScores, ...]:
    """The inverse of `_to_csv`."""
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0][: len(_KEYS)]) != _KEYS:
        raise InputError(
            f"{path} must begin with the columns {', '.join(_KEYS)}; got {rows[0] if rows else 'nothing'}."
        )
    metrics = rows[0][len(_KEYS) :]
    found = []
    for line, row in enumerate(rows[1:], start=2):
        try:
            if len(row) != len(rows[0]):
                raise ValueError(f"{len(row)} cells, not {len(rows[0])}")
            numbers = [float(cell) if cell else None for cell in row[len(_KEYS) - 1 :]]
            if any(number is not None and not math.isfinite(number) for number in numbers) or numbers[0] is None:
                raise ValueError("a number that is not finite")
        except ValueError as error:
            raise InputError(f"{path} line {line} is not a row of scores: {error}.") from None
        scores = {name: number for name, number in zip(metrics, numbers[1:]) if number is not None}
        method, group, band, image, mask = row[:5]
        found.append(ImageScores(method, group, band, image, mask, numbers[0], scores))
    return tuple(found)
