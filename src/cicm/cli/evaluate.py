"""`cicm evaluate`: score a model, a classical method or a folder of results; print tables of scores; compare two."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jsonargparse import ArgumentParser, Namespace

from cicm.cli.parsing import parse, verb_parser
from cicm.conventions import BANDS, InputError
from cicm.evaluation.presets import DEFAULT, PRESETS, Preset, preset_of

if TYPE_CHECKING:
    from cicm.data.pair_lists import Pair
    from cicm.evaluation.methods import Method
    from cicm.evaluation.scoring import Plan, Progress
    from cicm.evaluation.tables import Grid

SIDES = (256, 128)
Fit = Literal["crop", "reduce"]
Order = Literal["shuffled", "index"]
Polarity = Literal["white", "black", "measured"]

DESCRIPTION = """Score what fills holes: PSNR, SSIM, L1, perceptual and Fréchet distances, per band of missing share.

METHOD is one of: telea, navier-stokes (both also with a radius, telea:3), biharmonic, mean; default (the weights that
come with the package) or a weights file; a folder of results made elsewhere, named BAND/PHOTO.png or PHOTO_BAND.png.
Several are scored on the same holes. LABEL=METHOD names a row of the table.
"""

EXAMPLES = """examples:
  cicm evaluate default telea --images photos --masks masks -o scores.json --grid scores.png
  cicm evaluate default --images celeba --layout celeba --size 128 --fit reduce --masks masks --mask-order index
  cicm evaluate mean --images photos --masks masks --pairs list.csv --bands 40-60 --metrics psnr,ssim
  cicm evaluate --images photos --masks masks --save-pairs list.csv           (make the list, score nothing)
  cicm evaluate --compare plain-0.json,plain-1.json memory-0.json,memory-1.json       (seeds of A, seeds of B)
  cicm evaluate --table telea.json memory.json --markdown --intervals
  cicm evaluate default --images photos --masks masks --protocol misf     (as another project measures)
  cicm evaluate --protocol misf --explain                                 (and how it does)
