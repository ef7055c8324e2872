"""How sure a mean over images is: the interval that stands beside it, always made the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cicm.metrics import bootstrap_interval

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
