"""`cicm remember`: look at one's photos once, so that repairs find among them those that show the same place."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser

DESCRIPTION = """Look at photos and write an album. In this file a repair finds the photos that show the same place, or
the same person, as a damaged photo. cicm inpaint --album ALBUM then copies pixels from them where they fit.

The album contains names, digests and features of the photos, not their pixels. The photos must stay where they are. A
file that can't be read is listed; the others are used. With --overwrite, photos that the old ALBUM already knows are
not looked at again.
"""

EXAMPLES = """examples:
  cicm remember photos -o album.safetensors
  cicm inpaint photo.jpg --mask mask.png --album album.safetensors -o repaired.jpg
  cicm remember photos -o album.safetensors --overwrite     (photos were added, moved or deleted)
  cicm remember holidays family -o album.safetensors        (several folders)
"""

TOLD = 20
"""Most skipped files that are printed one by one."""


def parser() -> ArgumentParser:
    """The verb's options."""
    made = verb_parser("remember", DESCRIPTION, EXAMPLES, usage="cicm remember PHOTOS... -o ALBUM [options]")
    add = made.add_argument
    add("photos", type=str, nargs="+", metavar="PHOTOS", help="folders of photos, searched with subfolders, or photos")
    add("-o", "--output", type=str, required=True, metavar="ALBUM", help="the .safetensors file to write")
    add("--overwrite", action="store_true", help="bring ALBUM up to date if it exists")
    add("--quiet", action="store_true", help="no progress bar")
    return made


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(parser(), argv)
    from cicm.files import check_output
    from cicm.locks import alone, lock_of

    started = time.perf_counter()
    output = check_output(
        options.output, endings=(".safetensors",), inputs=options.photos, overwrite=options.overwrite, what="album"
    )
    with alone(lock_of(output), f"another process writes {output}"):
        return _remember(options, output, started)


def _remember(options: Namespace, output: Path, started: float) -> int:
    """Bring the album up to date, which nobody else does meanwhile."""
    from cicm.conventions import InputError
    from cicm.exemplar.album import load_album, make_album, save_album
    from cicm.terminal import Progress

    before = None
    if output.exists():
        try:
            before = load_album(output)
        except InputError as error:
            print(f"cicm: {error} All photos are looked at.", file=sys.stderr)
    with Progress(None, "photos", quiet=options.quiet) as progress:
        album = make_album(options.photos, before=before, progress=progress.update)
    target = save_album(album, output, overwrite=options.overwrite)
    for path, reason in album.skipped[:TOLD]:
        print(f"cicm: skipped: {path}: {reason}", file=sys.stderr)
    if len(album.skipped) > TOLD:
        print(f"cicm: and {len(album.skipped) - TOLD} more", file=sys.stderr)
    rest = f", {len(album.skipped)} skipped" if album.skipped else ""
    rest += f", {len(album.doubles)} there twice" if album.doubles else ""
    print(
        f"{target}: {len(album.photos)} photos{rest}, {len(album.anchors)} sets; "
        f"{Path(target).stat().st_size / 2**20:.2f} MiB, {time.perf_counter() - started:.1f} s"
    )
    return 0
