"""Running state for scores that every image has for itself: all values are kept, to be resampled and paired."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError


class PerImageValues:
    """The scores of the images seen so far, in the order in which they came; float64, on the CPU.

    Law: whether images come one by one, in batches, or in parts that are merged, the values and their mean are the
        same.

    Example:
        >>> seen = PerImageValues()
        >>> seen.append(torch.tensor([1.0, 2.0]))
        >>> seen.append(torch.tensor([6.0]))
        >>> len(seen), seen.mean()
        (3, 3.0)
    """

    def __init__(self) -> None:
        self._parts: list[Tensor] = []

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def append(self, values: Float[Tensor, "B"]) -> None:
        """Take in the scores of one batch.

        Raises:
            InputError: a score is NaN or infinite; one such value would hide in the mean.
        """
        if not bool(torch.isfinite(values).all()):
            raise InputError(f"scores must be finite; got {values.tolist()}. Look at the images of this batch.")
        self._parts.append(values.detach().cpu().double())

    def merge(self, other: PerImageValues) -> None:
        """Take in what another part of the run has seen; its images follow after ours. `other` stays as it is."""
        self._parts.extend(other._parts)

    @property
    def values(self) -> Float[Tensor, "N"]:
        """(N,) float64; the scores in order. Empty before the first image."""
        return torch.cat(self._parts) if self._parts else torch.zeros(0, dtype=torch.float64)

    def mean(self) -> float:
        """The mean over images.

        Raises:
            InputError: no image has come yet.
        """
        if not len(self):
            raise InputError("a mean needs at least one image; got none. Call update first.")
        return self.values.mean().item()


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
