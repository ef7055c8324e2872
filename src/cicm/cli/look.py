"""`cicm look`: where a repair came from, as one HTML page; and the index of training photos that it asks."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

DESCRIPTION = """Look inside a repair: which region read from which set of the memory, with which weights, how much
context the network thought it needed and how much was missing; and which photos' regions those contexts are nearest to.
Writes one HTML file that holds all its pictures and asks for nothing outside of itself.

The photos come from an index, made once beside the weights with --make-index. It shows what each context is nearest to
under the finished network; what was written during training was not recorded. It holds file names, and thumbnails
unless --no-thumbnails is given: check the photos' licences before you pass it on.
"""

EXAMPLES = """examples:
  cicm look photo.jpg --mask mask.png -o page.html
  cicm look --make-index photos/train -o index.safetensors
  cicm look photo.jpg --mask mask.png --index index.safetensors -o page.html
  cicm look photo.jpg --mask mask.png --json > numbers.json
"""

INDEXING = {"keep": 4, "side": 128, "limit": 0, "no_thumbnails": False}
LOOKING = {"mask": None, "index": None, "json": False, "invert": False, "margin": 128, "max_side": 1024}


def parser() -> ArgumentParser:
    """The verb's options."""
    usage = "cicm look PHOTO --mask MASK [--index INDEX] -o PAGE [options] | cicm look --make-index PHOTOS -o INDEX"
    made = verb_parser("look", DESCRIPTION, EXAMPLES, usage=usage)
    add = made.add_argument
    add("photo", type=str, nargs="?", metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, BMP or a GIF of one picture")
    add("--mask", type=str, metavar="MASK", help="a picture of the same size, white = fill")
    add("-o", "--output", type=str, metavar="FILE", help="the page (.html) or the index (.safetensors) to write")
    add("--index", type=str, metavar="INDEX", help="made with --make-index and the same weights")
    add("--json", action="store_true", help="print the numbers as JSON; with -o the page is written too")
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm; default: those that ship")
    add("--invert", action="store_true", help="black in the mask = fill")
    add("--margin", type=int, default=LOOKING["margin"], metavar="PIXELS", help="as in cicm inpaint")
    add("--max-side", type=int, default=LOOKING["max_side"], metavar="PIXELS", help="as in cicm inpaint")
    add("--make-index", type=str, metavar="PHOTOS", help="a folder: go over its photos and write an index")
    add("--keep", type=int, default=INDEXING["keep"], metavar="M", help="index: regions kept for each context")
    add("--side", type=int, default=INDEXING["side"], metavar="PIXELS", help="index: windows, best as training crops")
    add("--limit", type=int, default=INDEXING["limit"], metavar="N", help="index: so many photos at most, 0 is all")
    add("--no-thumbnails", action="store_true", help="index: names and places only")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--overwrite", action="store_true", help="replace the output if it exists")
    add("--quiet", action="store_true", help="print errors and warnings only")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(parser(), argv)
    making = options.make_index is not None
    if making == (options.photo is not None):
        raise InputError("name either a PHOTO to look at, or --make-index PHOTOS. See cicm look --help.")
    for name, default in (LOOKING if making else INDEXING).items():
        if getattr(options, name) != default:
            word = "--" + name.replace("_", "-")
            raise InputError(f"{word} does not go with {'--make-index' if making else 'a PHOTO'}; leave it out.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _make_index(options) if making else _look(options)


def _look(options: Namespace) -> int:
    # What can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.files import check_readable
    from cicm.photos.photo import check_mask_size, open_photo

    if options.mask is None:
        raise InputError("a PHOTO needs --mask MASK, a picture of the same size, white = fill.")
    if options.output is None and not options.json:
        raise InputError("say where the page goes, -o page.html, or ask for the numbers with --json.")
    for path, what in ((options.photo, "photo"), (options.mask, "mask"), (options.index, "index")):
        if path is not None:
            check_readable(path, what)
    photo, mask = open_photo(options.photo), open_photo(options.mask)
    check_mask_size(mask.size, photo.size)

    from cicm.files import check_output, write_atomic
    from cicm.inference import Inpainter
    from cicm.look import look, numbers, page, read_index

    output = Path(options.output) if options.output else None
    if output:
        check_output(output, endings=[".html"], overwrite=options.overwrite)
    inpainter = Inpainter.from_pretrained(
        options.weights, device=options.device, margin=options.margin, max_side=options.max_side
    )
    index = read_index(options.index, inpainter.model) if options.index else None
    found = look(inpainter, photo, options.mask, invert=options.invert)
    if output:
        data = page(found, index).encode()
        write_atomic(output, data)
        if not options.quiet:
            print(f"wrote {output}, {len(data) / 2**20:.2f} MiB", file=sys.stderr)
    if options.json:
        print(json.dumps(numbers(found, index)))
    return 0


def _make_index(options: Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from cicm.assembly import load_weights
    from cicm.files import check_output
    from cicm.inference import choose_device
    from cicm.look import make_index, save_index

    if options.output is None:
        raise InputError("say where the index goes: -o index.safetensors.")
    check_output(Path(options.output), endings=[".safetensors"], overwrite=options.overwrite)
    model = load_weights(options.weights, choose_device(options.device)).model
    with Progress(
        console=Console(stderr=True), transient=True, disable=options.quiet or not sys.stderr.isatty()
    ) as bar:
        task = bar.add_task("photos", total=None)
        index = make_index(
            model,
            options.make_index,
            keep=options.keep,
            side=options.side,
            limit=options.limit,
            thumbnails=not options.no_thumbnails,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    target = save_index(index, options.output, overwrite=options.overwrite)
    if not options.quiet:
        facts = index.facts
        filled = sum(int((site.photo[..., 0] >= 0).sum()) for site in index.sites.values())
        contexts = sum(site.regions.size for site in index.sites.values())
        passed = f", {facts.photos_skipped} passed over" if facts.photos_skipped else ""
        print(
            f"{target}: {facts.photos_read} photos{passed}, {facts.regions} regions; {filled} of {contexts} contexts "
            f"have sources, from {len(index.photos)} photos; {target.stat().st_size / 2**20:.2f} MiB"
        )
    return 0
