"""Distances between two sets of images in a feature space: Frechet (of Gaussians), and an unbiased kernel (MMD).

The feature space is the caller's: `fid` uses the Inception network, `sqz-frechet` a SqueezeNet. Everything is float64.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, describe
from cicm.metrics.pixels import as_double


class FrechetStatistics:
    """Count, mean and scatter of feature vectors, streamed.

    The scatter is kept about the mean (Chan, Golub and LeVeque 1983) and not as a sum of squares: features that are
    large against their spread would lose digits.

    Law: whatever the batches, and merged in any order, mean and covariance are those of all rows together.

    Example:
        >>> statistics = FrechetStatistics(2)
        >>> statistics.update(torch.tensor([[0.0, 0.0], [2.0, 4.0]]))
        >>> statistics.mean, statistics.covariance()
        (tensor([1., 2.], dtype=torch.float64), tensor([[2., 4.], [4., 8.]], dtype=torch.float64))
    """

    def __init__(self, num_features: int) -> None:
        self.num_images = 0
        self.mean = torch.zeros(num_features, dtype=torch.float64)
        self.scatter = torch.zeros(num_features, num_features, dtype=torch.float64)

    @property
    def num_features(self) -> int:
        return len(self.mean)

    def update(self, features: Float[Tensor, "B D"]) -> None:
        """Take in the features of one batch, one row an image.

        Raises:
            InputError: another number of features; NaN or infinite values.
        """
        if features.shape[1] != self.num_features:
            raise InputError(f"features must be (B, {self.num_features}); got {describe(features)}.")
        if not bool(torch.isfinite(features).all()):
            raise InputError("features must be finite; got NaN or infinite values. Look at the images of this batch.")
        rows = as_double(features.detach())
        part = FrechetStatistics(self.num_features)
        part.num_images, part.mean = len(rows), rows.mean(dim=0)
        centred = rows - part.mean
        part.scatter = centred.T @ centred
        if len(rows):
            self.merge(part)

    def merge(self, other: FrechetStatistics) -> None:
        """Take in what another part of the run has seen. `other` stays as it is.

        Raises:
            InputError: another number of features.
        """
        if other.num_features != self.num_features:
            raise InputError(f"cannot merge statistics of {other.num_features} features into {self.num_features}.")
        if not other.num_images:
            return
        total = self.num_images + other.num_images
        # on the device of the newcomer: the first batch decides, a merge across processes comes from the CPU
        mean, scatter = self.mean.to(other.mean.device), self.scatter.to(other.mean.device)
        shift = other.mean - mean
        self.mean = mean + shift * (other.num_images / total)
        self.scatter = (
            scatter + other.scatter + torch.outer(shift, shift) * (self.num_images * other.num_images / total)
        )
        self.num_images = total

    def covariance(self) -> Float[Tensor, "D D"]:
        """Sample covariance, divided by N - 1.

        Raises:
            InputError: fewer than two images.
        """
        if self.num_images < 2:
            raise InputError(f"a covariance needs at least 2 images; got {self.num_images}.")
        return self.scatter / (self.num_images - 1)


def frechet_distance(
    mean_x: Float[Tensor, "D"], cov_x: Float[Tensor, "D D"], mean_y: Float[Tensor, "D"], cov_y: Float[Tensor, "D D"]
) -> float:
    """Squared Frechet distance of two Gaussians: `|m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2))`.

    The trace of the root is the sum of the singular values of `C_x^(1/2) C_y^(1/2)`: real and never negative, where
    the usual matrix root of the product turns complex as soon as a covariance is singular.

    Args:
        mean_x: (D,) of the first set.
        cov_x: (D, D); symmetric, no negative eigenvalues beyond rounding.
        mean_y: (D,) of the second set.
        cov_y: (D, D); as cov_x.

    Returns:
        The distance, at least 0; 0 for equal Gaussians, up to rounding.

    Example:
        >>> one = torch.eye(2, dtype=torch.float64)
        >>> frechet_distance(torch.zeros(2).double(), one, torch.tensor([3.0, 4.0]).double(), 4 * one)
        27.0
    """
    shift = (mean_x - mean_y).square().sum()
    root = torch.linalg.svdvals(_root(cov_x) @ _root(cov_y)).sum()
    distance = shift + cov_x.trace() + cov_y.trace() - 2 * root
    return max(distance.item(), 0.0)  # rounding alone can leave -1e-13 for equal Gaussians


def _root(cov: Tensor) -> Tensor:
    """The symmetric root of a symmetric matrix whose negative eigenvalues are rounding, hence 0."""
    values, vectors = torch.linalg.eigh((cov + cov.T) / 2)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


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
