"""Holes on pixels and on cells."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F


def composite(
    prediction: Float[Tensor, "B 3 H W"], corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, "B 3 H W"]:
    """The known pixels of `corrupted` and, in the hole, those of `prediction`.

    A selection rather than a sum of products: outside the hole the result equals `corrupted` bit for bit, also where
    the prediction is infinite or of another dtype.

    Returns:
        (B, 3, H, W), dtype of `corrupted`.

    Example:
        >>> hole = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
        >>> composite(torch.ones(1, 3, 1, 2), torch.zeros(1, 3, 1, 2), hole)[0, 0]
        tensor([[0., 1.]])
    """
    return torch.where(hole > 0.5, prediction.to(corrupted.dtype), corrupted)


def missing_share(hole: Float[Tensor, "B 1 H W"], size: tuple[int, int]) -> Float[Tensor, "B 1 h w"]:
    """Missing share of each cell of a feature map: the average of the hole over the cell's area.

    Area averaging, never nearest: a thin stroke that touches a cell makes it incomplete.

    Args:
        hole: (B, 1, H, W), 1 = missing.
        size: (h, w) of the feature map; need not divide H and W.

    Returns:
        (B, 1, h, w) in [0, 1]; 0 means that no pixel of the cell is missing.

    Example:
        >>> missing_share(torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]]), (1, 2))
        tensor([[[[0.5000, 0.0000]]]])
    """
    height, width = hole.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:
        # The same numbers as below; pooling with a fixed window also exports and compiles with dynamic sizes.
        return F.avg_pool2d(hole, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(hole, size)


def complete_cells(share: Float[Tensor, "B 1 h w"], tolerance: float = 0.0) -> Bool[Tensor, " N"]:
    """Which regions are complete, in the row order of `as_regions`.

    Args:
        share: (B, 1, h, w) from `missing_share`.
        tolerance: largest missing share that still counts as complete; the paper does not say, we use 0.
    """
    return (share <= tolerance).reshape(-1)
