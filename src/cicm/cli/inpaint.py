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
from cicm.files import check_output, check_readable, digest_of
from cicm.inference.settings import FILLS, STRATEGIES, FillSettings
from cicm.terminal import Progress, libraries_silent, shown

if TYPE_CHECKING:
    from cicm.exemplar.album import Album
    from cicm.folders import MaskSource
    from cicm.inference.painter import PictureInpainter
    from cicm.inference.report import Report
    from cicm.photos.marking import Marks

DESCRIPTION = """Fill the holes of a photo, or of all photos in a folder. White in the mask means fill.

The result keeps the photo's size, mode, depth, EXIF data, colour profile, resolution and alpha. In PNG, TIFF, BMP, GIF
and lossless WebP the pixels outside the hole are unchanged. JPEG, lossy WebP, AVIF and HEIC compress every pixel again,
JPEG with the photo's own settings; write a .png to keep the pixels exactly. An embedded preview is left out, because it
shows the old picture. The ending of OUTPUT decides the format. OUTPUT is written completely or not at all.

By default the network's fill is joined with patches of the photo's own pixels. --fill network is smooth and safe,
--fill exemplar uses patches alone. With --album, photos of the same place lend their pixels where they show what is
behind the hole. --variants makes several answers: OUTPUT, OUTPUT-2, OUTPUT-3.

--model names another model, whose fill is used alone: lama or migan (first: cicm models get lama), a file of weights,
telea, navier-stokes, biharmonic, or exemplar, which is patches without any network.

In a folder, the photos in subfolders are filled too, and OUTPUT gets the same subfolders. A photo that fails is listed;
the run continues. If a run is interrupted, the same command continues it. Exit code: 0 all done, 1 some photos failed,
2 wrong input.
"""

