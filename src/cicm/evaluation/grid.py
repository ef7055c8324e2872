"""Pictures of an evaluation: photo, what was left of it, and what each method made of it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from cicm.conventions import InputError
from cicm.evaluation.records import check_output, write_atomic

HEADER = 18
GAP = 4
MOST_PIXELS = 100_000_000


@dataclass
class GridRow:
    """One photo with one hole.

    Args:
        label: written above the row.
        image, corrupted: (H, W, 3) uint8.
        filled: method -> (H, W, 3) uint8.
    """

    label: str
    image: np.ndarray
    corrupted: np.ndarray
    filled: dict[str, np.ndarray] = field(default_factory=dict)


def chosen(count: int, most: int) -> list[int]:
    """Positions of up to `most` of `count` photos, evenly spread, so that the list and not a person chooses.

    Example:
        >>> chosen(9, 3), chosen(2, 3)
        ([0, 4, 8], [0, 1])
    """
    if count <= most:
        return list(range(count))
    return [0] if most == 1 else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def draw_grid(rows: Sequence[GridRow]) -> Image.Image:
    """One row per photo and hole; columns: photo, corrupted, one per method.

    Raises:
        InputError: nothing to draw, or more than the picture can hold.
    """
    if not rows:
        raise InputError("a grid needs at least one photo; got none.")
    methods = list(dict.fromkeys(name for row in rows for name in row.filled))
    columns = ["image", "corrupted", *methods]
    cell = max(row.image.shape[1] for row in rows)
    width = len(columns) * (cell + GAP) + GAP
    height = HEADER + sum(HEADER + row.image.shape[0] + GAP for row in rows)
    if width * height > MOST_PIXELS:
        raise InputError(f"the grid would have {width}x{height} pixels; show fewer photos or methods.")
    canvas = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default()
    for column, name in enumerate(columns):
        draw.text((GAP + column * (cell + GAP), 3), name, fill="black", font=font)
    top = HEADER
    for row in rows:
        draw.text((GAP, top + 3), row.label, fill=(90, 90, 90), font=font)
        pictures = [row.image, row.corrupted, *(row.filled.get(name) for name in methods)]
        for column, picture in enumerate(pictures):
            if picture is not None:
                canvas.paste(Image.fromarray(picture), (GAP + column * (cell + GAP), top + HEADER))
        top += HEADER + row.image.shape[0] + GAP
    return canvas


def save_grid(path: str | Path, rows: Sequence[GridRow], *, overwrite: bool = False) -> None:
    """Write the grid as a PNG that appears whole or not at all.

    Raises:
        InputError: there already, no such folder, or not `.png`.
    """
    check_output(Path(path), ".png", overwrite=overwrite)
    data = io.BytesIO()
    draw_grid(rows).save(data, format="PNG", optimize=True)
    write_atomic(Path(path), data.getvalue())
