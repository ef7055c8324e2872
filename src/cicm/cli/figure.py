"""`cicm figure`: the paper's figures from what `cicm table run` made: curves, and grids of filled photos."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.cli.table import add_series, series_of, tables_of
from cicm.conventions import InputError
from cicm.files import check_output

DESCRIPTION = """Draw a figure from what `cicm table run` made.

If its rows have a place on an axis, as in figure3, the figure has a curve for each metric (PNG, SVG or PDF; needs the
extra `figures`). Otherwise, as in figure4, it is a grid (PNG) with three photos of each data set: the photo, the photo
with its hole, and the fill by the network of each row.
"""

EXAMPLES = """examples:
  cicm table run figure3 --scale small && cicm figure 3 --scale small -o capacity.svg
  cicm figure 4 --scale small -o methods.png
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("figure", DESCRIPTION, EXAMPLES, usage="cicm figure ID -o PICTURE [options]")
    add = made.add_argument
    add("id", type=str, nargs="?", metavar="ID", help="3, 4, or the path of a table file of your own")
    add("-o", "--output", type=str, metavar="PICTURE", help="file to write (default: ID.png)")
    add("--overwrite", action="store_true", help="replace a picture that exists")
    add_series(made)
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if not options.id:
        raise InputError("name the figure: cicm figure 3. `cicm table` lists them.")
    (table,) = tables_of([f"figure{options.id}" if options.id.isdecimal() else options.id])
    series = series_of(options, table)
    is_curve = all(part.axis for part in table.part)
    endings = (".png", ".svg", ".pdf") if is_curve else (".png",)
    output = options.output or f"{table.name}.png"
    check_output(output, endings=endings, overwrite=options.overwrite, what="picture")
    if is_curve:
        from cicm.tables.figures import curves, save_curves
        from cicm.tables.page import page
        from cicm.tables.plan import PRINTED

        save_curves(output, curves(page(series), list(PRINTED)), overwrite=options.overwrite)
    else:
        from cicm.evaluation.grid import save_grid
        from cicm.tables.figures import filled_rows
        from cicm.tables.runner import default_device

        rows, absent = filled_rows(series, device=default_device())
        save_grid(output, rows, overwrite=options.overwrite)
        for text in absent:
            print(f"not drawn: {text}", file=sys.stderr)
    print(f"wrote {output}", file=sys.stderr)
    return 0
