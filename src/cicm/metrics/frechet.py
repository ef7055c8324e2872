"""Frechet distance of two sets of images in a feature space: `fid` and `sqz-frechet`. Everything is float64."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, describe
from cicm.metrics.pixels import as_double
from cicm.metrics.registry import Metric
from cicm.metrics.state import Batch, Features, Running


class FrechetStatistics:
    """Count, mean and scatter of feature vectors, streamed.

    The scatter is kept about the mean (Chan, Golub and LeVeque 1983) and not as a sum of squares: features that are
    large against their spread would lose digits.

    Law: whatever the batches, mean and covariance are those of all rows together.

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

    def update(self, features: Float[Tensor, "B D"]) -> None:
        """Take in the features of one batch, one row an image.

        Raises:
            InputError: another number of features; NaN or infinite values.
        """
        if features.shape[1] != len(self.mean):
            raise InputError(f"features must be (B, {len(self.mean)}); got {describe(features)}.")
        if not bool(torch.isfinite(features).all()):
            raise InputError("features must be finite; got NaN or infinite values. Look at the images of this batch.")
        if not len(features):
            return
        rows = as_double(features.detach())
        centred = rows - rows.mean(dim=0)
        total = self.num_images + len(rows)
        mean, scatter = self.mean.to(rows.device), self.scatter.to(rows.device)
        shift = rows.mean(dim=0) - mean
        self.mean = mean + shift * (len(rows) / total)
        self.scatter = scatter + centred.T @ centred + torch.outer(shift, shift) * (self.num_images * len(rows) / total)
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
        cov_x: (D, D); symmetric, no negative eigenvalues beyond rounding.

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


class FrechetBetweenSets(Running):
    """Frechet distance between the features of all composites and those of all images.

    With fewer images than features the covariances are singular: the figure is then far too high and means something
    only beside figures at the same number of images. `compute` warns; `note` says it in a line.
    Below `fewest` images it always refuses.
    """

    def __init__(
        self,
        metric: Metric,
        features: Features,
        num_features: int,
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
        fewest: int = 2,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._features = features
        self.composites = FrechetStatistics(num_features)
        self.images = FrechetStatistics(num_features)
        self.fewest = fewest

    @property
    def num_images(self) -> int:
        return self.composites.num_images

    @property
    def note(self) -> str:
        """The number of images, and a warning where it is below the number of features."""
        count, features = self.num_images, len(self.composites.mean)
        if count >= features:
            return f"N={count}"
        return f"N={count} < {features} features: biased upwards, comparable only at the same N"

    def compute(self) -> float:
        if self.num_images < self.fewest:
            raise InputError(
                f"{self.metric.name} needs at least {self.fewest} images to mean anything; got {self.num_images}. "
                f"Score more, or look at {'kid' if self.metric.name == 'fid' else 'sqz-kernel'}."
            )
        if self.num_images < len(self.composites.mean):
            warnings.warn(f"{self.metric.name}: {self.note}", stacklevel=2)
        x, y = self.composites, self.images
        return frechet_distance(x.mean.cpu(), x.covariance().cpu(), y.mean.cpu(), y.covariance().cpu())

    def _take(self, batch: Batch) -> None:
        composites, images = self._features(batch)
        self.composites.update(composites)
        self.images.update(images)
