"""What label maps and the memory are worth: the rows of `cicm table run semantic`, compared photo by photo.

    cicm table run semantic --scale small --seeds 0 --threads 1
    python -m experiments.semantic_rows results/tables/small/semantic/streets

Prints each row's scores by labels, and the paired differences that decide the claim, with 95 % intervals over blocks of
20 consecutive frames; the two films of the test split apart, because one goes on where a training film ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cicm.evaluation.intervals import block_interval, blocks_of
from cicm.evaluation.records import Evaluation

QUESTIONS = (
    ("label loss", "2-label-loss", "1-rgb"),
    ("label input", "3-label-input", "2-label-loss"),
    ("same picture", "4-same-picture", "3-label-input"),
    ("plain memory", "5-plain-memory", "3-label-input"),
    ("memory by labels over input alone", "6-memory-by-labels", "3-label-input"),
    ("memory by labels over plain memory", "6-memory-by-labels", "5-plain-memory"),
    ("memory by labels over wrong tags", "6-memory-by-labels", "8-shuffled-tags"),
    ("both over same picture", "7-both", "4-same-picture"),
    ("oracle over known", "9-oracle", "6-memory-by-labels"),
)
"""What is asked, the row, and the row that it is held against."""

Scores = dict[tuple[str, str], float]  # (band, photo) -> PSNR


def scores_of(folder: Path, row: str) -> Scores:
    """PSNR of each photo and band, the mean over the seeds that are there."""
    found: dict[tuple[str, str], list[float]] = {}
    for file in sorted(folder.glob(f"{row}-[0-9]*.json")):
        if file.name.endswith(".labels.json"):
            continue
        for image in Evaluation.load(file).images:
            found.setdefault((image.band, image.image), []).append(image.scores["psnr"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def difference(first: Scores, second: Scores, band: str, film: str = "") -> tuple[float, tuple[float, float] | None]:
    """Mean of second - first over the photos of a band, with its interval; of one film, or of all."""
    shared = [key for key in first if key in second and key[0] == band and film_of(key[1]).startswith(film)]
    values = np.array([[second[key] - first[key], 1.0] for key in shared])
    interval = block_interval(values, blocks_of([photo for _, photo in shared]), lambda sums: sums[0] / sums[1])
    return float(values[:, 0].mean()), interval


def film_of(photo: str) -> str:
    """The film that a frame is of.

    Example:
        >>> film_of("test/image/0001TP_008550.jpg")
        '0001TP'
    """
    return PurePosixPath(photo).stem.rpartition("_")[0]


def lines(folder: Path) -> Iterator[str]:
    """The page, as Markdown."""
    rows = {name: scores_of(folder, name) for name in sorted({row for _, *pair in QUESTIONS for row in pair})}
    there = {name: scores for name, scores in rows.items() if scores}
    if not there:
        raise SystemExit(f"no records in {folder}; first: cicm table run semantic --scale small")
    films = sorted({film_of(photo) for scores in there.values() for _, photo in scores})
    bands = sorted({band for scores in there.values() for band, _ in scores})
    yield "| question | photos | " + " | ".join(f"{band} %" for band in bands) + " |"
    yield "|---|---|" + "---|" * len(bands)
    for question, row, held in QUESTIONS:
        if row not in there or held not in there:
            yield f"| {question} | not made yet |" + " |" * len(bands)
            continue
        for film in ("", *films):
            cells = [told(*difference(there[held], there[row], band, film)) for band in bands]
            yield f"| {question} | {film or 'all'} | " + " | ".join(cells) + " |"
    yield ""
    yield from by_labels(folder, sorted(there), bands)


def told(value: float, interval: tuple[float, float] | None) -> str:
    """A difference in dB.

    Example:
        >>> told(0.125, (0.1, 0.15)), told(-0.5, None)
        ('+0.12 [+0.10, +0.15]', '-0.50')
    """
    return f"{value:+.2f}" + (f" [{interval[0]:+.2f}, {interval[1]:+.2f}]" if interval else "")


def by_labels(folder: Path, rows: Sequence[str], bands: Sequence[str]) -> Iterator[str]:
    """Accuracy and mIoU inside the hole, and the share of cells that read a set of their class; seed by seed."""
    names = ("smooth-accuracy", "accuracy", "smooth-miou", "miou", "read")
    yield "| row | band | " + " | ".join(names) + " |"
    yield "|---|---|" + "---|" * len(names)
    for row in rows:
        for file in sorted(folder.glob(f"{row}-[0-9]*.labels.json")):
            scores = json.loads(file.read_text())["scores"]
            for band in bands:
                cells = [scores[band].get(name, {"value": None})["value"] for name in names]
                shown = ["" if value is None else f"{value:.3f}" for value in cells]
                yield f"| {file.name.removesuffix('.labels.json')} | {band} | " + " | ".join(shown) + " |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("results/tables/small/semantic/streets"))
    for line in lines(parser.parse_args().folder):
        print(line)
