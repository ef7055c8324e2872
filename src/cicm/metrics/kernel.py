"""Kernel distance (unbiased MMD) between two sets of images in a feature space: `kid` and `sqz-kernel`. All float64."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics.pixels import as_double
from cicm.metrics.registry import Metric
from cicm.metrics.state import Batch, Features, Running

_FEW = 100  # below so many images the kernel distances say how unsure they are


def kernel_distance(x: Float[Tensor, "N D"], y: Float[Tensor, "M D"], *, paired: bool = False) -> float:
    """Squared maximum mean discrepancy with the kernel `(x.y / D + 1)^3`, unbiased (Binkowski et al. 2018).

    Its expected value does not depend on the number of images, unlike that of a Frechet distance; it may come out
    slightly below 0 for sets that look alike.

    Args:
        x: (N, D), N at least 2; the features of the first set.
        y: (M, D), M at least 2; the features of the second set.
        paired: row i of x belongs to row i of y, as a composite to its picture. Such pairs are more alike than the sets
            are and would pull the figure below 0; they are left out (the U-statistic of Gretton et al. 2012).

    Returns:
        The discrepancy.

    Raises:
        InputError: fewer than two rows; paired sets of different sizes.

    Example:
        >>> kernel_distance(torch.tensor([[0.0], [0.0]]), torch.tensor([[1.0], [1.0]]))
        7.0
    """
    if min(len(x), len(y)) < 2:
        raise InputError(f"a kernel distance needs at least 2 images on each side; got {len(x)} and {len(y)}.")
    if paired and len(x) != len(y):
        raise InputError(f"paired sets must have the same size; got {len(x)} and {len(y)}.")
    x, y = as_double(x), as_double(y)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1) ** 3

    def off_diagonal(pairs: Tensor) -> Tensor:  # the mean over pairs of different rows
        return (pairs.sum() - pairs.diagonal().sum()) / (len(pairs) * (len(pairs) - 1))

    across = off_diagonal(kernel(x, y)) if paired else kernel(x, y).mean()
    return (off_diagonal(kernel(x, x)) + off_diagonal(kernel(y, y)) - 2 * across).item()


class KernelBetweenSets(Running):
    """Unbiased kernel distance between the features of all composites and those of all images, times 1000.

    The features are kept: 4 bytes for each and image and side.

    Args:
        unit_length: bring each feature vector to length 1 first, times the root of their number: the kernel is cubic,
            and where features are large single images would decide.
        paired: leave out a composite and its own picture, see `kernel_distance`.
    """

    def __init__(
        self,
        metric: Metric,
        features: Features,
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
        *,
        unit_length: bool,
        paired: bool,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._features = features
        self._unit_length, self._paired = unit_length, paired
        self._composites: list[Tensor] = []
        self._images: list[Tensor] = []

    @property
    def num_images(self) -> int:
        return sum(map(len, self._composites))

    @property
    def note(self) -> str:
        """The number of images, and a warning where it is small."""
        count = self.num_images
        few = count < _FEW
        return f"N={count}" + (f" < {_FEW}: unbiased, but another set of photos may tell otherwise" * few)

    def compute(self) -> float:
        if not self._composites:
            raise InputError("a kernel distance needs at least 2 images on each side; got none. Call update first.")
        return 1000 * kernel_distance(torch.cat(self._composites), torch.cat(self._images), paired=self._paired)

    def _take(self, batch: Batch) -> None:
        for kept, rows in zip((self._composites, self._images), self._features(batch)):
            if self._unit_length:
                rows = rows.shape[1] ** 0.5 * torch.nn.functional.normalize(rows, dim=1)
            kept.append(rows.cpu())
