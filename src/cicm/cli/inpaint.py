"""`cicm inpaint`: fill the holes of a photo, or of a folder of photos, and write each back as the file it was."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import InputError

if TYPE_CHECKING:
    from cicm.folders import MaskSource
    from cicm.inference.pictures import PictureInpainter

DESCRIPTION = """Fill the holes of a photo, or of a folder of photos. In a mask, of the photo's size, white means fill.

The result has the photo's size, mode, depth, EXIF, colour profile, resolution and alpha. Outside the hole its pixels
are the photo's bit for bit in PNG, TIFF, BMP, GIF and lossless WebP. JPEG and lossy WebP compress every pixel anew
(JPEG with the photo's own settings): to keep the known pixels exactly, write .png. An embedded preview, which shows the
old picture, is left out. The output's ending names its format; nothing is written unless all of it is.

Of a folder all photos are filled, also those in its subfolders; OUTPUT gets the same tree. What is wrong with one photo
is told and ends nothing. The same command goes on where a killed run stood, and does no photo twice. Exit code: 0 all
done, 1 some failed, 2 the call was wrong.
"""

EXAMPLES = """examples:
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg
  cicm inpaint photo.jpg --mask mask.png -o repaired.png       (known pixels bit for bit)
  cicm inpaint scan.tif --mask keep.png --invert -o clean.tif  (black in the mask = fill)
  cicm inpaint photos --masks masks -o repaired                (photos/sub/a.jpg, masks/sub/a.png)
  cicm inpaint photos --mask logo.png -o repaired --dry-run    (one mask for all; look before)
  cicm inpaint photos --mask-suffix _mask -o repaired --grow 5 --report run.csv
"""

INPAINTER = ("margin", "max_side", "strategy", "feather")
"""Options that are passed on as they are."""

SOURCES = {"mask": None, "masks": None, "mask_suffix": None, "mask_alpha": False, "mask_color": None, "boxes": None}
"""Options that say where to fill, of which one is given, and their values when not."""

FOLDER_ONLY = {
    "masks": None,
    "mask_suffix": None,
    "each_mask": False,
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
    parser = verb_parser("inpaint", DESCRIPTION, EXAMPLES, usage="cicm inpaint PHOTO --mask MASK -o OUTPUT [options]")
    add = parser.add_argument
    add(
        "photo",
        type=str,
        nargs="?",
        metavar="PHOTO",
        help="JPEG, PNG, WebP, TIFF, BMP or a GIF of one picture; or a folder",
    )
    add("-o", "--output", type=str, required=True, metavar="OUTPUT", help="the file to write, never PHOTO; or a folder")
    add("--overwrite", action="store_true", help="replace OUTPUT, or the results in it, if they exist")
    add(
        "--weights",
        type=str,
        metavar="FILE",
        help="of cicm, .safetensors, or .onnx from cicm export; default: those that ship",
    )
    add("--runtime", type=str, metavar="NAME", help="torch or onnx, which runs without torch; default: as WEIGHTS ends")
    add("--album", type=str, metavar="FILE", help="read from these photos: made by cicm remember, with these weights")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--margin", type=int, metavar="PIXELS", help="least width of known pixels seen around the hole")
    add("--max-side", type=int, metavar="PIXELS", help="longest side that the network sees")
    add("--strategy", type=str, metavar="NAME", help="auto, whole, resize, crop or tile: see docs/big-pictures.md")
    add("--feather", type=int, metavar="PIXELS", help="take the step at the border out of the fill, inside the hole")
    add("--quiet", action="store_true", help="print errors and warnings only")

    add = parser.add_argument_group("where to fill, one of these").add_argument
    add("--mask", type=str, metavar="FILE", help="a picture of the same size, white = fill; for a folder, one for all")
    add("--masks", type=str, metavar="FOLDER", help="mirrors that of the photos: a.jpg has a.png, or any other ending")
    add("--mask-suffix", type=str, metavar="TEXT", help="masks beside the photos: with _mask, a.jpg has a_mask.png")
    add("--mask-alpha", action="store_true", help="where the photo is transparent")
    add("--mask-color", type=str, metavar="RRGGBB", help="where the photo has this colour, such as ff00ff")
    add("--boxes", type=str, metavar="FILE", help="CSV or JSON with photo, left, top, right, bottom; several rows each")

    add = parser.add_argument_group("how to fill").add_argument
    add("--invert", action="store_true", help="black in the mask = fill")
    add("--grow", type=int, default=0, metavar="PIXELS", help="make holes larger to all sides")
    add("--mask-tolerance", type=int, default=8, metavar="0-255", help="for --mask-color: most difference in a channel")
    add("--each-mask", action="store_true", help="for --mask-suffix: every mask makes a result, rather than all one")

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

    add = parser.add_argument_group("as iopaint run has it").add_argument
    add("--image", type=str, metavar="PHOTO", help="the same as PHOTO; --mask may then be a folder, as --masks is")
    add("--model", type=str, metavar="NAME", help="refused: this program has its own")
    return parser


def _from_iopaint(options: Namespace) -> None:
    """Read the options of `iopaint run` as ours."""
    if options.model is not None:
        raise InputError(
            f"cicm fills with its own model; got --model {options.model}. Leave it out, or name a file with --weights."
        )
    if (options.photo is None) == (options.image is None):
        came = "got both" if options.photo is not None else "got none"
        raise InputError(f"the photo, or the folder of photos, is named once, as PHOTO or by --image; {came}.")
    options.photo = options.image if options.photo is None else options.photo
    if options.mask and os.path.isdir(options.mask) and not options.masks and not os.path.isfile(options.photo):
        options.mask, options.masks = None, options.mask


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(build_parser(), argv)
    with _warnings_as_lines():
        _from_iopaint(options)
        _check_source(options)
        if options.album:
            from cicm.files import check_readable

            check_readable(options.album, "album")
        if os.path.isdir(options.photo):
            from cicm.cli.inpaint_folder import inpaint_folder

            return inpaint_folder(options, mask_source(options), inpainter_of)
        return _inpaint(options)


def runtime_of(options: Namespace) -> str:
    """What runs the network: "torch" or "onnx".

    Raises:
        InputError: another one, or one that does not fit the weights or another option.
    """
    exported = bool(options.weights) and options.weights.lower().endswith(".onnx")
    runtime = options.runtime or ("onnx" if exported else "torch")
    if runtime not in ("torch", "onnx"):
        raise InputError(f"--runtime is torch or onnx; got {runtime!r}.")
    if (runtime == "onnx") != exported:
        what = f"--weights {options.weights}" if options.weights else "no --weights"
        raise InputError(
            f"--runtime onnx goes with --weights FILE.onnx, and only with these; got --runtime {runtime} with {what}. "
            "Make such a file with cicm export --to onnx -o FILE.onnx."
        )
    if exported and options.album:
        raise InputError("--album needs torch: an exported model has one memory for good. Use .safetensors weights.")
    return runtime


def inpainter_of(options: Namespace) -> PictureInpainter:
    """The weights and the way of filling that the options ask for; loads what runs the network."""
    given = {name: options[name] for name in INPAINTER if options[name] is not None}  # else the inpainter's own
    if runtime_of(options) == "onnx":
        from cicm.export.onnx_runtime import OnnxInpainter

        return OnnxInpainter.from_file(options.weights, device=options.device, **given)
    from cicm.inference import Inpainter

    inpainter = Inpainter.from_pretrained(options.weights, device=options.device, **given)
    if options.album:
        from cicm.assembly.album import load_album, with_album

        inpainter.model = with_album(inpainter.model, load_album(options.album))  # type: ignore[arg-type]
    return inpainter


def mask_source(options: Namespace) -> MaskSource:
    """Where to fill, of the options; looks at no file."""
    from cicm.folders.marking import MaskAlpha, MaskBeside, MaskBoxes, MaskColour, MaskFolder, OneMask

    how = {"invert": options.invert, "grow": options.grow}
    if options.mask:
        return OneMask(Path(options.mask), **how)
    if options.masks:
        return MaskFolder(Path(options.masks), **how)
    if options.mask_suffix:
        return MaskBeside(options.mask_suffix, options.each_mask, **how)
    if options.mask_color:
        return MaskColour.parse(options.mask_color, tolerance=options.mask_tolerance, **how)
    return MaskBoxes(Path(options.boxes), **how) if options.boxes else MaskAlpha(**how)


def _check_source(options: Namespace) -> None:
    words = {name: "--" + name.replace("_", "-") for name in SOURCES}
    given = [word for name, word in words.items() if options[name] != SOURCES[name]]
    if len(given) != 1:
        came = f"got {' and '.join(given)}" if given else "got none"
        raise InputError(
            f"where to fill is said by one of {', '.join(words.values())}; {came}. See cicm inpaint --help."
        )
    if options.each_mask and not options.mask_suffix:
        raise InputError("--each-mask goes with --mask-suffix. Leave it out.")


def _inpaint(options: Namespace) -> int:
    started = time.perf_counter()
    for name, default in FOLDER_ONLY.items():
        if options[name] != default:
            there = "a file" if os.path.exists(options.photo) else "not there"
            raise InputError(
                f"--{name.replace('_', '-')} is for a folder of photos; {options.photo} is {there}. "
                "Leave it out, or name a folder."
            )

    # Everything that can be wrong with files is found before torch is loaded, so that errors come at once.
    from cicm.files import check_output, check_readable
    from cicm.photos.formats import ENDINGS, fitted
    from cicm.photos.photo import check_mask_size, open_photo, save_photo

    inputs = [check_readable(options.photo, "photo")]
    if options.mask:
        inputs.append(check_readable(options.mask, "mask"))
    if options.weights:
        inputs.append(check_readable(options.weights, "weights"))
    output = check_output(options.output, endings=ENDINGS, inputs=inputs, overwrite=options.overwrite)
    source = None
    with _libraries_silent():
        photo = open_photo(options.photo)
        if options.mask:
            check_mask_size(open_photo(options.mask).size, photo.size)
        if options.grow or not options.mask:
            from cicm.folders.marking import Job

            source = mask_source(options)
            seen, hole = source.apply(photo, Job("", photo.path.name), photo.path.parent)
    fitted((seen if source else photo).pixels, ENDINGS[output.suffix.lower()])

    inpainter = inpainter_of(options)
    if source:
        repaired, report = inpainter.fill_photo(seen, hole)
    else:
        repaired, report = inpainter.fill_photo(photo, options.mask, invert=options.invert)
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
