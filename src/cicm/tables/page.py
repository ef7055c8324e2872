"""A table as it stands: the paper's numbers, ours beside them, differences, seeds, conditions; from records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np

from cicm.conventions import InputError
from cicm.evaluation.compare import Comparison, Run, compare
from cicm.evaluation.protocol import Protocol
from cicm.evaluation.records import Evaluation, Record
from cicm.metrics import METRICS
from cicm.tables.plan import OURS, PRINTED, Part, Row
from cicm.tables.series import Job, Series

UP, DOWN = "↑", "↓"
WORDS = {"psnr": "PSNR", "ssim": "SSIM", "l1": "L1", "lpips": "LPIPS", "fid": "FID"}
_UNITS = {"psnr": "dB", "l1": "%"}


@dataclass(frozen=True)
class Cell:
    """One number of the paper and one of ours, of one row, metric and band.

    Args:
        paper: as printed; None where the paper has none.
        paper_difference: to the row's baseline, in the printed digits.
        spread: standard deviation over seeds; None for one.
        difference: ours minus the baseline's, over the seeds that both have.
    """

    paper: str | None = None
    paper_difference: str | None = None
    ours: float | None = None
    spread: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    images: int = 0
    seconds: float | None = None


@dataclass(frozen=True)
class Line:
    """A row under one metric.

    Args:
        reason: why there is none of ours; empty if there is.
    """

    row: Row
    seeds: tuple[int, ...]
    reason: str
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Block:
    """A part under one metric.

    Args:
        ours: the metric that was measured in its place; None if none was.
    """

    part: Part
    metric: str
    ours: str | None
    lines: tuple[Line, ...]

    @property
    def title(self) -> str:
        """The metric with its arrow and unit; what ours is, where that is another."""
        arrow = UP if PRINTED[self.metric] == "higher" else DOWN
        unit = f" [{_UNITS[self.metric]}]" if self.metric in _UNITS else ""
        other = "" if self.ours in (None, self.metric) else f", ours: {self.ours}"
        stand_in = ", a stand-in that is no " + WORDS[self.metric] if (self.ours or "").startswith("sqz") else ""
        return f"{WORDS[self.metric]} {arrow}{unit}{other}{stand_in}"


@dataclass(frozen=True)
class Page:
    """A table before it is written.

    Args:
        notes: each said once; a row refers to them by number.
    """

    series: Series
    blocks: tuple[Block, ...]
    conditions: tuple[str, ...]
    notes: dict[str, int]


def page(series: Series) -> Page:
    """Read all records of a table.

    Raises:
        InputError: a record that can't be read, or records of one data set that were not measured on the same terms.
    """
    load = cache(Evaluation.load)  # several rows may share a record
    rows = {(part.slug, row.slug): _Ours.of(series, part, row, load) for part in series.table.part for row in part.row}
    protocols = _protocols(series, rows)
    blocks: list[Block] = []
    for part in series.table.part:
        columns = [_column(series, part, row, rows) for row in part.row]
        for metric in PRINTED:
            ours = _measured(metric, [rows[p.slug, r.slug] for p in series.table.part for r in p.row])
            printed = any(metric in row.paper for row in part.row)
            if printed or ours:
                lines = [column.line(metric, ours, series.table.bands) for column in columns]
                blocks.append(Block(part, metric, ours, tuple(lines)))
        if not any(block.part is part for block in blocks):  # nothing printed, nothing made
            lines = [column.line("psnr", None, series.table.bands) for column in columns]
            blocks.append(Block(part, "psnr", None, tuple(lines)))
    return Page(series, tuple(blocks), tuple(_conditions(series, rows, protocols)), _notes(blocks))


@dataclass(frozen=True)
class _Ours:
    """What was made for a row: seed -> run, or the reason why nothing was."""

    runs: dict[int, Run]
    paths: dict[int, Path]
    reason: str

    @classmethod
    def of(cls, series: Series, part: Part, row: Row, load: Callable[[Path], Evaluation]) -> _Ours:
        jobs, missing = series.jobs([f"{part.title}: {row.label}"])
        if missing:
            return cls({}, {}, missing[0].reason)
        paths = series.records(jobs[0])
        runs: dict[int, Run] = {}
        for seed, path in paths.items():
            evaluation = load(path)
            if len(evaluation.methods) != 1 or len({record.group for record in evaluation.records}) != 1:
                raise InputError(f"{path} must hold one method at one size, as cicm table run writes it.")
            runs[seed] = evaluation, evaluation.methods[0]
        reason = "" if runs else _why_not(series, jobs)
        return cls(runs, paths, reason)

    def measured(self, metric: str, band: str) -> list[Record]:
        """One record for each seed that has a value."""
        records = [record for evaluation, _ in self.runs.values() for record in evaluation.records]
        return [r for r in records if (r.metric, r.band) == (metric, band) and r.value is not None]


def _why_not(series: Series, jobs: Sequence[Job]) -> str:
    for job in jobs:
        if series.failure(job).is_file():
            return f"failed: {series.failure(job).read_text(encoding='utf-8', errors='replace').strip()[:300]}"
    for job in jobs:
        if stale := series.stale(job):
            return f"not run with this recipe; of the record that is there, {stale}"
    return "not run yet"


@dataclass(frozen=True)
class _Column:
    """A row with its baseline."""

    row: Row
    ours: _Ours
    baseline: Row | None
    compared: dict[tuple[str, str], Comparison]

    def line(self, metric: str, measured: str | None, bands: Sequence[str]) -> Line:
        cells = {}
        for place, band in enumerate(bands):
            printed = self.row.paper.get(metric, ())
            paper = printed[place] if printed else None
            beside = self.baseline.paper.get(metric, ()) if self.baseline else ()
            records = self.ours.measured(measured, band) if measured else []
            values = [record.value for record in records if record.value is not None]
            compared = self.compared.get((measured or "", band))
            cells[band] = Cell(
                paper,
                f"{Decimal(paper) - Decimal(beside[place]):+f}" if paper and beside else None,
                float(np.mean(values)) if values else None,
                float(np.std(values, ddof=1)) if len(values) > 1 else None,
                compared.difference if compared else None,
                compared.interval if compared else None,
                records[0].n if records else 0,
                float(np.mean([record.seconds for record in records])) if records else None,
            )
        return Line(self.row, tuple(self.ours.runs), self.ours.reason, cells)


def _column(series: Series, part: Part, row: Row, rows: dict[tuple[str, str], _Ours]) -> _Column:
    ours = rows[part.slug, row.slug]
    if not row.baseline:
        return _Column(row, ours, None, {})
    there, baseline = series.table.find(row.baseline, part)
    beside = rows[there.slug, baseline.slug]
    seeds = [seed for seed in ours.runs if seed in beside.runs]
    if not seeds:
        return _Column(row, ours, baseline, {})
    cells = compare([beside.runs[seed] for seed in seeds], [ours.runs[seed] for seed in seeds])
    return _Column(row, ours, baseline, {(cell.metric, cell.band): cell for cell in cells})


def _measured(metric: str, rows: Sequence[_Ours]) -> str | None:
    """Which of our metrics stands beside the paper's: the first that any row has a value of."""
    for name in OURS[metric]:
        if any(r.metric == name and r.value is not None for o in rows for e, _ in o.runs.values() for r in e.records):
            return name
    return None


