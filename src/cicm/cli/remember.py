"""`cicm remember`: fill or extend a memory from one's own photos, without training."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.files import check_readable

DESCRIPTION = """Fill the memory of a model from a folder of photos, without training, and write it as a file, an album.
With cicm inpaint --album ALBUM a repair then reads from this memory instead of the model's own.

What to expect: with the included weights, no album that we measured changed a repair visibly (numbers are in
results/album.md). An album can only be used with the weights that it was made with. It contains no pictures and no file
names; the photos are not needed afterwards.
"""

EXAMPLES = """examples:
  cicm remember photos -o album.safetensors
  cicm inpaint photo.jpg --mask mask.png --album album.safetensors -o repaired.jpg
  cicm remember photos -o album.safetensors --extend           (add to what the model learned)
  cicm remember more -o both.safetensors --album album.safetensors
  cicm remember photos -o large.safetensors --sets 26 --contexts 80
"""

TOLD = 20
"""Most files passed over that are printed one by one."""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("remember", DESCRIPTION, EXAMPLES, usage="cicm remember PHOTOS -o ALBUM [options]")
    add = made.add_argument
    add("photos", type=str, metavar="PHOTOS", help="a folder of complete photos, or one photo")
    add("-o", "--output", type=str, required=True, metavar="ALBUM", help="the .safetensors file to write")
    add("--overwrite", action="store_true", help="replace ALBUM if it exists")
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm (default: included)")
    add("--extend", action="store_true", help="start from the model's own memory instead of an empty one")
    add("--album", type=str, metavar="FILE", help="start from this album")
    add("--sets", type=int, metavar="L", help="number of sets in a new memory (default: as in the model)")
    add("--contexts", type=int, metavar="K", help="contexts in each set (default: as in the model)")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(parser(), argv)
    # What can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.photos.headers import find_images

    for path, what in ((options.weights, "weights"), (options.album, "album")):
        if path is not None:
            check_readable(path, what)
    source = Path(options.photos)
    photos = [check_readable(source, "photo")] if source.is_file() else find_images(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, about how a file is made
        return _remember(options, photos)


def _remember(options: Namespace, photos: Sequence[Path]) -> int:
    from cicm.assembly import load_weights
    from cicm.assembly.album import load_album, save_album
    from cicm.files import check_output
    from cicm.inference import choose_device
    from cicm.inference.remember import remember
    from cicm.terminal import Progress

    started = time.perf_counter()
    inputs = [path for path in (options.weights, options.album) if path]
    output = check_output(
        options.output, endings=(".safetensors",), inputs=inputs, overwrite=options.overwrite, what="album"
    )
    model = load_weights(options.weights, choose_device("auto")).model
    album = load_album(options.album) if options.album else None
    with Progress(None, "photos, in two passes") as progress:
        done = remember(
            model,
            photos,
            sets=options.sets,
            contexts=options.contexts,
            extend=options.extend,
            album=album,
            progress=progress.update,
        )
    target = save_album(done.album, output, overwrite=options.overwrite)
    for passed in done.skipped[:TOLD]:
        print(f"cicm: passed over: {passed.path}: {passed.reason}", file=sys.stderr)
    if len(done.skipped) > TOLD:
        print(f"cicm: and {len(done.skipped) - TOLD} more", file=sys.stderr)
    facts = done.album.facts
    sizes = ", ".join(f"{p.config.sets} sets of {p.config.contexts} at {s}" for s, p in done.album.pages.items())
    rest = f", {len(done.skipped)} passed over" if done.skipped else ""
    rest += f", {len(done.doubles)} there twice" if done.doubles else ""
    print(
        f"{target}: {facts.photos} photos{rest}, {facts.regions} regions; {sizes}; "
        f"{target.stat().st_size / 2**20:.2f} MiB, {time.perf_counter() - started:.1f} s"
    )
    return 0