EXAMPLES = """examples:
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg
  cicm inpaint photo.jpg --mask mask.png -o repaired.png       (pixels outside the hole are unchanged)
  cicm inpaint scan.tif --mask keep.png --invert -o clean.tif  (black in the mask = fill)
  cicm inpaint photo.jpg --box 40,60,120,80 -o repaired.jpg    (no mask: 120 wide, 80 high, at 40, 60)
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg --album holiday  (other photos lend pixels)
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg --variants 3
  cicm inpaint photo.jpg --mask mask.png -o repaired.jpg --model lama
  cicm inpaint photos --masks masks -o repaired                (photos/sub/a.jpg, masks/sub/a.png)
  cicm inpaint photos --mask logo.png -o repaired --dry-run    (one mask for all; only check)
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
    "verify": False,
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
    add("photo", type=str, metavar="PHOTO", help="a photo: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF; or a folder")
    add("-o", "--output", type=str, required=True, metavar="OUTPUT", help="the file to write; for a folder, a folder")
    add("--overwrite", action="store_true", help="replace OUTPUT if it exists; in a folder, make all results again")
    add("--quiet", action="store_true", help="print errors and warnings only")

    add = parser.add_argument_group("where to fill (choose one)").add_argument
    add("--mask", type=str, metavar="FILE", help="a picture of the photo's size; for a folder, one mask for all")
    add("--mask-alpha", action="store_true", help="fill where the photo is transparent")
    add("--mask-color", type=str, metavar="RRGGBB", help="fill where the photo has this colour, such as ff00ff")
    add("--box", action="append", default=[], metavar="X,Y,W,H", help="one photo: left, top, width, height; repeatable")
    add("--polygon", action="append", default=[], metavar="X,Y,X,Y,...", help="one photo: its corners; repeatable")
    add("--masks", type=str, metavar="FOLDER", help="folder of masks with the photos' names: a.png for a.jpg")
    add("--mask-suffix", type=str, metavar="TEXT", help="masks beside the photos: with _mask, a_mask.png for a.jpg")
    add("--boxes", type=str, metavar="FILE", help="CSV or JSON with the columns photo, left, top, right, bottom")
    add("--invert", action="store_true", help="fill the rest instead: black in the mask = fill")
    add("--grow", type=int, default=0, metavar="PIXELS", help="enlarge the hole on all sides")
    add("--mask-tolerance", type=int, default=8, metavar="0-255", help="for --mask-color: difference in a channel")

    default = FillSettings()
    add = parser.add_argument_group("how to fill").add_argument
    add("--model", "--weights", type=str, metavar="NAME|FILE", help="a name, .safetensors or .onnx (default: included)")
    add("--fill", type=str, metavar="NAME", help=f"{', '.join(FILLS)}: of real pixels (default: by the model)")
    add("--variants", type=int, default=1, metavar="N", help="one photo: so many answers, in files of their own")
    add(
        "--album", type=str, metavar="PATH", help="other photos: a folder, a file of cicm remember, or self in a folder"
    )
    add("--labels", type=str, metavar="FILE", help="one photo: its label map, for weights that were trained with some")
    add("--device", type=str, default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--strategy", type=str, default=default.strategy, metavar="NAME", help=", ".join(STRATEGIES))
    add(
        "--margin",
        type=int,
        default=default.margin,
        metavar="PIXELS",
        help="least width of known pixels seen around the hole",
    )
    add("--max-side", type=int, default=default.max_side, metavar="PIXELS", help="longest side that the network sees")
    add(
        "--feather",
        type=int,
        default=default.feather,
        metavar="PIXELS",
        help="blend the fill into its border over N pixels",
    )

    add = parser.add_argument_group("folders").add_argument
    add("--dry-run", action="store_true", help="check all photos, time three, write nothing")
    add("--verify", action="store_true", help="read the results that are there, to find any that changed")
    add("--format", type=str, metavar="NAME", help="format of all results, such as png (default: each as it was)")
    add("--missing", type=str, default="fail", metavar="fail|skip", help="what to do with a photo without a mask")
    add("--report", type=str, metavar="FILE", help="write one row for each photo, as .jsonl or .csv")
    add("--shard", type=str, default="1/1", metavar="I/N", help="fill part I of N, for several machines")
    add("--limit", type=int, metavar="N", help="fill at most N photos; failures do not count")
    add("--workers", type=int, metavar="N", help="threads, or processes of Ray (default: by cores and GPUs)")
    add("--batch", type=int, metavar="N", help="most pictures in one forward (default: 1 on a CPU, else 8)")
    add("--ram", type=int, default=2048, metavar="MIB", help="approximate limit of RAM for pictures")
    add("--engine", type=str, default="own", metavar="own|ray", help="ray uses several processes or machines")
    add("--address", type=str, metavar="HOST:PORT", help="of a Ray cluster (default: start Ray on this machine)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    for word in argv:
        if word.split("=")[0] == "--image":
            raise InputError(
                "cicm has no --image. Write: cicm inpaint PHOTO --mask MASK -o OUTPUT, where PHOTO may be a folder."
            )
    options = parse(build_parser(), argv)
    if options.mask and os.path.isdir(options.mask) and os.path.isdir(options.photo):
        options.mask, options.masks = None, options.mask
    _check_source(options)
    _check_fill(options)
    with _warnings_as_lines(sys.stderr):
        if os.path.isdir(options.photo):
            from cicm.cli.inpaint_folder import inpaint_folder

            return inpaint_folder(options, _mask_source(options), inpainter_of, album_of)
        return _inpaint(options)


def _settings_of(options: Namespace) -> FillSettings:
    from cicm.export.opening import default_settings

    names = ("margin", "max_side", "strategy", "feather", "fill")
    return default_settings(options.model).changed(**{name: options[name] for name in names})


def _check_fill(options: Namespace) -> None:
    from cicm.export.opening import check_model

    settings, folder = _settings_of(options), os.path.isdir(options.photo)
    if options.variants < 1:
        raise InputError(f"--variants must be at least 1; got {options.variants}.")
    if options.variants > 1 and folder:
        raise InputError(f"--variants is for one photo; {options.photo} is a folder. Leave it out, or name a photo.")
    if options.variants > 1 and settings.fill == "network":
        raise InputError("--variants needs patches; the network alone has one answer. Leave --fill network out.")
    found = check_model(options.model)
    if options.labels and folder:
        raise InputError(f"--labels is for one photo; {options.photo} is a folder. Leave it out, or name a photo.")
    other = found is not None and not str(found).endswith(".safetensors")
    if options.labels and (other or settings.strategy == "tile" or settings.fill == "exemplar"):
        raise InputError(
            "--labels needs a .safetensors file of weights, which sees the photo in one piece; leave out "
            f"{f'--model {options.model}' if other else f'--strategy {settings.strategy}, --fill exemplar'}."
        )
    if options.album == "self" and not folder:
        raise InputError(f"--album self is for a folder of photos; {options.photo} is none. Name a folder as album.")
    if options.album and options.album != "self" and not os.path.isdir(options.album):
        check_readable(options.album, "album")


def inpainter_of(options: Namespace, album: Album | None) -> PictureInpainter:
    """The model and the way of filling that the options ask for; loads what runs the network."""
    from cicm.export.opening import open_inpainter

    quick = not os.path.isdir(options.photo) and not options.labels  # a folder waits for torch once alone
    settings = _settings_of(options)
    return open_inpainter(options.model, device=options.device, album=album, settings=settings, quick=quick)


def album_of(options: Namespace, own: Sequence[Path] = ()) -> Album | None:
    """The album that the options name; tells how far it is while it looks at a folder.

    Args:
        options: of the verb.
        own: the photos that `self` stands for.
    """
    if not options.album:
        return None
    from cicm.exemplar.album import load_album, make_album
    from cicm.exemplar.align import check_available

    check_available()
    if options.album != "self" and os.path.isfile(options.album):
        return load_album(options.album)
    photos = own if options.album == "self" else options.album
    with Progress(None, "photos of the album", quiet=options.quiet) as progress:
        album = make_album(photos, progress=progress.update)
    for path, why in album.skipped:
        if not options.quiet:
            print(f"cicm: note: {shown(path)} is not in the album: {shown(why)}", file=sys.stderr)
    return album


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
    from cicm.photos.labels import check_labels
    from cicm.photos.marking import mark
    from cicm.photos.photo import open_photo, save_photo

    inputs = [options.photo, *(file for file in (options.mask, options.model, options.labels) if file)]
    check_readable(options.photo, "photo")
    if options.mask:
        check_readable(options.mask, "mask")
    outputs = [
        check_output(path, endings=ENDINGS, inputs=inputs, overwrite=options.overwrite)
        for path in _numbered(options.output, options.variants)
    ]
    with libraries_silent() as stream, _warnings_as_lines(stream):
        photo = open_photo(options.photo)
        pixels, hole = mark(photo.pixels, _marks_of(options))
    if options.labels:
        check_labels(options.labels, options.photo, photo.size)
    fitted(pixels, ENDINGS[outputs[0].suffix.lower()])

    album = album_of(options)
    inpainter = inpainter_of(options, album)
    if options.labels:
        inpainter.look_at_labels(options.labels, photo.size)  # type: ignore[attr-defined]
    told: set[str] = set()
    for seed, output in enumerate(outputs):
        inpainter.settings = inpainter.settings.changed(seed=seed)
        repaired, report = inpainter.fill_photo(photo.with_pixels(pixels), hole)
        notes = (*photo.notes, *save_photo(repaired, output, overwrite=options.overwrite), *report.notes)
        notes += _of_album(album, photo.path, report)
        if options.quiet:
            continue
        for note in dict.fromkeys(notes):
            if note not in told:
                print(f"cicm: note: {shown(note)}", file=sys.stderr)
        told.update(notes)
        print(f"{output}: {_told(report)}, {time.perf_counter() - started:.1f} s on {report.device}")
        started = time.perf_counter()
    return 0


def _of_album(album: Album | None, photo: Path, report: Report) -> tuple[str, ...]:
    """What a user who named an album wants to know beside the names of the lenders."""
    if album is None:
        return ()
    itself = digest_of(photo) in {entry.sha256 for entry in album.photos}
    return (
        *((f"{photo} is in the album itself; nothing is copied from it",) if itself else ()),
        *(("no photo of the album shows this place; none lent pixels",) if not report.lenders else ()),
    )


def _numbered(output: str, count: int) -> list[str]:
    """OUTPUT, OUTPUT-2, OUTPUT-3, ..., each with OUTPUT's ending."""
    stem, ending = os.path.splitext(output)
    return [output, *(f"{stem}-{number}{ending}" for number in range(2, count + 1))]


def _told(report: Report) -> str:
    lenders = f", with pixels of {', '.join(map(shown, report.lenders))}" if report.lenders else ""
    pieces = f", {report.strategy} ({report.tiles})" if report.tiles > 1 else ""
    reduced = f", seen at 1/{report.reduced:.2g}" if report.reduced > 1 else ""
    size, share = f"{report.width}x{report.height}", f"{100 * report.missing:.3g} % filled"
    return f"{size}, {share}, fill {report.fill}{lenders}{pieces}{reduced}"


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
