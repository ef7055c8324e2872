"""Fill every hole of a fixed list with every method, score each composite, keep each score."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.data.datasets import PairedPhotos
from cicm.data.pair_lists import Pair
from cicm.evaluation.classical import Method, to_array
from cicm.evaluation.grid import GridRow
from cicm.evaluation.intervals import interval
from cicm.evaluation.plan import Cell, Plan, make_protocol
from cicm.evaluation.presets import DEFAULT, PRESETS, Preset
from cicm.evaluation.protocol import Protocol
from cicm.evaluation.provenance import hardware
from cicm.evaluation.records import Evaluation, ImageScores, Record
from cicm.files import evenly_spaced
from cicm.machine import commit
from cicm.metrics import METRICS, Running, update_all
from cicm.metrics.pixels import quantised
from cicm.metrics.published import published
from cicm.published import find

Progress = Callable[[str, int], None]  # (what is being done, images done since the last call)


@dataclass
class _Scores:
    """What one method did in one cell."""

    values: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    by_image: dict[str, list[float]] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    missing: list[float] = field(default_factory=list)
    seconds: float = 0.0


def evaluate(
    methods: Sequence[Method],
    plan: Plan,
    metrics: Sequence[str],
    *,
    batch_size: int = 8,
    grid_photos: int = 0,
    preset: Preset = PRESETS[DEFAULT],
    progress: Progress = lambda text, images: None,
) -> tuple[Evaluation, list[GridRow]]:
    """Score methods on the same pairs.

    Args:
        methods: with different names; all raw or none.
        metrics: names from `cicm.metrics.METRICS` that the preset has.
        batch_size: pictures at once; changes speed and memory alone.
        grid_photos: photos of each size group to keep pictures of.

    Returns:
        The records with the scores of each image, and the rows of a picture grid.

    Raises:
        InputError: an unknown metric, two methods of one name, files missing or unreadable.
    """
    _check(methods, metrics, batch_size, preset)
    for method in methods:
        method.prepare(plan.pairs)
    code = commit()  # before the run, not after it: the files may change meanwhile
    digest = hashlib.sha256()
    rows: dict[Pair, GridRow] = {}
    shown = _shown(plan, grid_photos)
    results: dict[tuple[str, str, str], _Scores] = {}
    for method in methods:
        for cell in plan.cells:
            scores = results[method.name, cell.group, cell.band] = _Scores()
            running = _available(metrics, scores, preset)
            for pairs, image, hole, label in batches(plan, cell, batch_size, labels=method.takes_labels):
                if method is methods[0]:
                    digest.update(pixels(image, hole))
                filled = _fill(method, image, hole, pairs, scores, label)
                scored = (part.to(method.device) for part in (filled, image, hole))
                for name, values in update_all(running, *scored).items():
                    if values is not None:
                        scores.by_image.setdefault(name, []).extend(values.tolist())
                scores.missing += hole.mean(dim=(1, 2, 3), dtype=torch.float64).tolist()
                for index, pair in enumerate(pairs):
                    if pair in shown:
                        row = rows.setdefault(pair, _grid_row(cell, pair, image[index], hole[index]))
                        row.filled[method.name] = to_array(filled[index])
                progress(f"{method.name} {cell.group} {cell.band}", len(pairs))
            _compute(running, scores)
    protocol = make_protocol(plan, metrics, raw=methods[0].raw, pixels_sha256=digest.hexdigest(), preset=preset)
    order = {name: position for position, name in enumerate(dict.fromkeys(pair.image for pair in plan.pairs))}
    by_photo = [rows[pair] for pair in sorted(rows, key=lambda pair: order[pair.image])]
    return _collect(methods, plan, metrics, results, protocol, code), by_photo


def _check(methods: Sequence[Method], metrics: Sequence[str], batch_size: int, preset: Preset) -> None:
    names = [method.name for method in methods]
    if not methods or len(set(names)) < len(names):
        raise InputError(
            f"methods must have different names; got {', '.join(names) or 'none'}. Rename with LABEL=METHOD."
        )
    if len({method.raw for method in methods}) > 1:
        raise InputError(
            f"raw pictures and composites can't share a table; raw: {', '.join(m.name for m in methods if m.raw)}."
        )
    if not metrics or (unknown := [name for name in metrics if name not in METRICS]):
        raise InputError(f"the metrics are {', '.join(METRICS)}; got {', '.join(unknown) if metrics else 'none'}.")
    if foreign := [name for name in metrics if name not in preset.names]:
        raise InputError(
            f"the protocol {preset.name} has {', '.join(preset.names)}; got {', '.join(foreign)}. Leave it out, or use "
            f"--protocol {DEFAULT}."
        )
    if len(set(metrics)) < len(metrics):
        raise InputError(f"each metric once; got {', '.join(metrics)}.")
    if batch_size < 1:
        raise InputError(f"the batch size must be at least 1; got {batch_size}.")


def _available(metrics: Sequence[str], scores: _Scores, preset: Preset) -> dict[str, Running]:
    """Fresh metrics; those that can't be measured leave their reason in `scores`."""
    scores.reasons |= {name: preset.absent[name] for name in metrics if name in preset.absent}
    running = {name: preset.create(name) for name in metrics if name not in preset.absent}
    for name, metric in running.items():
        if (reason := metric.available()) is not None:
            absent = [published(weights) for weights in METRICS[name].needs]
            files = [file.filename for file in absent if find(file) is None]
            # The files' names alone: the sentence of `available` tells where this machine was searched.
            scores.reasons[name] = f"needs {', '.join(files)}" if files else reason
    return {name: metric for name, metric in running.items() if name not in scores.reasons}


