"""`cicm weights`: list the files of published weights, say where they are, and fetch one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError
from cicm.metrics.published import PUBLISHED, PublishedFile, cache_folder, check, fetch, find, folders, published
from cicm.terminal import Progress

_MB = 1_000_000

DESCRIPTION = """\
List the published weights that some metrics and training losses need: their purpose, licence, and whether this machine
has them. cicm looks in the folder named by the variable CICM_WEIGHTS, in the cache and in the package. A file is used
only if its SHA-256 is the published one. If a file is missing, the metric says so; random weights are never used.
"""

EXAMPLES = """\
examples:
  cicm weights                             the list
  cicm weights --verify                    the list, with all checksums compared
  cicm weights fetch vgg16                 download one file into the cache
  cicm weights fetch vgg16 --to DIR        into this folder; name it in CICM_WEIGHTS
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("weights", DESCRIPTION, EXAMPLES, usage="cicm weights [list | fetch NAME] [options]")
    made.add_argument("action", type=str, nargs="?", choices=["list", "fetch"], default="list", help="list or fetch")
    made.add_argument("name", type=str, nargs="?", help="for fetch: a name from the list")
    made.add_argument("--verify", action="store_true", help="for list: compare the checksum of every file")
    made.add_argument("--to", type=str, metavar="DIR", help="for fetch: the folder to write to (default: the cache)")
    made.add_argument("--overwrite", action="store_true", help="for fetch: replace a damaged file")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if options.action == "fetch":
        if options.name is None:
            raise InputError("fetch takes the name of a file: cicm weights fetch NAME. `cicm weights` lists them.")
        if options.verify:
            raise InputError("fetch always verifies; --verify belongs to the list.")
        return _fetch(options.name, options.to, options.overwrite)
    if options.name is not None or options.to is not None or options.overwrite:
        raise InputError("list takes no name, --to or --overwrite; to download use: cicm weights fetch NAME.")
    return _list(options.verify)


def _list(verify: bool) -> int:
    damaged = []
    for file in PUBLISHED.values():
        at = find(file)
        where = "missing" if at is None else str(at)
        if at is not None and verify:
            try:
                check(at, file)
                where += "  (checksum as published)"
            except InputError as error:
                damaged.append(f"{file.name}: {error}")
                where += "  (NOT the published file)"
        print(file.name)
        users = ", ".join(file.used_by + file.losses)
        print(f"  {file.origin}; {_size(file.num_bytes)}; {file.licence}; for {users}")
        print(f"  {where}")
        if at is None:
            print(f"  get it: cicm weights fetch {file.name}")
    print(f"\nlooked in: {', '.join(str(folder) for folder in folders())}")
    for line in damaged:
        print(f"cicm: error: {line}", file=sys.stderr)
    return 1 if damaged else 0


def _fetch(name: str, folder: str | None, overwrite: bool) -> int:
    file = published(name)
    target = cache_folder() if folder is None else Path(folder)
    if file.url is None or ((target / file.filename).exists() and not overwrite):
        return _say(fetch(file, target), file)  # nothing to download: no bar
    with Progress(file.num_bytes // _MB, f"MB of {file.filename}") as bar:
        at = fetch(file, target, overwrite=overwrite, progress=lambda received, _: bar.update(received // _MB))
    return _say(at, file)


def _say(at: Path, file: PublishedFile) -> int:
    print(f"{at}  ({_size(file.num_bytes)}, checksum as published, {file.licence})")
    return 0


def _size(num_bytes: int) -> str:
    return f"{num_bytes / _MB:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.0f} kB"
