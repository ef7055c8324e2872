"""`cicm data`: the data sets that are known, and whether a copy of one is complete."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

if TYPE_CHECKING:
    from cicm.datasets import Layout
    from cicm.datasets.checking import Report

SHOWN = 10

DESCRIPTION = """List the data sets whose layout is known, or check a copy of one: which splits exist, how many photos
were found and how many were expected, what is wrong, and what to do. Nothing is changed or downloaded.

Exit code: 0 complete, 1 incomplete or not as published, 2 wrong input.
"""

EXAMPLES = """examples:
  cicm data list                                  names, counts, terms
  cicm data list celeba                           which files must be where
  cicm data check celeba photos/celeba            names and numbers, and the headers of some photos
  cicm data check places2 photos/places2 --split val --read        decode every photo of one split
  cicm data check nvidia-masks masks --json

To use a checked copy: cicm train RECIPE --data ROOT --layout NAME, cicm evaluate --images ROOT --layout NAME.
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("data", DESCRIPTION, EXAMPLES, usage="cicm data list [NAME] | check NAME ROOT [options]")
    add = made.add_argument
    add("action", type=str, nargs="?", choices=["list", "check"], default="list", help="list or check")
    add("name", type=str, nargs="?", help="name of a data set")
    add("root", type=str, nargs="?", help="for check: the folder of the data set")
    add("--split", type=str, nargs="+", default=[], metavar="SPLIT", help="only these splits (default: all)")
    add("--quick", action="store_true", help="check names and numbers only; open no file")
    add("--read", action="store_true", help="decode every picture; list those that cannot be read")
    add("--json", action="store_true", help="print JSON, with up to a thousand names for each problem")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if options.quick and options.read:
        raise InputError("--quick opens no file and --read opens all; choose one.")
    if options.action == "list":
        if options.root or options.split or options.quick or options.read:
            raise InputError("list looks at no folder; to look at one: cicm data check NAME ROOT.")
        return _list(options.name, options.json)
    if not (options.name and options.root):
        raise InputError("check takes a name and a folder: cicm data check NAME ROOT. `cicm data` lists the names.")

    from cicm.datasets import layout_named
    from cicm.datasets.checking import check
    from cicm.terminal import Progress

    layout = layout_named(options.name)
    splits = [part for word in options.split for part in word.split(",") if part]
    with Progress(None, "pictures") as progress:
        report = check(
            layout,
            options.root,
            splits,
            depth="names" if options.quick else "read" if options.read else "sample",
            progress=lambda split, done, total: progress.update(done, total, split),
        )
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        _tell(report)
    return 0 if report.complete else 1


def _list(name: str | None, as_json: bool) -> int:
    from cicm.datasets import LAYOUTS, layout_named

    layouts = [layout_named(name)] if name else list(LAYOUTS.values())
    if as_json:
        print(json.dumps([_plain(layout) for layout in layouts], indent=2))
        return 0
    for layout in layouts:
        counts = ", ".join(f"{split} {count:,}" if count else split for split, count in layout.counts.items())
        print(f"{layout.name}\n  {layout.title}\n  {layout.kind + ':':<8}{counts}\n  terms:  {layout.terms}")
        if name:
            for title, texts in (
                ("expects", layout.expects),
                ("from", (layout.get,)),
                ("in the paper", (layout.paper,)),
            ):
                print(f"  {title}:", *texts, sep="\n    ")
            if layout.labels:
                print(f"  label maps: {', '.join(layout.labels)}")
    return 0


def _plain(layout: Layout) -> dict[str, object]:
    names = ("name", "title", "kind", "counts", "expects", "get", "terms", "paper", "labels", "size")
    return {name: getattr(layout, name) for name in names}


def _tell(report: Report) -> None:
    from cicm.terminal import shown

    print(f"{report.layout} in {shown(report.root)}: {report.title}")
    for split in report.splits:
        number = f"{split.found:,}" + (f" of {split.expected:,}" if split.expected else "")
        more = "" if split.labels is None else f", {split.labels:,} labels"
        more += f", {split.opened:,} opened" if split.opened else ""
        more += f", {split.sizes}" if split.sizes else ""
        print(f"  {split.name:<6} {number} {report.kind}{more}")
    for note in report.notes:
        print(f"  note: {note}")
    for problem in report.problems:
        print(f"  wrong: {problem.split + ': ' if problem.split else ''}{problem.what}. {problem.do}")
        for path in problem.paths[:SHOWN]:
            print(f"    {shown(path)}")
        if (left := max(problem.count, len(problem.paths)) - SHOWN) > 0 and problem.paths:
            print(f"    and {left:,} more, see --json")
    print("complete" if report.complete else "not complete, or not as published")
