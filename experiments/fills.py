"""Ways to fill, compared on the same holes: ours, the network alone, patches alone, and methods without learning.

    python -m experiments.fills fill --images scenes/test --masks masks [--limit 24] [--methods telea,fsr]
    python -m experiments.fills score --images scenes/test --masks masks [--limit 24]
    python -m experiments.fills table              (the README's table again, from results/fills)

Photos of the 256x256 group of experiments/pairs/scenes-test.csv in an order mixed by their names; each has one hole of
each band from mask files, and one compact hole as of an object, painted by a rule with the photo's name as its seed.
`fill` keeps each filled photo in runs/fills, so that a run that was stopped goes on, several can share the work, and a
larger limit adds to it; delete a method's folder to fill anew. `score` writes results/fills, and the tables of
results/fills.md and of the README.

Seconds are processor seconds of filling on one thread: on a busy machine they stay what a free core would take.
"""

from __future__ import annotations

import argparse
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from cicm.cli.evaluate import pipeline
from cicm.data import PairedPhotos
from cicm.data.pair_lists import Pair, read_pairs
from cicm.evaluation.classical import to_array
from cicm.evaluation.compare import compare
from cicm.evaluation.methods import FolderResults, method_from
from cicm.evaluation.plan import Plan, make_plan
from cicm.evaluation.records import Evaluation
from cicm.evaluation.scoring import evaluate
from cicm.evaluation.tables import Grid, number
from cicm.files import atomic, write_atomic
from experiments.joiner import object_hole

ROOT = Path(__file__).resolve().parent.parent
RUNS = ROOT / "runs" / "fills"
RESULTS = ROOT / "results" / "fills"
PAGE = ROOT / "results" / "fills.md"
LIST = ROOT / "experiments" / "pairs" / "scenes-test.csv"

SIDE = 256
BASE = "fill:network"
METHODS = {
    "fill:both": "cicm (`both`, the default)",
    BASE: "the network alone",
    "fill:exemplar": "PyPatchMatch",
    "shiftmap": "xphoto shift map",
    "fsr": "xphoto FSR",
    "telea": "OpenCV Telea",
    "navier-stokes": "OpenCV Navier-Stokes",
    "biharmonic": "scikit-image biharmonic",
}
HOLES = {("bands", "0-20"): "0-20 %", ("bands", "20-40"): "20-40 %", ("bands", "40-60"): "40-60 %"}
HOLES |= {("objects", "0-20"): "object"}
METRICS = ("psnr", "ssim", "sqz-distance", "sharpness")


class Stored(FolderResults):
    """What `fill` kept of a method."""

    def __init__(self, name: str, kind: str) -> None:
        super().__init__(folder_of(name, kind))
        self.name = name
        with Image.open(next(self.folder.rglob("*.png"))) as picture:
            self.detail = str(picture.info["detail"])

    def seconds(self, pairs: Sequence[Pair]) -> float:
        """Mean over pairs."""
        spent = []
        for pair in pairs:
            with Image.open(self.files[pair]) as picture:
                spent.append(float(picture.info["seconds"]))
        return float(np.mean(spent))


def folder_of(name: str, kind: str) -> Path:
    return RUNS / name.replace(":", "-") / kind


def plans_of(images: Path, masks: Path, limit: int) -> dict[str, Plan]:
    """Set of holes -> what to fill, of the same photos; paints the objects' masks."""
    rows = [pair for pair in read_pairs(LIST) if pair.height == SIDE]
    kept = sorted({pair.image for pair in rows}, key=lambda name: zlib.crc32(name.encode()))[:limit]
    objects = [Pair(name, f"{Path(name).stem}.png", "0-20", SIDE, SIDE) for name in kept]
    folder = RUNS / "masks"
    folder.mkdir(parents=True, exist_ok=True)
    for pair in objects:
        hole = object_hole(np.random.default_rng(zlib.crc32(pair.image.encode())), SIDE)
        with atomic(folder / pair.mask, overwrite=True) as part:
            Image.fromarray(hole).save(part, "PNG")
    bands = [pair for name in kept for pair in rows if pair.image == name]
    return {"bands": make_plan(images, masks, bands), "objects": make_plan(images, folder, objects)}


