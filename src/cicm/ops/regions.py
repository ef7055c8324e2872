"""Feature maps as rows of regions and back."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def as_regions(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "N C"]:
    """The cells of a feature map as rows, image by image, row by row (N = B*h*w).

    Example:
        >>> as_regions(torch.arange(8.0).view(1, 2, 2, 2))[1]
        tensor([1., 5.])
    """
    return features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])


def as_map(regions: Float[Tensor, "N C"], like: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """The inverse of `as_regions`, with the batch, map size and memory layout of `like`."""
    batch, _, height, width = like.shape
    features = regions.view(batch, height, width, regions.shape[1]).permute(0, 3, 1, 2)
    # Rows lie channels last; left so, the next convolution would take another path and change its last bits.
    # A copy in any case: a map of one cell counts as contiguous with the strides of the rows.
    return features.clone(memory_format=torch.contiguous_format) if like.is_contiguous() else features
