"""`cicm look`: where a repair came from, as one HTML page; and the index of training photos that it asks."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError, Notice

DESCRIPTION = """Look inside a repair: which set of the memory each region read from, with which weights, how much
context the network estimated to need, and how much was missing. With an index it also shows the photos whose regions
are nearest to these contexts. The page is one HTML file that contains its pictures and loads nothing from elsewhere.

An index is made once for a set of weights, with --make-index. It says which photos each context is nearest to in the
finished network, not which photos were written to it during training; that was not recorded. An index contains file
names and thumbnails (not with --no-thumbnails). Check the licences of the photos before you share it.
"""

EXAMPLES = """examples:
  cicm look photo.jpg --mask mask.png -o page.html
  cicm look --make-index photos/train -o index.safetensors
  cicm look photo.jpg --mask mask.png --index index.safetensors -o page.html
  cicm look photo.jpg --mask mask.png --json > numbers.json
"""


def parser() -> ArgumentParser:
    """The verb's options."""
    usage = "cicm look PHOTO --mask MASK [--index INDEX] -o PAGE [options] | cicm look --make-index PHOTOS -o INDEX"
    made = verb_parser("look", DESCRIPTION, EXAMPLES, usage=usage)
    add = made.add_argument
    add("photo", type=str, nargs="?", metavar="PHOTO", help="the photo")
    add("--mask", type=str, metavar="MASK", help="a picture of the photo's size; white = fill")
    add("-o", "--output", type=str, metavar="FILE", help="file to write: a page (.html) or an index (.safetensors)")
    add("--index", type=str, metavar="INDEX", help="an index made with --make-index and the same weights")
    add("--json", action="store_true", help="print the numbers as JSON; with -o also write the page")
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm; default: the included weights")
    add("--make-index", type=str, metavar="PHOTOS", help="write an index of the photos in this folder")
    add("--no-thumbnails", action="store_true", help="for --make-index: file names and positions only")
    add("--overwrite", action="store_true", help="replace the output if it exists")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; returns the exit code."""
    options = parse(parser(), argv)
    making = options.make_index is not None
    if making == (options.photo is not None):
        raise InputError("name either a PHOTO to look at, or --make-index PHOTOS. See cicm look --help.")
    for name in ("mask", "index", "json") if making else ("no_thumbnails",):
        if getattr(options, name):
            word = "--" + name.replace("_", "-")
            raise InputError(f"{word} does not go with {'--make-index' if making else 'a PHOTO'}; leave it out.")
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", Notice)
        code = _make_index(options) if making else _look(options)
    for text in dict.fromkeys(str(one.message) for one in heard):
        print(f"cicm: warning: {text}", file=sys.stderr)
    return code


def _look(options: Namespace) -> int:
    # What can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.files import check_output, check_readable, write_atomic
    from cicm.photos.photo import check_mask_size, open_photo

    if options.mask is None:
        raise InputError("a PHOTO needs --mask MASK, a picture of the photo's size; white = fill.")
    if options.output is None and not options.json:
        raise InputError("say where the page goes, -o page.html, or ask for the numbers with --json.")
    for path, what in ((options.photo, "photo"), (options.mask, "mask"), (options.index, "index")):
        if path is not None:
            check_readable(path, what)
    photo, mask = open_photo(options.photo), open_photo(options.mask)
    check_mask_size(mask.size, photo.size)

    if options.output:
        check_output(options.output, endings=(".html",), overwrite=options.overwrite, what="page")

    from cicm.inference import Inpainter
    from cicm.look import look, numbers, page, read_index

    inpainter = Inpainter.from_pretrained(options.weights)
    index = read_index(options.index, inpainter.model) if options.index else None
    found = look(inpainter, photo, options.mask)
    if options.output:
        data = page(found, index).encode()
        write_atomic(options.output, data, overwrite=options.overwrite)
        print(f"wrote {options.output}, {len(data) / 2**20:.2f} MiB", file=sys.stderr)
    if options.json:
        print(json.dumps(numbers(found, index)))
    return 0


def _make_index(options: Namespace) -> int:
    from cicm.files import check_output

    if options.output is None:
        raise InputError("say where the index goes: -o index.safetensors.")
    check_output(options.output, endings=(".safetensors",), overwrite=options.overwrite, what="index")

    from cicm.assembly import load_weights
    from cicm.inference import choose_device
    from cicm.look import make_index, save_index
    from cicm.terminal import Progress

    model = load_weights(options.weights, choose_device("auto")).model
    with Progress(None, "photos") as progress:
        index = make_index(model, options.make_index, thumbnails=not options.no_thumbnails, progress=progress.update)
    target = save_index(index, options.output, overwrite=options.overwrite)
    facts = index.facts
    filled = sum(int((site.photo[..., 0] >= 0).sum()) for site in index.sites.values())
    contexts = sum(site.regions.size for site in index.sites.values())
    passed = f", {facts.photos_skipped} passed over" if facts.photos_skipped else ""
    print(
        f"{target}: {facts.photos_read} photos{passed}, {facts.regions} regions; {filled} of {contexts} contexts "
        f"have sources, from {len(index.photos)} photos; {target.stat().st_size / 2**20:.2f} MiB"
    )
    return 0
