"""How sure a mean over images is: the interval that stands beside it, always made the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError

RESAMPLES = 2000
LEVEL = 0.95
SEED = 0


def interval(values: Sequence[float] | np.ndarray) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over images, with the settings of all our tables.

    Args:
        values: (n,), one score or one paired difference per image.

    Returns:
        (low, high), or None for a single value: one image says nothing about the spread over images.

    Example:
        >>> interval([1.0, 1.0, 1.0]), interval([3.0])
        ((1.0, 1.0), None)
    """
    if len(values) == 1:
        return None
    generator = torch.Generator().manual_seed(SEED)
    numbers = torch.tensor(np.asarray(values), dtype=torch.float64)
    return bootstrap_interval(numbers, generator, level=LEVEL, resamples=RESAMPLES)


def bootstrap_interval(
    values: Float[Tensor, "N"], generator: torch.Generator, *, level: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean: images are drawn with replacement, as if the test set were another.

    For a paired comparison give it the differences between two methods on the same images.

    Args:
        values: (N,); one score, or one difference, for each image.
        generator: source of the draws, on the CPU; the same seed gives the same interval.
        level: share of the resampled means that lies inside.
        resamples: how many means are drawn.

    Returns:
        (low, high).

    Raises:
        InputError: no value, a NaN, or a level outside (0, 1).

    Example:
        >>> bootstrap_interval(torch.full((5,), 2.0), torch.Generator().manual_seed(0))
        (2.0, 2.0)
    """
    if not 0 < level < 1 or resamples < 1:
        raise InputError(f"the level must lie in (0, 1) and resamples be at least 1; got {level} and {resamples}.")
    if not len(values) or not bool(torch.isfinite(values).all()):
        raise InputError(f"an interval needs finite values, at least one; got {len(values)} of them.")
    wide = values.detach().cpu().double()
    means = torch.empty(resamples, dtype=torch.float64)
    for draw in range(resamples):  # one at a time: resamples x N indices would be large for large test sets
        means[draw] = wide[torch.randint(len(wide), (len(wide),), generator=generator)].mean()
    low, high = means.quantile(torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=torch.float64)).tolist()
    return low, high