"""


def build_parser() -> ArgumentParser:
    parser = verb_parser(
        "evaluate", DESCRIPTION, EXAMPLES, usage="cicm evaluate METHOD [METHOD ...] --images DIR --masks DIR [options]"
    )
    add = parser.add_argument
    add("methods", nargs="*", type=str, default=[], metavar="METHOD", help="what to score, see above")
    add("--images", type=str, metavar="DIR", help="folder of photos, searched through, or see --layout")
    add("--layout", type=str, metavar="NAME", help="the photos lie as in this data set: cicm data list")
    add("--split", type=str, metavar="SPLIT", help="with --layout: which photos of it (default test)")
    add("--masks", type=str, metavar="DIR", help="folder of mask files, white = hole; without it holes are painted")
    add(
        "--mask-polarity", type=Polarity, default="white", help="colour that is the hole; measured: by the masks' areas"
    )
    add("--mask-order", type=Order, default="shuffled", help="in a list that is made; index: i-th photo, i-th mask")
    add("--pairs", type=str, metavar="CSV", help="fixed list of photo, mask, band and size; without it one is made")
    add("--seed", type=int, default=0, help="of the list that is made")
    add("--size", type=int, default=SIDES[0], metavar="N", help="a list that is made scores photos at NxN pixels")
    add("--group-by-size", action="store_true", help="it scores photos at 256x256, those below at 128x128, apart")
    add("--save-pairs", type=str, metavar="CSV", help="write the list that is made")
    add("--avoid", type=str, metavar="CSV", help="make a list without the masks of this one")
    add("--fit", type=Fit, default="crop", help="larger photos: cut out the centre, or reduce them first")
    add("--bands", nargs="+", type=str, metavar="BAND", help=f"some of {', '.join(BANDS)}; default all")
    add("--limit", type=int, metavar="N", help="at most N photos of each size, evenly spread over the list")
    add("--metrics", nargs="+", type=str, metavar="NAME", help="default all; those without weights say what they need")
    add(
        "--protocol",
        type=str,
        default=DEFAULT,
        metavar="NAME",
        help=f"whose definitions of the metrics: {', '.join(PRESETS)}; --explain tells them",
    )
    add("--raw", action="store_true", help="score a model's or folder's own pixels around the hole too")
    add("--batch-size", type=int, default=8, metavar="N", help="pictures at once")
    add("--device", type=str, default="auto", help="auto, cpu or cuda; for models")
    add(
        "-o", "--output", type=str, metavar="JSON", help="write the records, and beside them each image's scores as CSV"
    )
    add("--grid", type=str, metavar="PNG", help="write pictures: photo, corrupted, each method")
    add("--grid-photos", type=int, default=3, metavar="N", help="photos of each size in the grid")
    add("--overwrite", action="store_true", help="replace output files that are there")
    add("--intervals", action="store_true", help="print the interval behind each mean, 95 %% bootstrap over images")
    add("--markdown", action="store_true", help="print tables in Markdown")
    add("--explain", action="store_true", help="print the protocol: how every number is measured")
    add("--compare", nargs=2, type=str, metavar=("A", "B"), help="FILE.json[:METHOD] twice; several seeds with commas")
    add("--table", nargs="+", type=str, metavar="JSON", help="one table of the records in several files")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the verb; 0 when done.

    Raises:
        InputError: whatever the caller or a file got wrong; nothing is written then.
    """
    options = parse(build_parser(), argv)
    if (options.compare or options.table) and (options.methods or (options.compare and options.table)):
        raise InputError("--compare and --table read files of records and score nothing; leave the methods out.")
    if (options.compare or options.table) and options.protocol != DEFAULT:
        raise InputError("--protocol says how methods are scored; files of records have been. Leave it out.")
    if options.compare:
        return _compare(options)
    if options.table:
        return _table(options)
    return _score(options)


def _compare(options: Namespace) -> int:
    from cicm.evaluation.compare import compare, load_runs
    from cicm.evaluation.tables import comparison_table

    first, second = (load_runs(text) for text in options.compare)
    names = [" ".join(dict.fromkeys(method for _, method in runs)) for runs in (first, second)]
    _print(comparison_table(compare(first, second), *names), options.markdown)
    if options.explain:
        print(f"\n{first[0][0].protocol.explain()}")
    return 0


def _table(options: Namespace) -> int:
    from cicm.evaluation.records import Evaluation
    from cicm.evaluation.tables import notes, table

    evaluation = Evaluation.join(Evaluation.load(path) for path in options.table)
    _print(table(evaluation, intervals=options.intervals), options.markdown)
    for note in notes(evaluation):
        print(note)
    if options.explain:
        print(f"\n{evaluation.protocol.explain()}")
    return 0


