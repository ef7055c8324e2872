"""`cicm figure`: the paper's figures from what `cicm table run` made: curves, and grids of filled photos."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.cli.table import add_series, series_of, tables_of
from cicm.conventions import InputError

DESCRIPTION = """Draw a figure from what `cicm table run` made.

A figure whose rows have a place on an axis, as figure3, becomes curves (PNG, SVG or PDF; needs the extra `figures`).
Any other, as figure4, becomes a grid (PNG): photo, corrupted, and what the trained network of each row makes of it.
"""

EXAMPLES = """examples:
  cicm table run figure3 --scale small && cicm figure 3 --scale small -o capacity.svg
  cicm figure 3 --metrics psnr,lpips -o capacity.png
  cicm figure 4 --scale small -o methods.png
  cicm figure 4 --photos town.jpg,hill.jpg --bands 40-60 -o methods.png
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("figure", DESCRIPTION, EXAMPLES, usage="cicm figure ID -o PICTURE [options]")
    add = made.add_argument
    add("id", type=str, nargs="?", metavar="ID", help="3, 4, or the path of a table file of your own")
    add("-o", "--output", type=str, metavar="PICTURE", help="where to write it (default: ID.png here)")
    add_series(made)
    add("--metrics", nargs="+", type=str, default=["psnr"], metavar="NAME", help="curves: psnr, ssim, l1, lpips, fid")
    add("--num-photos", type=int, default=3, metavar="N", help="grids: photos of each data set, evenly spread")
    add(
        "--photos", nargs="+", type=str, default=[], metavar="NAME", help="grids: these photos, as in the list of pairs"
    )
    add("--bands", nargs="+", type=str, default=[], metavar="BAND", help="grids: only these shares of missing pixels")
    add("--overwrite", action="store_true", help="replace a picture that is there")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code.

    Raises:
        InputError: bad options, an output that is there, or nothing to draw.
    """
    options = parse(parser(), argv)
    if not options.id:
        raise InputError("name the figure: cicm figure 3. `cicm table` lists them.")
    if options.num_photos < 1:
        raise InputError(f"--num-photos must be at least 1; got {options.num_photos}.")
    (table,) = tables_of([f"figure{options.id}" if options.id.isdecimal() else options.id])
    series = series_of(options, table)
    output = Path(options.output or f"{table.name}.png")
    if all(part.axis for part in table.part):
        from cicm.tables.figures import ENDINGS, check_path, curves, save_curves
        from cicm.tables.page import page

        check_path(output, ENDINGS, overwrite=options.overwrite)
        found = curves(page(series), _split(options.metrics))
        save_curves(output, found, overwrite=options.overwrite)
    else:
        from cicm.evaluation.grid import save_grid
        from cicm.tables.figures import check_path, filled_rows
        from cicm.tables.runner import default_device

        check_path(output, (".png",), overwrite=options.overwrite)
        rows, absent = filled_rows(
            series,
            photos=options.num_photos,
            names=_split(options.photos),
            bands=_split(options.bands),
            device=default_device(),
        )
        save_grid(output, rows, overwrite=options.overwrite)
        for text in absent:
            print(f"not drawn: {text}", file=sys.stderr)
    print(f"wrote {output}", file=sys.stderr)
    return 0


def _split(words: Sequence[str]) -> list[str]:
    """Words given one by one, joined by commas, or both."""
    return [part for word in words for part in word.split(",") if part]