def _protocols(series: Series, rows: dict[tuple[str, str], _Ours]) -> dict[str, Protocol]:
    """Data set -> protocol of its records, all of which must agree."""
    first: dict[str, tuple[Protocol, str, Path]] = {}
    for part in series.table.part:
        for row in part.row:
            ours = rows[part.slug, row.slug]
            for seed, (evaluation, _) in ours.runs.items():
                where, path = f"row {row.label!r}, seed {seed}", ours.paths[seed]
                protocol, other, _path = first.setdefault(part.data, (evaluation.protocol, where, path))
                if differences := protocol.differences(evaluation.protocol):
                    raise InputError(
                        f"{series.table.name}: {other} ({_path}) and {where} ({path}) were measured differently and "
                        f"can't share a table: {'; '.join(differences)}. Remove the one that is wrong and give "
                        f"cicm table run {series.table.name} again, or keep it in a series of another --name."
                    )
    return {data: protocol for data, (protocol, _, _) in first.items()}


def _notes(blocks: Sequence[Block]) -> dict[str, int]:
    notes: dict[str, int] = {}
    for block in blocks:
        for line in block.lines:
            for text in remarks(line):
                notes.setdefault(text, len(notes) + 1)
    return notes


def remarks(line: Line) -> list[str]:
    """What has to be said of a row: doubts about the printed numbers, what ours is, why there is none of ours."""
    row = line.row
    said = [f"printed: {row.note}" if row.note else "", f"ours: {row.about}" if row.about else ""]
    said.append(f"none of ours: {line.reason}" if line.reason else "")
    return [text for text in said if text]


def _conditions(series: Series, rows: dict[tuple[str, str], _Ours], protocols: dict[str, Protocol]) -> list[str]:
    lines = [f"scale {series.scale_name}" + (f", series {series.name}" if series.name != series.scale_name else "")]
    lines[0] += f": {series.scale.about}" if series.scale.about else ""
    for data, protocol in protocols.items():
        about = series.data[data].about
        lines.append(f"{data}: {about}" if about else data)
        lines.append(
            f"{data}: {', '.join(protocol.groups)}; {protocol.sizes}; {protocol.num_images} photos, "
            f"{protocol.num_pairs} holes, list {protocol.pairs_sha256[:12]}, pixels {protocol.pixels_sha256[:12]}; "
            f"{protocol.masks}"
        )
    for protocol in list(protocols.values())[:1]:
        lines.append(f"scored: {protocol.scored}; {protocol.rounding}")
        bands = [f"{band}: {protocol.bands[band]}" for band in series.table.bands if band in protocol.bands]
        lines.append(f"bands: {'; '.join(bands)}")
        shown = [name for names in OURS.values() for name in names if name in protocol.metrics]
        lines += [f"{name}: {METRICS[name].explain}; {protocol.metrics[name]}" for name in shown]
        lines.append(f"± is the standard deviation over seeds; brackets: {protocol.interval}, of the paired difference")
    records = [
        record for ours in rows.values() for evaluation, _ in ours.runs.values() for record in evaluation.records
    ]
    for word, found in (
        ("code", {record.commit or "unknown" for record in records}),
        ("scored on", {record.hardware for record in records}),
    ):
        lines += [f"{word}: {', '.join(sorted(found))}"] if found else []
    reasons = {f"{r.metric} could not be measured: {r.reason}" for r in records if r.reason}
    noted = {f"{r.metric}: {r.note}" for r in records if r.note}
    return lines + sorted(reasons) + sorted(noted)
