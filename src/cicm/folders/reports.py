"""The report of a run: one row for each photo, as JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cicm.conventions import InputError
from cicm.files import atomic, check_output, is_inside, reason_of
from cicm.folders.outcome import Outcome
from cicm.folders.plan import FolderTask
from cicm.terminal import shown

COLUMNS = (
    "photo",
    "output",
    "status",
    "error",
    "notes",
    "width",
    "height",
    "missing",
    "fill",
    "lenders",
    "seconds",
    "details",
)


class ReportFile:
    """Takes outcomes one by one; the file appears whole, when it is closed.

    Args:
        path: ends in .jsonl or .csv. An existing file is replaced if it is such a report, and refused otherwise.
        task: the report must not be among its photos.

    Raises:
        InputError: another ending, a file that is no report, or a place that can't be written.
    """

    def __init__(self, path: str | os.PathLike, task: FolderTask) -> None:
        self.path = check_output(path, endings=(".jsonl", ".csv"), overwrite=True, what="report")
        if is_inside(self.path, task.photos):
            raise InputError(f"the report {shown(self.path)} is among the photos. Write it elsewhere.")
        try:
            _refuse_others(self.path)
            with ExitStack() as stack:
                part = stack.enter_context(atomic(self.path))
                self._stream = stack.enter_context(
                    part.open("w", encoding="utf-8", newline="", errors="backslashreplace")
                )
                self._open = stack.pop_all()
        except OSError as error:
            raise InputError(f"the report {shown(self.path)} can't be written: {reason_of(error)}") from error
        self._table = csv.writer(self._stream) if self.path.suffix.lower() == ".csv" else None
        if self._table:
            self._table.writerow(COLUMNS)

    def add(self, outcome: Outcome) -> None:
        """Write one row."""
        row: dict[str, Any] = {
            "photo": outcome.photo,
            "output": outcome.output,
            "status": outcome.status,
            "error": outcome.error,
            "notes": list(outcome.notes),
            **{name: outcome.details.get(name) for name in ("width", "height", "missing", "fill")},
            "lenders": list(outcome.details.get("lenders", ())),
            "seconds": round(outcome.seconds, 4),
            "details": outcome.details,
        }
        if self._table:
            row |= {"notes": "; ".join(outcome.notes), "lenders": "; ".join(row["lenders"])}
            row |= {"details": json.dumps(outcome.details, default=str)}
            self._table.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
        else:
            self._stream.write(json.dumps(row, default=str) + "\n")

    def close(self) -> None:
        """Put the file in its place, with the rows so far."""
        try:
            self._open.close()
        except OSError as error:
            raise InputError(f"the report {shown(self.path)} could not be written: {reason_of(error)}") from error

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_others(path: Path) -> None:
    """Refuse to replace a file that is no report."""
    if not path.exists():
        return
    with path.open("rb") as stream:
        head = stream.read(200)
    starts = ('{"photo": ', ",".join(COLUMNS[:6]))
    if head and not any(head.startswith(start.encode()) for start in starts):
        raise InputError(f"{shown(path)} exists, and is no report of a folder. Choose another name.")
