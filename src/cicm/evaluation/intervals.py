"""How sure a mean over images is: the interval that stands beside it, always made the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

import numpy as np
import torch

from cicm.conventions import InputError

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over images: images are drawn with replacement, as if the test set
    were another. The settings are those of all our tables.

    Args:
        values: (n,), one score or one paired difference per image.

    Returns:
        (low, high), or None for a single value: one image says nothing about the spread over images.

    Raises:
        InputError: no value, or one that is not finite.

    Example:
        >>> interval([1.0, 1.0, 1.0]), interval([3.0])
        ((1.0, 1.0), None)
    """
    numbers = torch.tensor(np.asarray(values), dtype=torch.float64)
    if not len(numbers) or not bool(torch.isfinite(numbers).all()):
        raise InputError(f"an interval needs finite values, at least one; got {len(numbers)} of them.")
    if len(numbers) == 1:
        return None
    generator = torch.Generator().manual_seed(SEED)
    means = torch.empty(RESAMPLES, dtype=torch.float64)
    for draw in range(RESAMPLES):  # one at a time: RESAMPLES x n indices would be large for large test sets
        means[draw] = numbers[torch.randint(len(numbers), (len(numbers),), generator=generator)].mean()
    ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
    low, high = means.quantile(ends).tolist()
    return low, high


def block_interval(
    sums: np.ndarray, blocks: Sequence[str], statistic: Callable[[np.ndarray], float]
) -> tuple[float, float] | None:
    """As `interval`, for photos that are no independent draws, as the frames of a film: whole blocks are drawn.

    Args:
        sums: (n, k), what each photo adds to the sums that the statistic is taken from.
        blocks: (n,), the name of each photo's block.
        statistic: (k,) sums over the drawn photos -> the score; NaN where a draw has nothing to score.

    Returns:
        (low, high), or None for a single block or a statistic that is NaN in most draws.

    Example:
        >>> frames = np.array([[1.0, 1.0], [3.0, 1.0], [5.0, 1.0], [7.0, 1.0]])  # a score, and a count
        >>> block_interval(frames, ["a", "a", "b", "b"], lambda sums: sums[0] / sums[1])
        (2.0, 6.0)
    """
    names = {name: place for place, name in enumerate(dict.fromkeys(blocks))}
    if len(names) < 2:
        return None
    added = np.zeros((len(names), *sums.shape[1:]))
    np.add.at(added, [names[name] for name in blocks], sums)
    generator = torch.Generator().manual_seed(SEED)
    draws = [added[torch.randint(len(names), (len(names),), generator=generator).numpy()] for _ in range(RESAMPLES)]
    values = np.array([statistic(draw.sum(0)) for draw in draws])
    values = values[np.isfinite(values)]
    if 2 * len(values) < RESAMPLES:
        return None
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def blocks_of(images: Sequence[str], length: int = 20) -> list[str]:
    """Blocks of so many consecutive frames of one film; the name of a frame is FILM_NUMBER.

    Example:
        >>> blocks_of(["a/x_1.png", "a/x_2.png", "a/y_1.png", "a/x_3.png"], 2)
        ['x 0', 'x 0', 'y 0', 'x 1']
    """
    films: dict[str, list[str]] = {}
    stems = [PurePosixPath(image).stem for image in images]
    for stem in sorted(set(stems)):
        films.setdefault(stem.rpartition("_")[0], []).append(stem)
    place = {stem: f"{film} {index // length}" for film, all_ in films.items() for index, stem in enumerate(all_)}
    return [place[stem] for stem in stems]
