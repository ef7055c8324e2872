"""`cicm models`: list the models and the published weights, say where they are, and download one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError
from cicm.inference.models import RELEASED, SHIPPED, find_model, get_model, how_to_get, released
from cicm.metrics.published import PUBLISHED, published
from cicm.published import OFFLINE, PublishedFile, cache_folder, check, fetch, find, folders
from cicm.terminal import Progress

_MB = 1_000_000

DESCRIPTION = f"""\
List the models that fill photos and the weights that some metrics and training losses need: what they are, their size
and terms, and whether this machine has them. A model in the list is used with cicm inpaint --model NAME.

`cicm models get NAME` downloads one. A file is used only if its SHA-256 is the published one. A released model is
converted; nothing in its file is run. An interrupted download goes on where it stopped. Proxies are taken from the
environment; with {OFFLINE}=1 nothing is downloaded. cicm looks in the folder that CICM_WEIGHTS names and in the cache.
"""

EXAMPLES = """\
examples:
  cicm models                                    the list
  cicm models --verify                           the list, with all checksums compared
  cicm models get lama                           download, check and convert
  cicm models get migan --from migan_512_places2.pt     a file that you have
  cicm models get vgg16 --to DIR                 into this folder; name it in CICM_WEIGHTS
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("models", DESCRIPTION, EXAMPLES, usage="cicm models [list | get NAME] [options]")
    made.add_argument("action", type=str, nargs="?", choices=["list", "get"], default="list", help="list or get")
    made.add_argument("name", type=str, nargs="?", help="for get: a name from the list")
    made.add_argument("--from", type=str, dest="source", metavar="FILE", help="for get: a model's file that you have")
    made.add_argument("--sha256", type=str, metavar="HEX", help="for get: of a model's file that is not a known one")
    made.add_argument("--to", type=str, metavar="DIR", help="for get: the folder to write to (default: the cache)")
    made.add_argument("--verify", action="store_true", help="for list: compare the checksum of every file")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    if options.action == "get":
        if options.name is None:
            raise InputError("get takes a name: cicm models get NAME. `cicm models` lists them.")
        if options.verify:
            raise InputError("get always verifies; --verify belongs to the list.")
        if options.name in PUBLISHED:
            if options.source or options.sha256:
                raise InputError(
                    f"--from and --sha256 are for models; put {options.name} into a folder of CICM_WEIGHTS."
                )
            return _get_file(options.name, options.to)
        return _get_model(options.name, options.source, options.sha256, options.to)
    if any(value is not None for value in (options.name, options.source, options.sha256, options.to)):
        raise InputError("list takes --verify alone; to download use: cicm models get NAME.")
    return _list(options.verify)


def _list(verify: bool) -> int:
    print("models, for cicm inpaint --model NAME\n")
    print(f"{SHIPPED}\n  the default; ships with the package; for non-commercial use (docs/model-card.md)")
    for model in RELEASED.values():
        file = model.files[0]
        print(model.name)
        print(f"  {model.about}; {_size(file.num_bytes)}; {file.licence}")
        if (at := find_model(model)) is not None:
            print(f"  {at}")
        else:
            unknown = "" if file.sha256 else "; no published checksum is known"
            print(f"  not here{unknown}. {how_to_get(model)}")
    print("\nfiles, for metrics and training losses\n")
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
        print(f"  {file.origin}; {_size(file.num_bytes)}; {file.licence}; for {', '.join(file.used_by)}")
        print(f"  {where}")
        if at is None:
            print(f"  get it: cicm models get {file.name}")
    print(f"\nlooked in: {', '.join(str(folder) for folder in folders())}, and this package")
    for line in damaged:
        print(f"cicm: error: {line}", file=sys.stderr)
    return 1 if damaged else 0


def _get_file(name: str, folder: str | None) -> int:
    file = published(name)
    target = cache_folder() if folder is None else Path(folder)
    if file.url is None or (target / file.filename).exists():
        at = fetch(file, target)  # nothing to download: no bar
    else:
        with _bar(file) as bar:
            at = fetch(file, target, progress=lambda received, _: bar.update(received // _MB))
    print(f"{at}  ({_size(file.num_bytes)}, checksum as published, {file.licence})")
    return 0


def _get_model(name: str, source: str | None, sha256: str | None, folder: str | None) -> int:
    model = released(name)
    file = next((file for file in model.files if file.url), model.files[0])
    print(f"{name}: {model.about}\nterms: {file.licence}", flush=True)
    if source is None and file.url:
        print(f"from: {file.url}", flush=True)
    with _bar(file) as bar:
        at, notes = get_model(
            name, source, sha256=sha256, folder=folder, progress=lambda received, _: bar.update(received // _MB)
        )
    for note in notes:
        print(f"cicm: note: {note}", file=sys.stderr)
    print(f"{at}  ({_size(at.stat().st_size)})")
    return 0


def _bar(file: PublishedFile) -> Progress:
    return Progress(file.num_bytes // _MB or None, f"MB of {file.filename}")


def _size(num_bytes: int) -> str:
    if not num_bytes:
        return "size not known"
    return f"{num_bytes / _MB:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.0f} kB"
