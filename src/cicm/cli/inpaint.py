"""`cicm inpaint`: fill the holes of a photo, or of a folder of photos, and write each back as the file it was."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import box_of, colour_of, parse, polygon_of, verb_parser
from cicm.conventions import InputError, Notice
from cicm.files import check_output, check_readable
from cicm.inference.settings import STRATEGIES, FillSettings
from cicm.terminal import libraries_silent

if TYPE_CHECKING:
    from cicm.folders import MaskSource
    from cicm.inference.painter import PictureInpainter
    from cicm.photos.marking import Marks

DESCRIPTION = """Fill the holes of a photo, or of a folder of photos. In a mask, of the photo's size, white means fill.

The result has the photo's size, mode, depth, EXIF, colour profile, resolution and alpha. Outside the hole its pixels
are the photo's bit for bit in PNG, TIFF, BMP, GIF and lossless WebP. JPEG, lossy WebP, AVIF and HEIC compress every
pixel anew (JPEG with the photo's own settings): write .png to keep the known pixels exactly. An embedded
preview shows the old picture, so it is left out. The output's ending names its format. An output is written whole or
not at all.

Of a folder all photos are filled, also those in its subfolders. OUTPUT gets the same tree. A photo that fails is
listed; the run continues. The same command goes on where a killed run stopped, and does no photo twice. Exit code:
0 all done, 1 some failed, 2 the call was wrong.
"""

EXAMPLES = """examples:
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg
  cicm inpaint photo.jpg --mask mask.png -o repaired.png       (known pixels bit for bit)
  cicm inpaint scan.tif --mask keep.png --invert -o clean.tif  (black in the mask = fill)
  cicm inpaint photo.jpg --box 40,60,120,80 -o repaired.jpg    (no mask: 120 wide, 80 high, at 40, 60)
  cicm inpaint photos --masks masks -o repaired                (photos/sub/a.jpg, masks/sub/a.png)
  cicm inpaint photos --mask logo.png -o repaired --dry-run    (one mask for all; look before)
  cicm inpaint photos --mask-suffix _mask -o repaired --grow 5 --report run.csv
"""

_SOURCES = ("mask", "masks", "mask_suffix", "mask_alpha", "mask_color", "boxes", "box", "polygon")
"""Options that say where to fill: one of them is given; only boxes and polygons go together."""

_FOLDER_ONLY = {
    "masks": None,
    "mask_suffix": None,
    "boxes": None,
    "format": None,
    "missing": "fail",
    "shard": "1/1",
    "limit": None,
    "report": None,
    "dry_run": False,
    "workers": None,
    "batch": None,
    "ram": 2048,
    "engine": "own",
    "address": None,
}
"""Options that mean nothing for a single photo, and their defaults."""


def build_parser() -> ArgumentParser:
    """The verb's options."""
    usage = "cicm inpaint PHOTO --mask MASK -o OUTPUT [options]"
    parser = verb_parser("inpaint", DESCRIPTION, EXAMPLES, usage=usage)
    add = parser.add_argument
    add("photo", type=str, metavar="PHOTO", help="JPEG, PNG, WebP, TIFF, BMP, AVIF, a GIF of one picture; or a folder")
    add("-o", "--output", type=str, required=True, metavar="OUTPUT", help="the file to write, never PHOTO; or a folder")
    add("--overwrite", action="store_true", help="replace OUTPUT, or the results in it, if they exist")
    add("--quiet", action="store_true", help="print errors and warnings only")

    add = parser.add_argument_group("where to fill: one of these").add_argument
    add("--mask", type=str, metavar="FILE", help="a picture of the same size, white = fill; for a folder, one for all")
    add("--mask-alpha", action="store_true", help="where the photo is transparent")
    add("--mask-color", type=str, metavar="RRGGBB", help="where the photo has this colour, such as ff00ff")
    add("--box", action="append", default=[], metavar="X,Y,W,H", help="one photo: left, top, width, height; repeatable")
    add("--polygon", action="append", default=[], metavar="X,Y,X,Y,...", help="one photo: its corners; repeatable")
    add("--masks", type=str, metavar="FOLDER", help="mirrors that of the photos: a.jpg has a.png, or any other ending")
    add("--mask-suffix", type=str, metavar="TEXT", help="masks beside the photos: with _mask, a.jpg has a_mask.png")
    add("--boxes", type=str, metavar="FILE", help="CSV or JSON with photo, left, top, right, bottom; several rows each")
    add("--invert", action="store_true", help="fill what would be kept: black in the mask = fill")
    add("--grow", type=int, default=0, metavar="PIXELS", help="make holes larger to all sides")
    add("--mask-tolerance", type=int, default=8, metavar="0-255", help="for --mask-color: most difference in a channel")

    default = FillSettings()
    add = parser.add_argument_group("how to fill").add_argument
    add("--weights", type=str, metavar="FILE", help="a .safetensors file of cicm, or .onnx; default: those that ship")
    add("--album", type=str, metavar="FILE", help="read from these photos: made by cicm remember, with these weights")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--strategy", type=str, default=default.strategy, metavar="NAME", help=", ".join(STRATEGIES))
    add(
        "--margin",
        type=int,
        default=default.margin,
        metavar="PIXELS",
        help="known pixels seen around the hole, at least",
    )
    add("--max-side", type=int, default=default.max_side, metavar="PIXELS", help="longest side that the network sees")
    add("--feather", type=int, default=default.feather, metavar="PIXELS", help="soften the border, inside the hole")

    add = parser.add_argument_group("folders").add_argument
    add("--dry-run", action="store_true", help="count, look at headers, time three photos; write nothing")
    add("--format", type=str, metavar="NAME", help="of all results: png, jpg, webp, tif, ...; default: each as it was")
    add("--missing", type=str, default="fail", metavar="fail|skip", help="what a photo without a mask does")
    add("--report", type=str, metavar="FILE", help="one row for each photo, .jsonl or .csv")
    add("--shard", type=str, default="1/1", metavar="I/N", help="do one part of N, for several machines")
    add("--limit", type=int, metavar="N", help="fill at most so many photos; failures do not count")
    add("--workers", type=int, metavar="N", help="threads, or processes of Ray; default: by cores and GPUs")
    add("--batch", type=int, metavar="N", help="most pictures in one forward; default: 1 on a CPU, else 8")
    add("--ram", type=int, default=2048, metavar="MIB", help="most that the pictures in work take, about")
    add("--engine", type=str, default="own", metavar="own|ray", help="ray deals the photos out to other machines")
    add("--address", type=str, metavar="HOST:PORT", help="of a Ray cluster; default: start Ray on this machine")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    for word in argv:
        if word.split("=")[0] in ("--image", "--model"):
            raise InputError(
                f"cicm has no {word.split('=')[0]}. Write: cicm inpaint PHOTO --mask MASK -o OUTPUT, where PHOTO may "
                "be a folder. Name a file of weights with --weights."
            )
    options = parse(build_parser(), argv)
    if options.mask and os.path.isdir(options.mask) and os.path.isdir(options.photo):
        options.mask, options.masks = None, options.mask
    _check_source(options)
    if _exported(options) and options.album:
        raise InputError("--album needs torch: an exported model has one memory for good. Use .safetensors weights.")
    for name in ("weights", "album"):
        if options[name]:
            check_readable(options[name], name)
    with _warnings_as_lines(sys.stderr):
        if os.path.isdir(options.photo):
            from cicm.cli.inpaint_folder import inpaint_folder

            return inpaint_folder(options, _mask_source(options), inpainter_of)
        return _inpaint(options)


def _exported(options: Namespace) -> bool:
    return bool(options.weights) and options.weights.lower().endswith(".onnx")


def inpainter_of(options: Namespace) -> PictureInpainter:
    """The weights and the way of filling that the options ask for; loads what runs the network."""
    settings = FillSettings(
        margin=options.margin, max_side=options.max_side, strategy=options.strategy, feather=options.feather
    )
    if _exported(options):
        from cicm.export.onnx_runtime import OnnxInpainter

        return OnnxInpainter.from_file(options.weights, device=options.device, settings=settings)
    from cicm.inference import Inpainter

    return Inpainter.from_pretrained(options.weights, device=options.device, album=options.album, settings=settings)


def _mask_source(options: Namespace) -> MaskSource:
    """What marks the photos of a folder, of the options; looks at no file."""
    from cicm.folders import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, OneMask

    how = {"invert": options.invert, "grow": options.grow}
    if options.mask:
        return OneMask(Path(options.mask), **how)
    if options.masks:
        return MaskFolder(Path(options.masks), **how)
    if options.mask_suffix:
        return MaskBeside(options.mask_suffix, **how)
    if options.mask_color:
        return MaskColour(colour_of(options.mask_color), options.mask_tolerance, **how)
    if options.box or options.polygon:
        raise InputError("--box and --polygon are for one photo. For a folder, list boxes in a file: --boxes FILE.")
    return MaskBoxes(Path(options.boxes), **how) if options.boxes else MaskAlpha(**how)


def _marks_of(options: Namespace) -> Marks:
    """What marks a single photo, of the options."""
    from cicm.photos.marking import Marks

    return Marks(
        masks=(Path(options.mask),) if options.mask else (),
        alpha=options.mask_alpha,
        colour=colour_of(options.mask_color) if options.mask_color else None,
        tolerance=options.mask_tolerance,
        boxes=tuple(box_of(text) for text in options.box),
        polygons=tuple(polygon_of(text) for text in options.polygon),
        invert=options.invert,
        grow=options.grow,
    )


def _check_source(options: Namespace) -> None:
    words = {name: "--" + name.replace("_", "-") for name in _SOURCES}
    given = [word for name, word in words.items() if options[name]]
    if len(given) != 1 and given != ["--box", "--polygon"]:
        came = f"got {' and '.join(given)}" if given else "got none"
        raise InputError(
            f"where to fill is said by one of {', '.join(words.values())}; {came}. See cicm inpaint --help."
        )


def _inpaint(options: Namespace) -> int:
    started = time.perf_counter()
    for name, default in _FOLDER_ONLY.items():
        if options[name] != default:
            there = "a file" if os.path.exists(options.photo) else "not there"
            raise InputError(
                f"--{name.replace('_', '-')} is for a folder of photos; {options.photo} is {there}. "
                "Leave it out, or name a folder."
            )

    # Everything that can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.photos.formats import ENDINGS, fitted
    from cicm.photos.marking import mark
    from cicm.photos.photo import open_photo, save_photo

    inputs = [options.photo, *(file for file in (options.mask, options.weights) if file)]
    check_readable(options.photo, "photo")
    if options.mask:
        check_readable(options.mask, "mask")
    output = check_output(options.output, endings=ENDINGS, inputs=inputs, overwrite=options.overwrite)
    with libraries_silent() as stream, _warnings_as_lines(stream):
        photo = open_photo(options.photo)
        pixels, hole = mark(photo.pixels, _marks_of(options))
    fitted(pixels, ENDINGS[output.suffix.lower()])

    repaired, report = inpainter_of(options).fill_photo(photo.with_pixels(pixels), hole)
    notes = (*photo.notes, *save_photo(repaired, output, overwrite=options.overwrite))
    if not options.quiet:
        for note in notes:
            print(f"cicm: note: {note}", file=sys.stderr)
        reduced = f", seen at 1/{report.reduced:.2g}" if report.reduced > 1 else ""
        pieces = f", {report.strategy} ({report.tiles})" if report.tiles > 1 else ""
        print(
            f"{output}: {report.width}x{report.height}, {100 * report.missing:.3g} % filled{pieces}{reduced}, "
            f"{time.perf_counter() - started:.1f} s on {report.device}"
        )
    return 0


@contextmanager
def _warnings_as_lines(stream: TextIO) -> Iterator[None]:
    """Our own warnings as one line each; those of the libraries, about how a file is made, not at all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def show(message: Warning | str, *_: object, **__: object) -> None:
            print(f"cicm: warning: {message}", file=stream, flush=True)

        warnings.showwarning = show
        warnings.simplefilter("always", Notice)
        yield
