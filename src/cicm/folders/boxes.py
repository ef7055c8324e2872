"""A list of boxes, from CSV or JSON."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from cicm.conventions import InputError
from cicm.files import check_readable, reason_of
from cicm.photos.pixels import Box
from cicm.terminal import shown

_MOST_BYTES = 2**28  # of the longest list: some five million boxes


def read_boxes(file: str | os.PathLike) -> Iterator[tuple[str, Box]]:
    """The rows of a list of boxes: (photo, (left, top, right, bottom)).

    The column of the photo may be called `image` too, as in lists of pairs.

    Raises:
        InputError: a file that can't be read, is too long, or has a row that is no box, with its number.
    """
    path = check_readable(file, "list of boxes")
    if path.stat().st_size > _MOST_BYTES:
        raise InputError(f"{shown(path)} is larger than {_MOST_BYTES // 2**20} MiB. Split the list.")
    names = ("left", "top", "right", "bottom")
    try:
        with path.open(encoding="utf-8-sig", newline="", errors="surrogateescape") as stream:
            if path.suffix.lower() == ".json":
                rows: Any = json.load(stream)
                if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                    raise InputError(
                        f"expected a JSON list of objects in {shown(path)}, with photo, {', '.join(names)}."
                    )
            else:
                reader = csv.DictReader(stream)
                columns = ["photo" if name == "image" else name for name in reader.fieldnames or ()]
                if missing := [name for name in ("photo", *names) if name not in columns]:
                    raise InputError(f"{shown(path)} has no column {missing[0]}; expected photo, {', '.join(names)}.")
                rows = reader
            for number, row in enumerate(rows, start=1):
                photo, numbers = row.get("photo", row.get("image")), [_whole(row.get(name)) for name in names]
                if not isinstance(photo, str) or not photo or None in numbers:
                    told = [row.get(name) for name in ("photo", *names)]
                    raise InputError(
                        f"row {number} of {shown(path)} must be a photo's name and four whole numbers; got {told}."
                    )
                left, top, right, bottom = (value for value in numbers if value is not None)
                if not (0 <= left < right and 0 <= top < bottom):
                    raise InputError(
                        f"row {number} of {shown(path)} is no box: left {left}, right {right}, top {top}, bottom "
                        f"{bottom}. Right and bottom lie beyond left and top, and none is below 0."
                    )
                yield photo, (left, top, right, bottom)
    except InputError:
        raise
    except (OSError, ValueError, csv.Error, RecursionError) as error:
        raise InputError(f"the list of boxes {shown(path)} can't be read: {reason_of(error)}") from error


def _whole(value: Any) -> int | None:
    """A whole number within reason, from JSON or CSV; None for all else."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,9}(\.0*)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e9 or value != int(value):
        return None
    return int(value)
