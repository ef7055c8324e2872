"""A smooth first fill, without parameters."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

HALVINGS = 4
WIDER = (3, 7)
"""Windows of the averages over the lowest level: 48 and 112 pixels."""


def pull_push(corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Fill the hole smoothly from what surrounds it (after the pull-push of Gortler et al., The Lumigraph, 1996).

    Pull: averages over the known pixels alone, of 2, 4, 8 and 16 pixels, then of wider windows that overlap, last of
    the whole image. Push: from the widest on, a cell takes its own average as far as it is known and the wider one
    for the rest. The number of levels is fixed, so that the function exports with dynamic sizes.

    Args:
        corrupted: (B, 3, H, W), H and W at least 16.
        hole: (B, 1, H, W), 1 = missing; an image without any known pixel is filled with 0.

    Returns:
        (B, 3, H, W), equal to `corrupted` outside the hole bit for bit, and within its range.

    Example:
        >>> image, hole = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
        >>> hole[..., 2:30, 2:30] = 1
        >>> bool((pull_push(image * (1 - hole), hole) - 0.5).abs().max() < 1e-6)
        True
    """
    known = 1 - hole
    pyramid = [(corrupted * known, known)]
    for _ in range(HALVINGS):
        colour, weight = pyramid[-1]
        # count_include_pad=False: an average over cells that exist; ceil_mode: odd borders are kept
        pool: dict[str, Any] = {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}
        pyramid.append((F.avg_pool2d(colour, **pool), F.avg_pool2d(weight, **pool)))
    lowest = pyramid[-1]
    for window in WIDER:
        pool = {"kernel_size": window, "stride": 1, "padding": window // 2, "count_include_pad": False}
        pyramid.append((F.avg_pool2d(lowest[0], **pool), F.avg_pool2d(lowest[1], **pool)))
    colour, weight = lowest
    tiny = torch.finfo(weight.dtype).tiny  # not more: one known pixel of many millions still has its colour
    filled = colour.mean((2, 3), keepdim=True) / weight.mean((2, 3), keepdim=True).clamp_min(tiny)
    for colour, weight in reversed(pyramid):
        if filled.shape[-2:] != colour.shape[-2:]:
            filled = F.interpolate(filled, size=colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = colour + (1 - weight) * filled
    return torch.where(hole > 0.5, filled, corrupted)
