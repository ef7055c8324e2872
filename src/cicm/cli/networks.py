"""`cicm networks`: list the networks with parameters, multiply-adds, sites, size rules, papers and terms."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser

if TYPE_CHECKING:
    from cicm.networks.inventory import NetworkFacts

SIDE = 256
COLUMNS = ("network", "parameters", f"multiply-adds at {SIDE}x{SIDE}", "sites", "image sizes", "paper", "original code")

DESCRIPTION = """List the networks. A site is a place for a memory: its name, channels and stride (pixels per cell).
Parameters are counted with default options; they include those that the original has and never uses.

Original code: where the network was published, which revision was studied, and its licence. The code here was written
anew and is under Apache-2.0. Weights released by others keep their own terms (cicm convert imports them).
"""

EXAMPLE = """\
examples:
  cicm networks                a table
  cicm networks --markdown     the same table in Markdown
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("networks", DESCRIPTION, EXAMPLE)
    made.add_argument("--markdown", action="store_true", help="print a table in Markdown")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)

    from cicm.networks import names
    from cicm.networks.inventory import facts

    found = [facts(name, SIDE) for name in names()]  # on meta: nothing is allocated
    rows = [_row(one) for one in found]
    if options.markdown:
        lines = [COLUMNS, ("---", "---:", "---:", "---", "---", "---", "---"), *rows]
        print("\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines))
        return 0

    from rich.console import Console
    from rich.table import Table

    table = Table(show_lines=True)
    for column in COLUMNS:
        numbers = column in COLUMNS[1:3]
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(row[0], *row[1:3], row[3].replace(", ", "\n"), *row[4:])
    # Piped output is not cut to 80 columns.
    (Console() if sys.stdout.isatty() else Console(width=170)).print(table)
    return 0


def _row(one: NetworkFacts) -> tuple[str, ...]:
    rule = one.size
    sizes = f"multiples of {rule.multiple_of}" if rule.multiple_of > 1 else "any"
    sizes = str(rule) if rule.maximum else f"{sizes}, from {rule.minimum}"
    return (
        one.name,
        f"{one.parameters / 1e6:.1f} M",
        f"{one.multiply_adds / 1e9:.1f} G",
        ", ".join(f"{s.name} {s.channels}/{s.stride}" for s in one.sites),
        sizes,
        one.paper or "-",
        f"{one.origin}; {one.origin.licence}",
    )
