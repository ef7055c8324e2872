"""`cicm inpaint`: fill the holes of one photo and write it back as the file it was."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser

DESCRIPTION = """Fill the holes of a photo. In the mask white means fill; it has the photo's size.

The result has the photo's size, mode, depth, EXIF, colour profile, resolution and alpha. Outside the hole its pixels
are the photo's bit for bit in PNG, TIFF, BMP, GIF and lossless WebP. JPEG and lossy WebP compress every pixel anew
(JPEG with the photo's own settings): to keep the known pixels exactly, write .png. An embedded preview, which shows the
old picture, is left out. The output's ending names its format; nothing is written unless all of it is.
"""

EXAMPLES = """examples:
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg
  cicm inpaint photo.jpg --mask mask.png -o repaired.png       (known pixels bit for bit)
  cicm inpaint scan.tif --mask keep.png --invert -o clean.tif  (black in the mask = fill)
"""


def build_parser() -> ArgumentParser:
    parser = verb_parser("inpaint", DESCRIPTION, EXAMPLES, usage="cicm inpaint PHOTO --mask MASK -o OUTPUT [options]")
    add = parser.add_argument
    add("photo", type=str, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, BMP or a GIF of one picture")
    add("--mask", type=str, required=True, metavar="MASK", help="a picture of the same size, white = fill")
    add("-o", "--output", type=str, required=True, metavar="OUTPUT", help="the file to write; never PHOTO itself")
    add("--invert", action="store_true", help="black in the mask = fill")
    add("--overwrite", action="store_true", help="replace OUTPUT if it exists")
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm; default: those that ship")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--margin", type=int, default=128, metavar="PIXELS", help="least width of known pixels seen around the hole")
    add("--max-side", type=int, default=1024, metavar="PIXELS", help="a longer part is reduced for the network")
    add("--quiet", action="store_true", help="print errors and warnings only")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(build_parser(), argv)
    with _warnings_as_lines():
        return _inpaint(options)


def _inpaint(options: Namespace) -> int:
    started = time.perf_counter()

    # Everything that can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.data.formats import ENDINGS, fitted
    from cicm.data.photos import check_mask_size, check_output, check_readable, open_photo, save_photo

    inputs = [check_readable(options.photo, "photo"), check_readable(options.mask, "mask")]
    if options.weights:
        inputs.append(check_readable(options.weights, "weights"))
    output = check_output(options.output, tuple(inputs), overwrite=options.overwrite)
    with _libraries_silent():
        photo, mask = open_photo(options.photo), open_photo(options.mask)
    check_mask_size(mask.size, photo.size)
    fitted(photo.pixels, ENDINGS[output.suffix.lower()])

    from cicm.inference import Inpainter

    inpainter = Inpainter.from_pretrained(
        options.weights, device=options.device, margin=options.margin, max_side=options.max_side
    )
    repaired, report = inpainter.fill_photo(photo, options.mask, invert=options.invert)
    notes = (*photo.notes, *save_photo(repaired, output, overwrite=options.overwrite))
    if not options.quiet:
        for note in notes:
            print(f"cicm: note: {note}", file=sys.stderr)
        reduced = f", seen at 1/{report.reduced:.2g}" if report.reduced > 1 else ""
        print(
            f"{output}: {report.width}x{report.height}, {100 * report.missing:.3g} % filled{reduced}, "
            f"{time.perf_counter() - started:.1f} s on {report.device}"
        )
    return 0


@contextmanager
def _libraries_silent() -> Iterator[None]:
    """libtiff writes its own complaints straight to file descriptor 2; the error that we raise says it in one line."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield
        return
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Our own warnings as one line on stderr; those of the libraries, about how a file is made, not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def show(message: Warning | str, *_: object, **__: object) -> None:
            print(f"cicm: warning: {message}", file=sys.stderr)

        warnings.showwarning = show
        warnings.filterwarnings("always", message=".* of the picture would be filled")
        yield
