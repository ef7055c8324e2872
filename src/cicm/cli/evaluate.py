"""`cicm evaluate`: score a model, a classical method or a folder of results; print tables of scores; compare two."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import BANDS, InputError
from cicm.evaluation.presets import DEFAULT, PRESETS, Preset, preset_of
from cicm.files import check_output
from cicm.terminal import Progress

if TYPE_CHECKING:
    from cicm.data.pair_lists import Pair
    from cicm.evaluation.classical import Method
    from cicm.evaluation.plan import Plan
    from cicm.evaluation.tables import Grid

_GRID_PHOTOS = 3
"""Photos of each size in a grid of pictures."""

DESCRIPTION = """Score methods that fill holes with PSNR, SSIM, L1, perceptual and Fréchet distances, by missing share.

METHOD is one of: default (the network with the included weights, alone); fill:both, fill:network, fill:exemplar (as
`cicm inpaint --fill` repairs); a weights file; a folder of results from another program, named BAND/PHOTO.png or
PHOTO_BAND.png; telea, navier-stokes (both also with a radius, telea:3), biharmonic, mean, and with opencv-contrib
shiftmap, fsr. All methods are scored on the same holes. LABEL=METHOD names a row of the table. Models run on a CUDA
GPU if there is one.
Stored scores (FILE.json) instead of methods are printed as one table.

In a pipe or a file the table is Markdown.
"""

EXAMPLES = """examples:
  cicm evaluate default telea --images photos --masks masks -o scores.json --grid scores.png
  cicm evaluate default --images celeba --layout celeba:test --size 128 --fit reduce --masks masks
  cicm evaluate fill:both fill:network --images photos --masks masks --limit 20
  cicm evaluate mean --images photos --masks masks --pairs list.csv --bands 40-60 --metrics psnr,ssim
  cicm evaluate --images photos --masks masks --save-pairs list.csv           (make the list, score nothing)
  cicm evaluate telea.json memory.json --explain                              (one table of stored scores)
  cicm evaluate --compare scores.json:default scores.json:telea
  cicm evaluate --compare plain-0.json,plain-1.json memory-0.json,memory-1.json       (seeds of A, seeds of B)
  cicm evaluate default --images photos --masks masks --protocol misf     (as another project measures)
  cicm evaluate --protocol misf --explain                                 (and how it does)