def fill(plans: dict[str, Plan], names: Sequence[str]) -> None:
    methods = {n: pipeline(n.removeprefix("fill:")) if n.startswith("fill:") else method_from(n) for n in names}
    for turn in np.random.default_rng().permutation(len(plans["objects"].pairs)):  # so that several runs rarely meet
        for kind, plan in plans.items():
            each = len(plan.pairs) // len(plans["objects"].pairs)
            pairs = plan.pairs[each * turn : each * (turn + 1)]
            photos = PairedPhotos(pairs, plan.images, plan.masks)
            for index, pair in enumerate(pairs):
                for name, method in methods.items():
                    target = folder_of(name, kind) / pair.band / f"{Path(pair.image).stem}.png"
                    if target.exists():
                        continue
                    image, hole = (photos[index][part][None] for part in ("image", "hole"))
                    began = time.process_time()
                    filled = method.fill(image * (1 - hole), hole, [pair])
                    spent = time.process_time() - began
                    told = PngInfo()
                    told.add_text("seconds", f"{spent:.4f}")
                    told.add_text("detail", method.detail)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with atomic(target, overwrite=True) as part:
                        Image.fromarray(to_array(filled[0])).save(part, "PNG", pnginfo=told)


def score(plans: dict[str, Plan]) -> None:
    """Write the records, and the tables of the page and of the README."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    for kind, plan in plans.items():
        methods = {name: Stored(name, kind) for name in METHODS}
        found, _ = evaluate(list(methods.values()), plan, METRICS)
        cells = {cell.band: cell.pairs for cell in plan.cells}
        records = [replace(r, seconds=methods[r.method].seconds(cells[r.band])) for r in found.records]
        replace(found, records=tuple(records)).save(RESULTS / f"{kind}.json", overwrite=True)
    for (kind, band), words in HOLES.items():
        _put(PAGE, f"fills {words}", page_table(kind, band))
    _put(ROOT / "README.md", "fills: python -m experiments.fills table", readme_table())


def _put(page: Path, name: str, table: Grid) -> None:
    """Replace what stands on a page between the mark of that name and the next end of a table."""
    before, mark, rest = page.read_text("utf-8").partition(f"<!-- {name} -->\n")
    end = rest.index("<!-- /fills -->")
    write_atomic(page, f"{before}{mark}{table.markdown()}\n{rest[end:]}", overwrite=True)


def page_table(kind: str, band: str) -> Grid:
    """All methods on one kind of hole: scores, and PSNR and sqz-distance against the network alone."""
    evaluation = Evaluation.load(RESULTS / f"{kind}.json")
    records = {(r.method, r.metric): r for r in evaluation.records if r.band == band}
    rows = []
    for name, words in METHODS.items():
        values = [number(metric, records[name, metric].value or 0.0) for metric in METRICS]
        row = [words, *values, f"{records[name, 'psnr'].seconds:.2f}"]
        rows.append(
            [*row, "", ""]
            if name == BASE
            else [*row, *(_against(evaluation, name, band, m) for m in ("psnr", "sqz-distance"))]
        )
    header = [
        "",
        "PSNR [dB]",
        "SSIM",
        "sqz-distance",
        "sharpness",
        "seconds",
        "PSNR - network",
        "sqz-distance / network - 1",
    ]
    return Grid(header, rows, labels=1)


def _against(evaluation: Evaluation, name: str, band: str, metric: str) -> str:
    """Difference to the network alone with its interval; of the distance in percent."""
    (found,) = (c for c in compare([(evaluation, BASE)], [(evaluation, name)]) if (c.band, c.metric) == (band, metric))
    ends = (found.difference, *(found.interval or ()))
    if metric == "psnr":
        mean, low, high = (f"{value:+.2f}" for value in ends)
    else:
        mean, low, high = (f"{100 * value / found.first:+.0f} %" for value in ends)
    return f"{mean} [{low}, {high}]"


def readme_table() -> Grid:
    """One row per method; for each kind of hole PSNR and sqz-distance, then sharpness in objects and seconds."""
    runs = {kind: Evaluation.load(RESULTS / f"{kind}.json") for kind in ("bands", "objects")}
    values = {(kind, r.band, r.method, r.metric): r for kind, run in runs.items() for r in run.records}
    rows = []
    for name, words in METHODS.items():
        row = [words]
        for kind, band in HOLES:
            psnr, far = (values[kind, band, name, metric].value or 0.0 for metric in ("psnr", "sqz-distance"))
            row.append(f"{psnr:.2f}, {far:.3f}")
        object_ = values["objects", "0-20", name, "sharpness"]
        rows.append([*row, f"{object_.value or 0.0:.2f}", f"{object_.seconds:.2f}"])
    return Grid(["", *HOLES.values(), "sharpness", "seconds"], rows, labels=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("fill", "score"):
        run = verbs.add_parser(verb)
        run.add_argument("--images", type=Path, required=True)
        run.add_argument("--masks", type=Path, required=True)
        run.add_argument("--limit", type=int, default=24)
        if verb == "fill":
            run.add_argument("--methods", default=",".join(METHODS))
    verbs.add_parser("table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verb == "table":
        print(readme_table().markdown())
        return
    plans = plans_of(options.images, options.masks, options.limit)
    if options.verb == "fill":
        fill(plans, options.methods.split(","))
    else:
        score(plans)


if __name__ == "__main__":
    main()
