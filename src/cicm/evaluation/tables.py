"""Records as a table: on a terminal, in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table
from rich.text import Text

from cicm.evaluation.compare import Comparison
from cicm.evaluation.records import Evaluation, Record
from cicm.metrics import METRICS

MISSING = "n/a: "
_REASON = 14  # characters of the narrowest column with a reason in it
_ARROW = {"higher": "↑", "lower": "↓", "near 1": "→1"}


@dataclass(frozen=True)
class Grid:
    """A table before it is drawn.

    Args:
        rows: cells, as many in each row as there are columns.
        labels: how many of the first columns are words rather than numbers.
    """

    header: list[str]
    rows: list[list[str]]
    labels: int

    def markdown(self) -> str:
        """The table in Markdown, numbers to the right.

        Example:
            >>> print(Grid(["method", "psnr"], [["mean", "20.00"]], 1).markdown())
            | method | psnr |
            | :--- | ---: |
            | mean | 20.00 |
        """
        marks = [":---" if column < self.labels else "---:" for column in range(len(self.header))]
        cells = [self.header, marks, *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)

    def rich(self, width: int) -> list[Table]:
        """The table for a terminal of so many characters: as many tables below each other as it takes.

        Numbers are never cut or folded; reasons and long words may be.
        """
        widths = [self._width(column) for column in range(len(self.header))]
        words = sum(widths[: self.labels])
        parts: list[list[int]] = [[]]
        for column in range(self.labels, len(self.header)):
            used = words + sum(widths[other] for other in parts[-1])
            if parts[-1] and used + widths[column] > width:
                parts.append([])
            parts[-1].append(column)
        return [self._part([*range(self.labels), *columns]) for columns in parts]

    def _width(self, column: int) -> int:
        """Characters that a column needs, with its borders."""
        cells = [row[column] for row in self.rows]
        reasons = [part for cell in cells if cell.startswith(MISSING) for part in cell.split()]
        numbers = [cell for cell in cells if not cell.startswith(MISSING)]
        longest = max(map(len, [*numbers, *(part[:_REASON] for part in reasons), *self.header[column].split()]))
        return longest + 3

    def _part(self, columns: Sequence[int]) -> Table:
        table = Table(pad_edge=False)
        for column in columns:
            table.add_column(
                Text(self.header[column]),  # Text: brackets in a string would be read as markup
                justify="left" if column < self.labels else "right",
                overflow="fold",
                width=self._width(column) - 3,  # fixed: left to itself rich cuts the last columns of a full row
            )
        for row in self.rows:
            table.add_row(*(Text(row[column]) for column in columns))
        return table


def number(metric: str, value: float, *, sign: bool = False) -> str:
    """A score with the digits that its metric deserves.

    Example:
        >>> number("psnr", 25.1239), number("psnr", 1.5, sign=True), number("ssim", 0.5)
        ('25.12', '+1.50', '0.5000')
    """
    return format(value, f"{'+' if sign else ''}.{METRICS[metric].digits}f")


def title(metric: str) -> str:
    """A metric with its unit and an arrow that says which way is better."""
    entry = METRICS[metric]
    return " ".join(part for part in (metric, f"[{entry.unit}]" if entry.unit else "", _ARROW[entry.better]) if part)


def table(evaluation: Evaluation, *, intervals: bool = False) -> Grid:
    """One row per size group, band and method, methods beside each other; one column per metric.

    A metric without any value tells the reason once, at the top of its column, and says n/a below.

    Args:
        intervals: put the interval behind each mean, and the number of images behind each score of a set. Intervals of
            two methods that overlap do not say that the methods are alike: all methods share the photos, and their
            differences vary by far less. `compare` looks at those.
    """
    records = {(r.group, r.band, r.method, r.metric): r for r in evaluation.records}
    metrics = list(dict.fromkeys(r.metric for r in evaluation.records))
    rows = []
    for group, band in dict.fromkeys((r.group, r.band) for r in evaluation.records):
        for method in evaluation.methods:
            found = [records.get((group, band, method, metric)) for metric in metrics]
            if any(found):
                rows.append([group, band, method, *(_cell(record, intervals) for record in found)])
    for column in range(3, 3 + len(metrics)):
        if rows[0][column].startswith(MISSING) and len({row[column] for row in rows}) == 1:
            for row in rows[1:]:
                row[column] = "n/a"
    return Grid(["size", "band", "method", *map(title, metrics)], rows, labels=3)


def _cell(record: Record | None, intervals: bool) -> str:
    if record is None:
        return "not scored"
    if record.value is None:
        return f"{MISSING}{record.reason or ''}"
    text = number(record.metric, record.value)
    if not intervals:
        return text
    if record.interval is None:  # of a whole set, or of one image
        return f"{text} (N={record.n})"
    low, high = (number(record.metric, end) for end in record.interval)
    return f"{text} [{low}, {high}]"


def notes(evaluation: Evaluation) -> list[str]:
    """What has to stand below the table: each note once, with the metric and the size group it is about."""
    found = {f"{r.metric} at {r.group}: {r.note}": None for r in evaluation.records if r.note}
    return list(found)


def comparison_table(comparisons: Sequence[Comparison], first: str, second: str) -> Grid:
    """One row per cell of `compare`: both means, the difference with its interval, the share of images improved."""
    seeds = any(c.first_spread is not None or c.second_spread is not None for c in comparisons)
    header = ["size", "band", "metric", f"A: {first}", f"B: {second}", "B - A", "95 % interval", "B better", "images"]
    header += ["B - A by seed"] if seeds else []
    rows = []
    for c in comparisons:
        row = [c.group, c.band, title(c.metric), _mean(c, c.first, c.first_spread), _mean(c, c.second, c.second_spread)]
        row.append(number(c.metric, c.difference, sign=True))
        ends = [number(c.metric, end, sign=True) for end in c.interval or ()]
        row.append(
            f"{ends[0]} to {ends[1]}" if ends else "none (a score of the set)" if c.n > 1 else "none (one image)"
        )
        row.append("-" if c.improved is None else f"{c.improved:.0%}")
        row.append(str(c.n))
        if seeds:
            row.append(" ".join(number(c.metric, value, sign=True) for value in c.by_seed) or "-")
        rows.append(row)
    return Grid(header, rows, labels=3)


def _mean(comparison: Comparison, value: float, spread: float | None) -> str:
    text = number(comparison.metric, value)
    return text if spread is None else f"{text} ± {number(comparison.metric, spread)}"
