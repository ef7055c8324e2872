"""`cicm remember`: fill or extend a memory from one's own photos, without training."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

DESCRIPTION = """Fill the memory of a model from a folder of photos, without training, and write it as an album. With
cicm inpaint --album ALBUM, repairs read from these photos rather than from those the model was trained on.

What to expect: with the weights that ship, no album that we measured changed a repair so that one could see it
(results/album.md has the numbers). An album belongs to the weights that it was made with, holds no picture and no name
of a file, and needs no copy of the photos afterwards.
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
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm; default: those that ship")
    add("--extend", action="store_true", help="add to the model's own memory rather than begin an empty one")
    add("--album", type=str, metavar="FILE", help="add to this album")
    add("--sets", type=int, metavar="L", help="sets of a new memory; default: as many as the model's")
    add("--contexts", type=int, metavar="K", help="contexts in each set; default: as many as the model's")
    add(
        "--side",
        type=int,
        default=128,
        metavar="PIXELS",
        help="of the windows that photos are seen in, best as training",
    )
    add("--on-error", type=str, default="skip", metavar="skip|stop", help="at a file that can't be used")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--quiet", action="store_true", help="print errors only")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(parser(), argv)
    # What can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.files import check_readable
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
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from cicm.assembly import load_weights
    from cicm.assembly.album import load_album, save_album
    from cicm.evaluation.records import check_output
    from cicm.inference import choose_device
    from cicm.inference.remember import remember

    started = time.perf_counter()
    output = Path(options.output)
    check_output(output, ".safetensors", overwrite=options.overwrite)
    if any(output.exists() and output.samefile(path) for path in (options.weights, options.album) if path):
        raise InputError(f"{output} is read and would be overwritten; name another output.")
    model = load_weights(options.weights, choose_device(options.device)).model
    album = load_album(options.album) if options.album else None
    columns = (TextColumn("photos, two passes"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    hidden = options.quiet or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden) as bar:
        task = bar.add_task("", total=None)
        done = remember(
            model,
            photos,
            sets=options.sets,
            contexts=options.contexts,
            extend=options.extend,
            album=album,
            side=options.side,
            on_error=options.on_error,
            progress=lambda number, total: bar.update(task, completed=number, total=total),
        )
    target = save_album(done.album, output, overwrite=options.overwrite)
    if options.quiet:
        return 0
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
