"""The report of a run: one row for each photo, as JSON lines or CSV."""

from __future__ import annotations

import csv
import json
import os
import secrets
from pathlib import Path
from typing import Any

from cicm.conventions import InputError
from cicm.files import reason_of
from cicm.folders.run import FolderTask, Outcome
from cicm.terminal import shown

COLUMNS = ("photo", "output", "status", "error", "notes", "width", "height", "missing", "seconds", "details")


class ReportFile:
    """Takes outcomes one by one; the file appears whole, when it is closed.

    Args:
        path: ends in .jsonl or .csv. A file that is there is replaced if it is such a report, and else refused.
        task: nothing is written into its photos.

    Raises:
        InputError: another ending, a file that is no report, or a place that can't be written.
    """

    def __init__(self, path: str | os.PathLike, task: FolderTask) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() not in (".jsonl", ".csv"):
            raise InputError(f"a report ends in .jsonl or .csv; got {shown(self.path.name)}. Change the ending.")
        photos = os.path.realpath(task.photos)
        if os.path.realpath(self.path).startswith(photos.rstrip(os.sep) + os.sep):
            raise InputError(f"the report {shown(self.path)} lies among the photos. Write it elsewhere.")
        try:
            self._refuse_others()
            self._part = self.path.parent / f".cicm-{secrets.token_hex(8)}.part"
            self._stream = self._part.open("x", encoding="utf-8", newline="", errors="backslashreplace")
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
            **{name: outcome.details.get(name) for name in ("width", "height", "missing")},
            "seconds": round(outcome.seconds, 4),
            "details": outcome.details,
        }
        if self._table:
            row |= {"notes": "; ".join(outcome.notes), "details": json.dumps(outcome.details, default=str)}
            self._table.writerow(["" if row[name] is None else row[name] for name in COLUMNS])
        else:
            self._stream.write(json.dumps(row, default=str) + "\n")

    def close(self) -> None:
        """Put the file in its place, with the rows so far."""
        try:
            self._stream.close()
            os.replace(self._part, self.path)
        except OSError as error:
            raise InputError(f"the report {shown(self.path)} could not be written: {reason_of(error)}") from error
        finally:
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> ReportFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_others(self) -> None:
        if not os.path.lexists(self.path):
            return
        ours = False
        if self.path.is_file():
            with self.path.open("rb") as stream:
                head = stream.read(200)
            starts = ('{"photo": ', ",".join(COLUMNS))
            ours = not head or any(head.startswith(start.encode()) for start in starts)
        if not ours:
            raise InputError(f"{shown(self.path)} exists, and is no report of a folder. Choose another name.")