def _compute(running: dict[str, Running], scores: _Scores) -> None:
    """The values of a cell. What a metric warns of becomes a note; a set too small for it becomes a reason."""
    for name, metric in running.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the same words are in `note`
                scores.values[name] = float(metric.compute())
        except InputError as error:
            scores.reasons[name] = str(error)
        note = getattr(metric, "note", None)
        if note and note != f"N={metric.num_images}":  # the number alone stands in the record as `n`
            scores.notes[name] = note


def batches(
    plan: Plan, cell: Cell, batch_size: int, *, labels: bool = False
) -> Iterator[tuple[tuple[Pair, ...], Tensor, Tensor, Tensor | None]]:
    """(pairs, image (B, 3, H, W), hole (B, 1, H, W), label (B, H, W) or None) in the order of the list.

    Args:
        labels: read the plan's label maps too, where it has some.
    """
    maps = plan.labels.of(cell.pairs) if labels and plan.labels is not None else None
    photos = PairedPhotos(cell.pairs, plan.images, plan.masks, fit=plan.fit, invert=plan.invert, labels=maps)
    for start in range(0, len(photos), batch_size):
        samples = [photos[index] for index in range(start, min(start + batch_size, len(photos)))]
        image = torch.stack([sample["image"] for sample in samples])
        hole = torch.stack([sample["hole"] for sample in samples])
        said = [label for sample in samples if (label := sample["label"]) is not None]
        yield cell.pairs[start : start + batch_size], image, hole, torch.stack(said) if said else None


def _fill(
    method: Method,
    image: Tensor,
    hole: Tensor,
    pairs: Sequence[Pair],
    scores: _Scores,
    label: Tensor | None = None,
) -> Tensor:
    """The picture that is scored, on the CPU, clamped to [0, 1]; adds the time that the method took."""
    corrupted = image * (1 - hole)
    at_home = corrupted.to(method.device), hole.to(method.device)
    more = {"label": label.to(method.device)} if label is not None else {}
    _wait(method.device)
    start = time.perf_counter()
    filled = method.fill(*at_home, pairs, **more)
    _wait(method.device)
    scores.seconds += time.perf_counter() - start
    assert filled.shape == image.shape, f"{method.name} gave {tuple(filled.shape)} for {tuple(image.shape)}"
    filled = quantised(filled.cpu(), "none")  # the metrics round, each in its own way
    assert method.raw or torch.equal(filled * (1 - hole), corrupted), f"{method.name} changed known pixels"
    return filled


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def pixels(image: Tensor, hole: Tensor) -> bytes:
    """What the hash of the pixels is made of: 8-bit photos and holes, picture by picture."""
    parts = []
    for picture, mask in zip(image, hole):
        parts += [to_array(picture).tobytes(), np.packbits(mask[0].numpy() > 0.5).tobytes()]
    return b"".join(parts)


def _shown(plan: Plan, photos: int) -> set[Pair]:
    """Pairs whose pictures are kept: photos evenly spread over each size group."""
    shown: set[Pair] = set()
    for group in dict.fromkeys(cell.group for cell in plan.cells):
        pairs = [pair for cell in plan.cells if cell.group == group for pair in cell.pairs]
        names = list(dict.fromkeys(pair.image for pair in pairs))
        kept = set(evenly_spaced(names, photos))
        shown |= {pair for pair in pairs if pair.image in kept}
    return shown


def _grid_row(cell: Cell, pair: Pair, image: Tensor, hole: Tensor) -> GridRow:
    corrupted = to_array(image)
    corrupted[hole[0].numpy() > 0.5] = 255
    return GridRow(f"{pair.image}  {cell.band} %", to_array(image), corrupted)


def _collect(
    methods: Sequence[Method],
    plan: Plan,
    metrics: Sequence[str],
    results: dict[tuple[str, str, str], _Scores],
    protocol: Protocol,
    code: str | None,
) -> Evaluation:
    records, images = [], []
    for method in methods:
        machine = hardware(method.device)
        untold = "; no label maps were given" if method.takes_labels and plan.labels is None else ""
        for cell in plan.cells:
            scores = results[method.name, cell.group, cell.band]
            for name in metrics:
                values = scores.by_image.get(name, [])
                records.append(
                    Record(
                        protocol=protocol,
                        method=method.name,
                        detail=method.detail + untold,
                        band=cell.band,
                        group=cell.group,
                        metric=name,
                        value=scores.values.get(name),
                        reason=scores.reasons.get(name),
                        note=scores.notes.get(name),
                        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
                        interval=interval(values) if values else None,
                        n=len(cell.pairs),
                        seed=method.seed,
                        commit=code,
                        seconds=scores.seconds / len(cell.pairs),
                        hardware=machine,
                    )
                )
            for index, pair in enumerate(cell.pairs):
                own = {name: values[index] for name, values in scores.by_image.items()}
                images.append(
                    ImageScores(method.name, cell.group, cell.band, pair.image, pair.mask, scores.missing[index], own)
                )
    return Evaluation(tuple(records), tuple(images))