def _score(options: Namespace) -> int:
    preset = preset_of(options.protocol)
    if options.explain and not (options.methods or options.images):
        print(preset.explain())
        return 0
    if not (options.methods or options.save_pairs or options.explain):
        raise InputError("name a method to score, as telea, default or a folder of results. See cicm evaluate --help.")
    if not options.images:
        raise InputError("give the photos with --images DIR, and mask files with --masks DIR.")
    if options.split and not options.layout:
        raise InputError("--split is of a data set; name its --layout, one of cicm data list.")
    if options.raw and not options.methods:
        raise InputError("--raw says how methods are scored; name one.")

    from cicm.data.pair_lists import write_pairs
    from cicm.evaluation.grid import save_grid
    from cicm.evaluation.records import check_output, images_path
    from cicm.evaluation.scoring import evaluate, make_plan, make_protocol
    from cicm.evaluation.tables import notes, table

    for path, ending in ((options.output, ".json"), (options.grid, ".png"), (options.save_pairs, ".csv")):
        if path:
            check_output(Path(path), ending, overwrite=options.overwrite)
    if options.output:
        check_output(images_path(Path(options.output)), ".csv", overwrite=options.overwrite)
    if (options.output or options.grid) and not options.methods:
        raise InputError("-o and --grid hold what a method did; name one.")
    if options.grid and options.grid_photos < 1:
        raise InputError(f"--grid-photos must be at least 1; got {options.grid_photos}.")
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
    with _progress(len(methods) * len(plan.pairs)) as progress:
        evaluation, rows = evaluate(
            methods,
            plan,
            metrics,
            batch_size=options.batch_size,
            grid_photos=options.grid_photos if options.grid else 0,
            preset=preset,
            progress=progress,
        )
    written = evaluation.save(options.output, overwrite=options.overwrite) if options.output else []
    if options.grid:
        save_grid(options.grid, rows, overwrite=options.overwrite)
        written.append(Path(options.grid))
    _print(table(evaluation, intervals=options.intervals), options.markdown)
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
    from cicm.evaluation.lists import without_masks

    if options.pairs:
        if options.save_pairs or options.avoid:
            raise InputError("--save-pairs and --avoid are for a list that is made; leave --pairs out.")
        if options.layout or options.mask_order != "shuffled":
            raise InputError("--layout and --mask-order are for a list that is made; leave --pairs out.")
        return read_pairs(options.pairs)
    sides = SIDES if options.group_by_size else (options.size,)
    if min(sides) < 32:
        raise InputError(f"--size must be at least 32 pixels; got {options.size}.")
    if options.mask_order == "index" and (options.avoid or not options.masks):
        raise InputError("--mask-order index takes mask files in their order: give --masks, and leave --avoid out.")
    pairs = make_pairs(
        options.images,
        options.masks,
        options.seed,
        sizes=sides,
        invert=invert,
        photos=photos_of(options.images, options.layout, options.split or "test") if options.layout else None,
        order=options.mask_order,
    )
    if options.avoid and options.masks:
        pairs = without_masks(pairs, options.masks, read_pairs(options.avoid), seed=options.seed, invert=invert)
    return pairs


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
    from cicm.evaluation.methods import Classical, method_from

    methods = [method_from(text, device=_device(options.device), raw=options.raw) for text in options.methods]
    if options.raw and (classical := [method.name for method in methods if isinstance(method, Classical)]):
        raise InputError(f"--raw is for models and folders; {', '.join(classical)} never touch the known pixels.")
    return methods


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.split(":")[0] == "cuda" and torch.cuda.is_available()):
        raise InputError(f"the device must be auto, cpu or, where there is a GPU, cuda; got {name!r}.")
    return name


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
    """What to do about the metrics that the table calls n/a."""
    for name in metrics:
        if name in preset.absent:
            print(f"n/a: {name} as in {preset.name}: {preset.absent[name]}", file=sys.stderr)
        elif reason := preset.create(name).available():
            print(f"n/a: {reason}", file=sys.stderr)


@contextmanager
def _progress(total: int) -> Iterator[Progress]:
    """A bar with rate and time left on a terminal, a line per cell of the table elsewhere; both on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        seen: set[str] = set()

        def line(text: str, images: int) -> None:
            if text not in seen:
                seen.add(text)
                print(f"scoring {text}", file=sys.stderr, flush=True)

        yield line
        return
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    with bar:
        task = bar.add_task("scoring", total=total, rate="")

        def advance(text: str, images: int) -> None:
            bar.update(task, description=text, advance=images)
            speed = bar.tasks[task].speed
            bar.update(task, rate=f"{speed:.1f} images/s" if speed else "")

        yield advance


def _print(grid: Grid, markdown: bool) -> None:
    if markdown:
        print(grid.markdown())
        return
    from rich.console import Console

    # A pipe has no width of its own; the table is then as wide as it needs to be, up to 250 characters.
    console = Console() if sys.stdout.isatty() else Console(width=250)
    for part in grid.rich(console.width):
        console.print(part)
