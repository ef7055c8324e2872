"""Is B better than A, image by image? A paired bootstrap, over one or several seeds of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cicm.conventions import InputError
from cicm.evaluation.intervals import interval as interval_of
from cicm.evaluation.protocol import remedy
from cicm.evaluation.records import Evaluation
from cicm.metrics import METRICS

Run = tuple[Evaluation, str]  # an evaluation and the name of one method in it

Cell = tuple[str, str]
Picture = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """B against A in one cell of the table.

    Args:
        first, second: mean of A and of B, over images and seeds.
        difference: second - first.
        interval: paired bootstrap interval of the difference: images are drawn, with both methods' scores of them
            averaged over the seeds; None for one image and for scores of a whole set.
        improved: share of images on which B is strictly better, by the metric's direction; None for scores of a set.
        first_spread, second_spread: standard deviation of the mean over the seeds; None for one seed.
        by_seed: second - first for each pair of seeds in the order given; empty where their numbers differ.
    """

    group: str
    band: str
    metric: str
    n: int
    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    improved: float | None
    first_spread: float | None
    second_spread: float | None
    by_seed: tuple[float, ...]


def compare(first: Sequence[Run], second: Sequence[Run]) -> list[Comparison]:
    """Compare two methods on the same holes in the same photos.

    Args:
        first: runs of A, one per seed.
        second: runs of B, one per seed.

    Returns:
        One comparison per size group, band and metric that all the runs have, in the order of A's table.

    Raises:
        InputError: different protocols (another list of pairs, other pixels, another definition), an unknown method,
            or a run without the scores of each image.
    """
    runs = [*first, *second]
    if not first or not second:
        raise InputError("a comparison needs a run on each side; got none.")
    for evaluation, method in runs:
        if differences := runs[0][0].protocol.differences(evaluation.protocol):
            raise InputError(
                f"{runs[0][1]!r} and {method!r} were not scored on the same terms: {'; '.join(differences)}. "
                f"{remedy(runs[0][0].protocol, evaluation.protocol)}"
            )
    scores = [_image_scores(*run) for run in runs]
    wholes = [_set_scores(*run) for run in runs]
    found = []
    for cell, metrics in scores[0].items():
        pictures = [table.get(cell, {}) for table in scores]
        names = list(dict.fromkeys([*metrics, *(metric for at, metric in wholes[0] if at == cell)]))
        for metric in names:
            if all(metric in table for table in pictures):
                found.append(_compare_images(cell, metric, [table[metric] for table in pictures], len(first)))
            elif all((cell, metric) in whole for whole in wholes):
                means = np.array([whole[cell, metric][0] for whole in wholes])
                found.append(_comparison(cell, metric, wholes[0][cell, metric][1], means, len(first)))
    if not found:
        raise InputError("the two sides have no metric in common; score both with the same --metrics.")
    return found


def _compare_images(cell: Cell, metric: str, tables: list[dict[Picture, float]], split: int) -> Comparison:
    pictures = list(tables[0])
    for table in tables[1:]:
        if table.keys() != tables[0].keys():
            raise InputError(
                f"the runs have different photos at {' '.join(cell)}, {metric}: {len(table)} and {len(tables[0])}, "
                f"{len(table.keys() & tables[0].keys())} in common. Score both with the same list (--pairs)."
            )
    rows = np.array([[table[picture] for picture in pictures] for table in tables])
    first, second = rows[:split].mean(axis=0), rows[split:].mean(axis=0)
    improved = float((METRICS[metric].gain(first, second) > 0).mean())
    return _comparison(cell, metric, len(pictures), rows.mean(axis=1), split, interval_of(second - first), improved)


def _comparison(
    cell: Cell,
    metric: str,
    n: int,
    means: np.ndarray,
    split: int,
    interval: tuple[float, float] | None = None,
    improved: float | None = None,
) -> Comparison:
    first, second = means[:split], means[split:]
    return Comparison(
        *cell,
        metric,
        n,
        float(first.mean()),
        float(second.mean()),
        float(second.mean() - first.mean()),
        interval,
        improved,
        float(first.std(ddof=1)) if len(first) > 1 else None,
        float(second.std(ddof=1)) if len(second) > 1 else None,
        tuple(float(d) for d in second - first) if len(first) == len(second) else (),
    )


def _image_scores(evaluation: Evaluation, method: str) -> dict[Cell, dict[str, dict[Picture, float]]]:
    """(group, band) -> metric -> picture -> score, of one method."""
    found: dict[Cell, dict[str, dict[Picture, float]]] = {}
    for row in evaluation.images:
        if row.method == method:
            cell = found.setdefault((row.group, row.band), {})
            for metric, value in row.scores.items():
                cell.setdefault(metric, {})[row.image, row.mask] = value
    if not found:
        raise InputError(
            f"no scores of single images by {method!r}; the file has {', '.join(evaluation.methods)}. "
            "Score it with -o, which writes them beside the records."
        )
    return found


def _set_scores(evaluation: Evaluation, method: str) -> dict[tuple[Cell, str], tuple[float, int]]:
    """((group, band), metric) -> (score, images), of one method, for the scores of whole sets."""
    return {
        ((record.group, record.band), record.metric): (record.value, record.n)
        for record in evaluation.records
        if record.method == method and record.value is not None and record.interval is None and record.std is None
    }


def load_runs(specification: str) -> list[Run]:
    """Runs from the command line: `FILE.json`, `FILE.json:METHOD`, or several seeds joined by commas.

    Raises:
        InputError: a file that can't be read, or one with several methods and none named.
    """
    runs = []
    for part in specification.split(","):
        name, method = part.strip(), None
        if not Path(name).exists() and ":" in name:
            name, method = name.rsplit(":", 1)
        evaluation = Evaluation.load(name)
        methods = evaluation.methods
        if method is None and len(methods) > 1:
            raise InputError(f"{name} holds {', '.join(methods)}; say which one: {name}:{methods[0]}.")
        if method is not None and method not in methods:
            raise InputError(f"{name} holds {', '.join(methods)}, and no method {method!r}. Write {name}:{methods[0]}.")
        runs.append((evaluation, method or methods[0]))
    return runs
