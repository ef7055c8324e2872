"""Pictures of an evaluation: photo, what was left of it, and what each method made of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cicm.conventions import InputError
from cicm.files import check_output, write_atomic

_HEADER = 18
_GAP = 4
_MOST_PIXELS = 100_000_000


@dataclass
class GridRow:
    """One photo with one hole.

    Args:
        image, corrupted: (H, W, 3) uint8.
    """

    label: str
    image: np.ndarray
    corrupted: np.ndarray
    filled: dict[str, np.ndarray] = field(default_factory=dict)


def _draw_grid(rows: Sequence[GridRow]) -> Image.Image:
    """One row per photo and hole; columns: photo, corrupted, one per method."""
    if not rows:
        raise InputError("a grid needs at least one photo; got none.")
    methods = list(dict.fromkeys(name for row in rows for name in row.filled))
    columns = ["image", "corrupted", *methods]
    cell = max(row.image.shape[1] for row in rows)
    width = len(columns) * (cell + _GAP) + _GAP
    height = _HEADER + sum(_HEADER + row.image.shape[0] + _GAP for row in rows)
    if width * height > _MOST_PIXELS:
        raise InputError(f"the grid would have {width}x{height} pixels; show fewer photos or methods.")
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for column, name in enumerate(columns):
        draw.text((_GAP + column * (cell + _GAP), 3), name, fill="black", font=font)
    top = _HEADER
    for row in rows:
        draw.text((_GAP, top + 3), row.label, fill=(90, 90, 90), font=font)
        pictures = [row.image, row.corrupted, *(row.filled.get(name) for name in methods)]
        for column, picture in enumerate(pictures):
            if picture is not None:
                canvas.paste(Image.fromarray(picture), (_GAP + column * (cell + _GAP), top + _HEADER))
        top += _HEADER + row.image.shape[0] + _GAP
    return canvas


def save_grid(path: str | Path, rows: Sequence[GridRow], *, overwrite: bool = False) -> None:
    """Write the grid as a PNG that appears whole or not at all.

    Raises:
        InputError: there already, no such folder, or not `.png`.
    """
    file = check_output(path, endings=[".png"], overwrite=overwrite, what="grid")
    data = io.BytesIO()  # Pillow does not notice when a disk takes less than it was given
    _draw_grid(rows).save(data, format="PNG", optimize=True)
    write_atomic(file, data.getvalue(), overwrite=overwrite)
