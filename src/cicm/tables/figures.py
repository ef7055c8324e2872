"""The paper's figures from what was made: curves of a quantity that varies over rows, and grids of filled photos."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cicm.conventions import InputError
from cicm.evaluation.grid import GridRow
from cicm.evaluation.methods import Model
from cicm.evaluation.plan import make_plan
from cicm.evaluation.scoring import evaluate
from cicm.files import check_output, write_atomic
from cicm.tables.page import WORDS, Page
from cicm.tables.plan import PRINTED, Part
from cicm.tables.runner import scoring_plan
from cicm.tables.series import Series
from cicm.training.folder import WEIGHTS

ENDINGS = (".png", ".svg", ".pdf")


@dataclass(frozen=True)
class Curve:
    """One line of a figure.

    Args:
        metric: the paper's name of what is drawn.
        x, y: one point for each row that was made, in the order of x.
        spread: over seeds; NaN for one seed.
    """

    part: Part
    metric: str
    ours: str
    band: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    spread: tuple[float, ...]
    seconds: tuple[float, ...]


def curves(shown: Page, metrics: Sequence[str] = ("psnr",)) -> list[Curve]:
    """The lines of a figure whose rows have an `x`; those of which no row was made are left out.

    Raises:
        InputError: an unknown metric, rows without an `x`, or nothing made.
    """
    if unknown := [name for name in metrics if name not in PRINTED]:
        raise InputError(f"the metrics are {', '.join(PRINTED)}; got {', '.join(unknown)}.")
    name = shown.series.table.name
    if not all(part.axis and all(row.x is not None for row in part.row) for part in shown.series.table.part):
        raise InputError(f"{name} has no curves: its parts need an `axis` and their rows an `x`, as those of figure3.")
    found = []
    for block in shown.blocks:
        for band in shown.series.table.bands:
            cells = [(line.row.x, line.cells[band]) for line in block.lines]
            points = sorted((x, cell.ours, cell.spread, cell.seconds) for x, cell in cells if cell.ours is not None)
            if points and block.metric in metrics and block.ours:
                x, y, spread, seconds = zip(*points)
                known = tuple(float("nan") if value is None else value for value in spread)
                found.append(Curve(block.part, block.metric, block.ours, band, x, y, known, seconds))
    if not found:
        raise InputError(
            f"no row of {name} has been made with {', '.join(metrics)} at scale {shown.series.scale_name}; "
            f"first: cicm table run {name} --scale {shown.series.scale_name}."
        )
    return found


def save_curves(path: str | Path, found: Sequence[Curve], *, overwrite: bool = False) -> None:
    """Draw curves: a column for each part, a row for each metric; the time of an image dashed, on the right.

    Raises:
        InputError: matplotlib is missing, an ending that is not known, or the file is there.
    """
    path = check_output(path, endings=ENDINGS, overwrite=overwrite, what="picture")
    Figure = _figure()
    parts = list(dict.fromkeys(curve.part.title for curve in found))
    metrics = list(dict.fromkeys(curve.metric for curve in found))
    figure = Figure(figsize=(5.5 * len(parts), 3.6 * len(metrics)), layout="constrained")
    axes = figure.subplots(len(metrics), len(parts), squeeze=False)
    for down, metric in enumerate(metrics):
        for across, title in enumerate(parts):
            lines = [curve for curve in found if (curve.metric, curve.part.title) == (metric, title)]
            if lines:
                _draw(axes[down][across], lines)
            else:
                axes[down][across].set_axis_off()
    data = io.BytesIO()
    # Without a date, so that the same records give the same file.
    stamp = {"Software": None} if path.suffix == ".png" else {"Date": None} if path.suffix == ".svg" else {}
    figure.savefig(data, format=path.suffix[1:], dpi=150, metadata=stamp)
    write_atomic(path, data.getvalue())


def _draw(axis: Any, lines: Sequence[Curve]) -> None:
    times = axis.twinx()
    for curve in lines:
        spread = np.nan_to_num(np.array(curve.spread))
        axis.errorbar(curve.x, curve.y, yerr=spread, marker="o", capsize=3, label=f"{curve.band} %")
        times.plot(curve.x, curve.seconds, linestyle="--", color="0.6", marker=".")
    first = lines[0]
    better = "higher is better" if PRINTED[first.metric] == "higher" else "lower is better"
    axis.set_title(first.part.title)
    axis.set_xlabel(first.part.axis)
    axis.set_ylabel(f"{WORDS[first.metric] if first.ours == first.metric else first.ours}, {better}")
    axis.set_xticks(sorted({x for curve in lines for x in curve.x}))
    times.set_ylabel("seconds an image (dashed)")
    times.set_ylim(bottom=0)
    axis.set_zorder(times.get_zorder() + 1)
    axis.patch.set_visible(False)
    axis.legend()


def _figure() -> Any:
    try:
        from matplotlib.figure import Figure  # no pyplot: nothing global, no display
    except ImportError:
        raise InputError('curves are drawn with matplotlib: pip install "cicm[figures]".') from None
    return Figure


# Grids ----------------------------------------------------------------------------------------------------------------


def filled_rows(series: Series, *, photos: int = 3, device: str = "cpu") -> tuple[list[GridRow], list[str]]:
    """What each row's trained network makes of the same photos.

    Returns:
        rows of the grid, and a sentence for each row of the table that is not in it.
    """
    rows: list[GridRow] = []
    absent: list[str] = []
    for part in series.table.part:
        methods = []
        for row in part.row:
            jobs, missing = series.jobs([f"{part.title}: {row.label}"])
            files = [path for job in jobs if (path := series.run_folder(job) / WEIGHTS).is_file()]
            if files:
                methods.append(Model(files[0], device=device))
                methods[-1].name = row.label
            else:
                absent.append(f"{part.title}: {row.label}: {missing[0].reason if missing else 'no trained weights'}")
        if not methods:
            continue
        plan = scoring_plan(series, part.data)
        chosen = make_plan(
            plan.images,
            plan.masks,
            plan.pairs,
            bands=series.table.bands,
            limit=photos,
            fit=plan.fit,
            labels=plan.labels,
        )
        _, drawn = evaluate(methods, chosen, ["psnr"], grid_photos=len(chosen.pairs))
        rows += [dataclasses.replace(row, label=f"{part.title}  {row.label}") for row in drawn]
    if not rows:
        raise InputError(
            f"no row of {series.table.name} has trained weights in {series.runs}; first: "
            f"cicm table run {series.table.name} --scale {series.scale_name}."
        )
    return rows, absent