"""


def build_parser() -> ArgumentParser:
    parser = verb_parser(
        "evaluate", DESCRIPTION, EXAMPLES, usage="cicm evaluate METHOD [METHOD ...] --images DIR --masks DIR [options]"
    )
    add = parser.add_argument
    add("methods", nargs="*", type=str, default=[], metavar="METHOD", help="what to score; see above")
    add("--images", type=str, metavar="DIR", help="folder of photos, with its subfolders; or see --layout")
    add(
        "--layout",
        type=str,
        metavar="NAME[:SPLIT]",
        help="layout (cicm data list) and split (default: test)",
    )
    add("--masks", type=str, metavar="DIR", help="folder of masks, white = hole (default: painted holes)")
    add(
        "--mask-polarity",
        type=Literal["white", "black", "measured"],
        default="white",
        help="colour of the hole; measured: by the areas",
    )
    add("--pairs", type=str, metavar="CSV", help="fixed list of photo, mask, band and size (default: a new one)")
    add("--save-pairs", type=str, metavar="CSV", help="write the new list")
    add(
        "--size",
        type=str,
        default="256",
        metavar="N[,N]",
        help="photo size in a new list; of several, the first that fits",
    )
    add(
        "--fit",
        type=Literal["crop", "reduce"],
        default="crop",
        help="larger photos: cut out the centre, or reduce first",
    )
    add("--bands", nargs="+", type=str, metavar="BAND", help=f"some of {', '.join(BANDS)}; default all")
    add("--limit", type=int, metavar="N", help="at most N photos of each size, evenly spaced in the list")
    add(
        "--metrics",
        nargs="+",
        type=str,
        metavar="NAME",
        help="default: all; metrics without weights say what they need",
    )
    add(
        "--protocol",
        type=str,
        default=DEFAULT,
        metavar="NAME",
        help=f"use the metrics' definitions of: {', '.join(PRESETS)}",
    )
    add("--raw", action="store_true", help="also score a method's own pixels outside the hole")
    add("-o", "--output", type=str, metavar="JSON", help="write the records, and beside them a CSV with each image")
    add("--grid", type=str, metavar="PNG", help=f"write pictures of {_GRID_PHOTOS} photos of each size, by each method")
    add("--overwrite", action="store_true", help="replace output files that exist")
    add("--explain", action="store_true", help="print the protocol, and 95 %% bootstrap intervals behind the means")
    add("--compare", nargs=2, type=str, metavar=("A", "B"), help="two FILE.json[:METHOD]; join seeds with commas")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    if any(word.split("=")[0] == "--weights" for word in argv):
        raise InputError("evaluate takes weights as a method: cicm evaluate FILE.safetensors --images DIR --masks DIR.")
    options = parse(build_parser(), argv)
    stored = [method for method in options.methods if method.endswith(".json")]
    if options.compare and options.methods:
        raise InputError("--compare reads files of records and scores nothing; leave the methods out.")
    if stored and len(stored) < len(options.methods):
        raise InputError("either methods are scored or files of records are printed, not both in one call.")
    if (options.compare or stored) and options.protocol != DEFAULT:
        raise InputError("--protocol says how methods are scored; files of records have been. Leave it out.")
    if options.compare:
        return _compare(options)
    return _table(stored, options.explain) if stored else _score(options)


def _compare(options: Namespace) -> int:
    from cicm.evaluation.compare import compare, load_runs
    from cicm.evaluation.tables import comparison_table

    first, second = (load_runs(text) for text in options.compare)
    names = [" ".join(dict.fromkeys(method for _, method in runs)) for runs in (first, second)]
    _print(comparison_table(compare(first, second), *names))
    if options.explain:
        print(f"\n{first[0][0].protocol.explain()}")
    return 0


def _table(files: Sequence[str], explain: bool) -> int:
    from cicm.evaluation.records import Evaluation
    from cicm.evaluation.tables import notes, table

    evaluation = Evaluation.join(Evaluation.load(path) for path in files)
    _print(table(evaluation, intervals=explain))
    for note in notes(evaluation):
        print(note)
    if explain:
        print(f"\n{evaluation.protocol.explain()}")
    return 0


def _score(options: Namespace) -> int:
    preset = preset_of(options.protocol)
    if options.explain and not (options.methods or options.images):
        print(preset.explain())
        return 0
    if not (options.methods or options.save_pairs or options.explain):
        raise InputError(
            "name a method to score: weights (default, or a file), telea, or a folder of results. Example: "
            "cicm evaluate default --images DIR --masks DIR."
        )
    if not options.images:
        raise InputError("give the photos with --images DIR, and mask files with --masks DIR.")
    if options.raw and not options.methods:
        raise InputError("--raw says how methods are scored; name one.")

    from cicm.data.pair_lists import write_pairs
    from cicm.evaluation.grid import save_grid
    from cicm.evaluation.plan import label_files, make_plan, make_protocol
    from cicm.evaluation.records import images_path
    from cicm.evaluation.scoring import evaluate
    from cicm.evaluation.tables import notes, table

    for path, ending in ((options.output, ".json"), (options.grid, ".png"), (options.save_pairs, ".csv")):
        if path:
            check_output(path, endings=[ending], overwrite=options.overwrite)
    if options.output:
        check_output(images_path(Path(options.output)), overwrite=options.overwrite)
    if (options.output or options.grid) and not options.methods:
        raise InputError("-o and --grid hold what a method did; name one.")
    metrics = _split(options.metrics) or preset.names

    invert = _inverted(options)
    pairs = _pairs(options, invert)
    plan = make_plan(
        options.images,
        options.masks,
        pairs,
        bands=_split(options.bands),
        limit=options.limit,
        fit=options.fit,
        invert=invert,
        labels=label_files(options.images, *_layout(options)) if options.layout else None,
    )
    methods = _methods(options)
    if options.save_pairs:
        write_pairs(options.save_pairs, pairs, overwrite=options.overwrite)
        print(f"wrote {options.save_pairs}: {len(pairs)} pairs", file=sys.stderr)
    _tell(plan)
    if not methods:
        if options.explain:
            print(make_protocol(plan, metrics, preset=preset).explain())
        return 0
    photos = _GRID_PHOTOS if options.grid else 0
    with Progress(len(methods) * len(plan.pairs), "images") as bar:
        evaluation, rows = evaluate(
            methods,
            plan,
            metrics,
            grid_photos=photos,
            preset=preset,
            progress=lambda cell, images: bar.advance(images, cell),
        )
    written = evaluation.save(options.output, overwrite=options.overwrite) if options.output else []
    if options.grid:
        save_grid(options.grid, rows, overwrite=options.overwrite)
        written.append(Path(options.grid))
    _print(table(evaluation, intervals=options.explain))
    for note in notes(evaluation):
        print(note)
    _tell_missing(metrics, preset)
    if options.explain:
        print(f"\n{evaluation.protocol.explain()}")
        if preset.name != DEFAULT:
            print(f"\n{preset.explain()}")
    for path in written:
        print(f"wrote {path}", file=sys.stderr)
    return 0


def _pairs(options: Namespace, invert: bool) -> list[Pair]:
    """The fixed list, read or made."""
    from cicm.data.pair_lists import read_pairs
    from cicm.data.pairs import make_pairs
    from cicm.datasets import photos_of

    if options.pairs:
        if options.save_pairs or options.layout:
            raise InputError("--save-pairs and --layout are for a list that is made; leave --pairs out.")
        return read_pairs(options.pairs)
    sizes = [int(size) if size.isdecimal() and len(size) < 6 else 0 for size in options.size.split(",")]
    if min(sizes) < 32:
        raise InputError(f"--size must be whole numbers of pixels, each at least 32, as 256,128; got {options.size}.")
    photos = photos_of(options.images, *_layout(options)) if options.layout else None
    return make_pairs(options.images, options.masks, sizes=sizes, invert=invert, photos=photos)


def _layout(options: Namespace) -> tuple[str, str]:
    """Name and split."""
    name, _, split = options.layout.partition(":")
    return name, split or "test"


def _inverted(options: Namespace) -> bool:
    """Whether black is the hole in the mask files."""
    if options.mask_polarity == "white":
        return False
    if not options.masks:
        raise InputError("--mask-polarity speaks of mask files; give their folder with --masks.")
    if options.mask_polarity == "black":
        return True
    from cicm.datasets.masks import inverted

    found = inverted(options.masks)
    print(f"masks: {'black' if found else 'white'} is the hole, by their areas", file=sys.stderr)
    return found


def _methods(options: Namespace) -> list[Method]:
    import torch

    from cicm.evaluation.classical import Classical
    from cicm.evaluation.methods import method_from
    from cicm.inference.settings import FILLS

    device = "cuda" if torch.cuda.is_available() else "cpu"
    ways = {f"fill:{way}": partial(pipeline, way, device) for way in FILLS}
    methods = [method_from(text, device=device, raw=options.raw, more=ways) for text in options.methods]
    if options.raw and (classical := [method.name for method in methods if isinstance(method, Classical)]):
        raise InputError(f"--raw is for models and folders; {', '.join(classical)} never touch the known pixels.")
    return methods


def pipeline(way: str, device: str = "cpu") -> Method:
    """The whole way that `cicm inpaint` takes, with the included weights, as a method to score.

    Args:
        way: of `cicm.inference.settings.FILLS`.
        device: where the network runs.
    """
    from cicm.evaluation.classical import Given
    from cicm.inference import Inpainter

    inpainter = Inpainter.from_pretrained(device=device, fill=way)
    return Given(f"fill:{way}", f"Inpainter(fill={way!r}), included weights, seed 0, one photo at a time", inpainter)


def _split(words: Sequence[str] | None) -> list[str]:
    """Words given one by one, joined by commas, or both."""
    return [part for word in words or () for part in word.split(",") if part]


def _tell(plan: Plan) -> None:
    """What is going to be scored, and what not."""
    for group in dict.fromkeys(cell.group for cell in plan.cells):
        cells = [cell for cell in plan.cells if cell.group == group]
        photos = len({pair.image for cell in cells for pair in cell.pairs})
        print(f"{group}: {photos} photos, bands {', '.join(cell.band for cell in cells)}", file=sys.stderr)


def _tell_missing(metrics: Sequence[str], preset: Preset) -> None:
    """What to do about the metrics that the table calls n/a; each sentence once."""
    told = [
        f"{name} as in {preset.name}: {preset.absent[name]}"
        if name in preset.absent
        else preset.create(name).available()
        for name in metrics
    ]
    for reason in dict.fromkeys(filter(None, told)):
        print(f"n/a: {reason}", file=sys.stderr)


def _print(grid: Grid) -> None:
    """Drawn on a terminal, Markdown elsewhere."""
    if not sys.stdout.isatty():
        print(grid.markdown())
        return
    from rich.console import Console

    console = Console()
    for part in grid.rich(console.width):
        console.print(part)
