"""How sure a mean over images is: the interval that stands beside it, always made the same way."""

from __future__ import annotations

from collections.abc import Sequence

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
