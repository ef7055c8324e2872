"""Ways to fill, compared on the same holes: ours, the network alone, patches alone, and methods without learning.

    python -m experiments.fills score --images scenes/test --masks masks [--limit 32] [--methods telea,fsr]
    python -m experiments.fills join               (runs/fills -> results/fills; writes the tables of results/fills.md)
    python -m experiments.fills table              (the README's table, from results/fills)

Photos of the 256x256 group of experiments/pairs/scenes-test.csv, evenly spaced; each has one hole of each band from
mask files, and one compact hole as of an object, painted by a rule with the photo's name as its seed. Each method and
set of holes gets its own file in runs/fills, so that a run that was stopped goes on; delete a file to score it anew.

Seconds are processor seconds of filling on one thread: on a busy machine they stay what a free core would take.
"""

from __future__ import annotations

import argparse
import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cicm.cli.evaluate import pipeline
from cicm.data.pair_lists import Pair, read_pairs
from cicm.evaluation.compare import compare
from cicm.evaluation.methods import Method, method_from
from cicm.evaluation.plan import make_plan
from cicm.evaluation.records import Evaluation
from cicm.evaluation.scoring import evaluate
from cicm.evaluation.tables import Grid, number
from cicm.files import evenly_spaced, write_atomic
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
SETS = ("bands", "objects")
HOLES = {("bands", "0-20"): "0-20 %", ("bands", "20-40"): "20-40 %", ("bands", "40-60"): "40-60 %"}
HOLES |= {("objects", "0-20"): "object"}
METRICS = ("psnr", "ssim", "sqz-distance", "sharpness")


class Timed(Method):
    """A method with a clock that counts processor time."""

    def __init__(self, method: Method) -> None:
        self.method, self.name, self.detail, self.device = method, method.name, method.detail, method.device
        self.spent: dict[str, list[float]] = {}

    def prepare(self, pairs: Sequence[Pair]) -> None:
        self.method.prepare(pairs)

    def fill(self, corrupted: torch.Tensor, hole: torch.Tensor, pairs: Sequence[Pair]) -> torch.Tensor:
        began = time.process_time()
        filled = self.method.fill(corrupted, hole, pairs)
        self.spent.setdefault(pairs[0].band, []).append(time.process_time() - began)
        return filled


def pairs_of(limit: int) -> dict[str, list[Pair]]:
    """Set of holes -> its list, for the same photos."""
    rows = [pair for pair in read_pairs(LIST) if pair.height == SIDE]
    kept = evenly_spaced(list(dict.fromkeys(pair.image for pair in rows)), limit)
    objects = [Pair(name, f"{Path(name).stem}.png", "0-20", SIDE, SIDE) for name in kept]
    return {"bands": [pair for pair in rows if pair.image in set(kept)], "objects": objects}


def paint_objects(pairs: Sequence[Pair], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for pair in pairs:
        hole = object_hole(np.random.default_rng(zlib.crc32(pair.image.encode())), SIDE)
        Image.fromarray(hole).save(folder / pair.mask)


def score(images: Path, masks: Path, limit: int, names: Sequence[str]) -> None:
    lists = pairs_of(limit)
    paint_objects(lists["objects"], RUNS / "masks")
    plans = {
        "bands": make_plan(images, masks, lists["bands"]),
        "objects": make_plan(images, RUNS / "masks", lists["objects"]),
    }
    for name in names:
        for kind, plan in plans.items():
            target = RUNS / f"{kind}-{name.replace(':', '-')}.json"
            if target.exists():
                continue
            way = pipeline(name.removeprefix("fill:")) if name.startswith("fill:") else method_from(name)
            timed = Timed(way)
            found, _ = evaluate([timed], plan, METRICS, batch_size=1)
            seconds = {band: float(np.mean(spent)) for band, spent in timed.spent.items()}
            records = tuple(replace(record, seconds=seconds[record.band]) for record in found.records)
            replace(found, records=records).save(target)
            print(target.name, {band: round(mean, 2) for band, mean in seconds.items()}, flush=True)


def join() -> None:
    """Put the runs together, and into the page what `page_table` gives."""
    for kind in SETS:
        parts = [RUNS / f"{kind}-{name.replace(':', '-')}.json" for name in METHODS]
        Evaluation.join([Evaluation.load(part) for part in parts]).save(RESULTS / f"{kind}.json", overwrite=True)
    text = PAGE.read_text("utf-8")
    for (kind, band), words in HOLES.items():
        mark = f"<!-- fills {words} -->\n"
        assert mark in text, f"{PAGE} has no place for {words}"
        text = re.sub(
            rf"{re.escape(mark)}.*?<!-- /fills -->",
            lambda _, m=mark, k=kind, b=band: f"{m}{page_table(k, b).markdown()}\n<!-- /fills -->",
            text,
            flags=re.DOTALL,
        )
    write_atomic(PAGE, text, overwrite=True)


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
    runs = {kind: Evaluation.load(RESULTS / f"{kind}.json") for kind in SETS}
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
    run = verbs.add_parser("score")
    run.add_argument("--images", type=Path, required=True)
    run.add_argument("--masks", type=Path, required=True)
    run.add_argument("--limit", type=int, default=32)
    run.add_argument("--methods", default=",".join(METHODS))
    verbs.add_parser("join")
    verbs.add_parser("table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.verb == "score":
        score(options.images, options.masks, options.limit, options.methods.split(","))
    elif options.verb == "join":
        join()
    else:
        print(readme_table().markdown())


if __name__ == "__main__":
    main()
