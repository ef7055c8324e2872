"""`cicm memory`: look into a memory: usage, norms, similarities, as numbers and as a picture."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

if TYPE_CHECKING:
    from cicm.memory.inspection import Inspection

DESCRIPTION = """Describe the memories of a model: which sets and contexts are used, how long their vectors are, and how
similar they are. A set or context is starving if it has less than a hundredth of an equal share.
"""

EXAMPLE = """\
examples:
  cicm memory                                    the included weights
  cicm memory model.safetensors -o memory.png    and a picture
  cicm memory model.safetensors --json           the numbers, for programs
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("memory", DESCRIPTION, EXAMPLE)
    told = "a weights file, or an album (default: included weights)"
    made.add_argument("weights", type=str, nargs="?", metavar="WEIGHTS", help=told)
    made.add_argument("-o", "--output", type=str, metavar="PNG", help="draw the memories")
    made.add_argument("--overwrite", action="store_true", help="replace the picture if it exists")
    made.add_argument("--json", action="store_true", help="print JSON instead of tables")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)

    from cicm.assembly import load_weights
    from cicm.assembly.weights import read_header
    from cicm.files import check_output, write_atomic
    from cicm.look.sources import with_sets
    from cicm.memory.drawing import picture, stacked
    from cicm.memory.inspection import look_inside

    output = Path(options.output) if options.output else None
    if output:
        check_output(output, endings=(".png",), overwrite=options.overwrite, what="picture")
    if options.weights and "album" in read_header(options.weights):
        return _describe_album(options.weights, output, options.json)
    stored = with_sets(load_weights(options.weights).model)
    found = {site: look_inside(memory) for site, memory in stored.items()}

    if options.json:
        print(json.dumps({site: inspection.to_dict() for site, inspection in found.items()}, indent=2))
    else:
        for site, inspection in found.items():
            _print(site, inspection)
    if output:
        data = io.BytesIO()
        stacked([picture(inspection, site) for site, inspection in found.items()]).save(
            data, format="PNG", optimize=True
        )
        write_atomic(output, data.getvalue())
        print(f"wrote {output}", file=sys.stderr)
    return 0


def _describe_album(path: str, output: Path | None, as_json: bool) -> int:
    """Say what an album is.

    Raises:
        InputError: a picture was asked for; an album that can't be read.
    """
    from cicm.exemplar.album import load_album

    if output:
        raise InputError(f"{path} is an album of photos, not a model; there is no picture of it. Leave out -o.")
    album = load_album(path)
    there = sum((album.folder / entry.path).is_file() for entry in album.photos)
    facts = {"folder": str(album.folder), "photos": len(album.photos), "in_place": there, "sets": len(album.anchors)}
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        missing = "all in place" if there == len(album.photos) else f"{len(album.photos) - there} not in place any more"
        print(
            f"{path}: an album of {len(album.photos)} photos below {album.folder} ({missing}), in {len(album.anchors)} "
            "sets. Use it with cicm inpaint --album."
        )
    return 0


def _print(site: str, inspection: Inspection) -> None:
    from rich.console import Console
    from rich.table import Table

    facts = inspection.to_dict()
    # Piped output is not cut to 80 columns.
    console = Console() if sys.stdout.isatty() else Console(width=120)
    size = f"{facts['sets']} sets of {facts['contexts']} contexts of {facts['channels']} channels"
    console.print(f"{site}: {facts['kind']}, {size}", highlight=False)
    if not facts["seeded"]:
        console.print("Empty: it has not been seeded yet, and changes nothing.\n")
        return
    table = Table()
    for column in ("set", "usage", "contexts in use", "norm", "within", "nearest set", "state"):
        table.add_column(column, justify="right")
    for row in facts["per_set"]:
        near = "-" if row["nearest_set"] is None else f"{row['nearest_set']} ({row['nearest_similarity']:.2f})"
        table.add_row(
            str(row["set"]),
            f"{100 * row['usage']:.1f} %",
            f"{row['contexts_in_use']} / {facts['contexts']}",
            f"{row['norm']:.3g}",
            "-" if row["within"] is None else f"{row['within']:.2f}",
            near,
            "starved" if row["starved"] else "in use",
        )
    console.print(table)
    console.print(_summary(facts) + "\n", highlight=False, soft_wrap=True)


def _summary(facts: dict) -> str:
    alike = [f"{name} sets {facts[name]:.2f}" for name in ("within", "between") if facts[name] is not None]
    return (
        f"In use: {facts['sets_in_use']} of {facts['sets']} sets, {facts['contexts_in_use']} of "
        f"{facts['sets'] * facts['contexts']} contexts; the largest set holds {100 * facts['largest_set']:.1f} %. "
        f"Similarity ({facts['similarity']}): {', '.join(alike) or 'one vector only'}."
    )
