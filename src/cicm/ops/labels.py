"""Label maps on pixels and on cells, as planes: one per class, all zero where nothing is said."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from cicm.ops.fill import pull_push

SMOOTHING = 0.02
"""Share of an even distribution in every probability, so that no logarithm is infinite."""


def label_planes(label: UInt8[Tensor, "B H W"] | Int[Tensor, "B H W"], classes: int) -> Float[Tensor, "B N H W"]:
    """One plane per class, 1 where the label is that class; void, and every other number, is zero in all of them.

    Example:
        >>> label_planes(torch.tensor([[[1, 255]]], dtype=torch.uint8), 2)[0, :, 0]
        tensor([[0., 0.],
                [1., 0.]])
    """
    numbers = torch.arange(classes, device=label.device).view(1, -1, 1, 1)
    return (label[:, None].long() == numbers).float()


def cell_shares(planes: Float[Tensor, "B N H W"], size: tuple[int, int]) -> Float[Tensor, "B N h w"]:
    """Share of each class in each cell of a map of `size`: never the nearest label, since many cells are mixed.

    Example:
        >>> cell_shares(torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]]), (1, 1)).flatten()
        tensor([0.5000, 0.5000])
    """
    height, width = planes.shape[-2:]
    if height % size[0] == 0 and width % size[1] == 0:  # as in `missing_share`
        return F.avg_pool2d(planes, (height // size[0], width // size[1]))
    return F.adaptive_avg_pool2d(planes, size)


def continued(planes: Float[Tensor, "B N H W"]) -> Float[Tensor, "B N H W"]:
    """Log probabilities from labels that are known in part: as they are there, continued smoothly elsewhere.

    The continuation is `pull_push`. Pixels without a label count as unknown, whether missing or void; a picture without
    any label gets the same number everywhere.

    Args:
        planes: (B, N, H, W), H and W at least 16; each pixel sums to 1 or is zero.
    """
    unknown = 1 - planes.sum(1, keepdim=True)
    filled = pull_push(planes, (unknown > 0.5).to(planes.dtype))
    total = filled.sum(1, keepdim=True)
    count = planes.shape[1]
    even = filled.new_full((), 1 / count)
    chance = torch.where(total > 0.5, filled / total.clamp_min(0.5), even)
    return ((1 - SMOOTHING) * chance + SMOOTHING / count).log()
