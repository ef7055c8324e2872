"""What labels say about fills: how well they are completed, PSNR by true class, and which sets were read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError
from cicm.evaluation.intervals import block_interval, blocks_of
from cicm.evaluation.methods import Model
from cicm.evaluation.plan import Plan
from cicm.evaluation.scoring import batches
from cicm.files import write_atomic
from cicm.metrics import to_8bit
from cicm.ops import as_regions, cell_shares, continued, label_planes, missing_share
from cicm.photos.labels import VOID
from cicm.plain import dump_json

FORMAT = "cicm-labels-1"
BLOCK = 20
"""Consecutive frames of a film that are drawn together for an interval."""


@dataclass(frozen=True)
class Score:
    """A number with its interval; the value is None where there is nothing to score."""

    value: float | None
    interval: tuple[float, float] | None


@dataclass
class ImageLabels:
    """What one filled photo adds to the sums.

    Args:
        confusion: (N, N), pixels of the hole by true and by completed class; None of a model that completes none.
        smooth: the same of labels that are merely continued from outside the hole: what completion has to beat.
        squares: (N,), sums of squared differences in [0, 1] of hole pixels by true class, over three channels.
        pixels: (N,), how many hole pixels that are.
        right, cells: of the cells that are mostly missing and of one class, how many read a set of that class.
    """

    image: str
    confusion: np.ndarray | None
    smooth: np.ndarray
    squares: np.ndarray
    pixels: np.ndarray
    right: int = 0
    cells: int = 0


@dataclass(frozen=True)
class LabelReport:
    """Scores by labels of one model, band by band.

    Args:
        scores: band -> name -> score: `accuracy`, `miou`, the same with `smooth-` for continued labels,
            `psnr NAME` of each class, `read` for the share of cells that read a set of their true class.
    """

    method: str
    detail: str
    layout: str
    classes: tuple[str, ...]
    protocol: dict[str, Any]
    scores: dict[str, dict[str, Score]]
    format: str = FORMAT
    images: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_atomic(path, dump_json(asdict(self)))


def score_labels(model: Model, plan: Plan, *, batch_size: int = 8) -> LabelReport:
    """Fill the plan's holes and score by labels.

    Args:
        plan: with label maps.

    Raises:
        InputError: no label maps.
    """
    if plan.labels is None:
        raise InputError("scores by labels need label maps; use a layout that has some, as camvid.")
    classes = plan.labels.of(()).classes
    bands: dict[str, list[ImageLabels]] = {}
    for cell in plan.cells:
        for pairs, image, hole, label in batches(plan, cell, batch_size, labels=True):
            assert label is not None
            known = image * (1 - hole)
            result = model.run(*(part.to(model.device) for part in (known, hole, label)))
            filled = to_8bit(result.composite.float().cpu())
            completed = next((result.maps[name] for name in ("labels", *result.maps) if name in result.maps), None)
            chosen = None if completed is None else completed.float().cpu()
            read = _right_sets(model, result, hole, label)
            for row, pair in enumerate(pairs):
                one = slice(row, row + 1)
                bands.setdefault(cell.band, []).append(
                    _of_image(
                        pair.image,
                        (filled[one], image[one], hole[one], label[one]),
                        None if chosen is None else chosen[one],
                        len(classes),
                        (0, 0) if read is None else (int(read[0][row]), int(read[1][row])),
                    )
                )
    return LabelReport(
        model.name,
        model.detail,
        plan.labels.layout,
        classes.names,
        {
            "void": "never a class, never scored",
            "where": "pixels of the hole alone",
            "resize": f"nearest, {plan.fit}ed to the size of the pair",
            "interval": f"bootstrap over blocks of {BLOCK} consecutive frames",
        },
        {band: summed(rows, classes.names) for band, rows in bands.items()},
        images={band: [_plain(row) for row in rows] for band, rows in bands.items()},
    )


def summed(rows: Sequence[ImageLabels], names: Sequence[str], block: int = BLOCK) -> dict[str, Score]:
    """The scores of some photos, with intervals over blocks of frames."""
    blocks, count = blocks_of([row.image for row in rows], block), len(names)
    found: dict[str, Score] = {}

    def add(name: str, sums: np.ndarray, statistic: Callable[[np.ndarray], float]) -> None:
        value = statistic(sums.sum(0))
        usable = math.isfinite(value)
        found[name] = Score(value if usable else None, block_interval(sums, blocks, statistic) if usable else None)

    tables = {"smooth-": [row.smooth for row in rows], "": [row.confusion for row in rows if row.confusion is not None]}
    for prefix, confusions in tables.items():
        if len(confusions) == len(rows):
            flat = np.stack(confusions).reshape(len(rows), -1).astype(np.float64)
            add(f"{prefix}accuracy", flat, lambda sums: accuracy(sums.reshape(count, count)))
            add(f"{prefix}miou", flat, lambda sums: miou(sums.reshape(count, count)))
    for place, name in enumerate(names):
        sums = np.array([[row.squares[place], row.pixels[place]] for row in rows], dtype=np.float64)
        add(f"psnr {name}", sums, _psnr)
    if any(row.cells for row in rows):
        add("read", np.array([[row.right, row.cells] for row in rows], dtype=np.float64), _share)
    return found


def accuracy(confusion: np.ndarray) -> float:
    """Share of the pixels whose class is right; NaN without a pixel."""
    return _share(np.array([np.trace(confusion), confusion.sum()]))


def miou(confusion: np.ndarray) -> float:
    """Mean over classes of intersection over union; classes in neither truth nor completion are left out.

    Example:
        >>> miou(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]))
        0.775
    """
    union = confusion.sum(0) + confusion.sum(1) - np.diag(confusion)
    there = union > 0
    return float((np.diag(confusion)[there] / union[there]).mean()) if there.any() else math.nan


def _share(sums: np.ndarray) -> float:
    return float(sums[0] / sums[1]) if sums[1] else math.nan


def _psnr(sums: np.ndarray) -> float:
    """Of the whole set: one mean over all its pixels, as single photos may have few of a class."""
    return float(-10 * np.log10(max(sums[0] / (3 * sums[1]), 1e-10))) if sums[1] else math.nan


def _of_image(
    image: str,
    pictures: tuple[Tensor, Tensor, Tensor, Tensor],
    logits: Tensor | None,
    count: int,
    read: tuple[int, int],
) -> ImageLabels:
    filled, whole, hole, label = pictures
    inside = (hole[0, 0] > 0.5) & (label[0] != VOID)
    truth = label[0][inside].long()
    known = continued(label_planes(label, count) * (1 - hole))
    squares = (filled - whole).square().sum(1)[0][inside].double()
    size = (label.shape[-2], label.shape[-1])
    completed = None
    if logits is not None:
        wide = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
        completed = _confusion(truth, wide.argmax(1)[0][inside], count)
    return ImageLabels(
        image,
        completed,
        _confusion(truth, known.argmax(1)[0][inside], count),
        torch.zeros(count, dtype=torch.float64).index_add(0, truth, squares).numpy(),
        torch.bincount(truth, minlength=count).numpy(),
        *read,
    )


def _confusion(truth: Tensor, said: Tensor, count: int) -> np.ndarray:
    return torch.bincount(truth * count + said, minlength=count * count).view(count, count).numpy()


def _right_sets(model: Model, result: Any, hole: Tensor, label: Tensor) -> tuple[Tensor, Tensor] | None:
    """For each photo: cells that read a set of their true class, and cells that count; None without tags."""
    guide = model.model.guide
    if guide is None or guide.tags is None:
        return None
    read = result.reads[guide.config.site][-1]
    size = (read.features.shape[-2], read.features.shape[-1])
    shares = cell_shares(label_planes(label, guide.config.classes), size)
    share, truth = as_regions(shares).max(-1)
    counts = (share > 0.5) & (missing_share(hole, size).reshape(-1) > 0.5)
    right = counts & (guide.tags[read.sets].cpu() == truth)
    return right.view(len(label), -1).sum(1), counts.view(len(label), -1).sum(1)


def _plain(row: ImageLabels) -> dict[str, Any]:
    """What single photos add, without the confusions: enough for paired comparisons of the rest."""
    own = row.confusion
    return {
        "image": row.image,
        "correct": None if own is None else int(np.trace(own)),
        "counted": int(row.pixels.sum()),
        "squares": [round(float(value), 6) for value in row.squares],
        "pixels": row.pixels.tolist(),
        "right": row.right,
        "cells": row.cells,
    }
