"""Attention between patches: a map is pasted together from patches of a map of twice its size.

DeepFill's contextual attention and PEN-Net's attention transfer share it. Queries and keys are small patches, values
are the 4x4 patches behind the keys on the finer map.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from cicm.ops.precision import full_precision

SCALE = 10.0
"""Of the scores before the softmax, in both networks."""

_MAX_SCORES = 2**25
"""Scores held at a time without gradients: 128 MiB. A map of 256x256 cells has 2**32."""


def nearest_aligned(x: Float[Tensor, "B C H W"], size: tuple[int, int]) -> Float[Tensor, "B C h w"]:
    """Nearest resizing with aligned corners, as in TensorFlow 1; torch's own takes other rows and columns.

    Cell i of m takes cell floor(i (n - 1) / (m - 1) + 1/2) of n.

    Example:
        >>> nearest_aligned(torch.arange(8.0).view(1, 1, 1, 8), (1, 4)).flatten()
        tensor([0., 2., 5., 7.])
    """
    for axis, m in zip((2, 3), size, strict=True):
        last = m - 1 if m > 1 else 1
        steps = torch.arange(m, device=x.device)
        x = x.index_select(axis, (2 * steps * (x.shape[axis] - 1) + last) // (2 * last))
    return x


def untouched(hole: Float[Tensor, "B 1 h w"], kernel: int) -> Bool[Tensor, "B 1 h w"]:
    """The cells whose whole patch is known; beyond the border nothing is missing.

    Args:
        hole: (B, 1, h, w) on the cells; anything above 0 is missing.
        kernel: side of the patch, odd.

    Example:
        >>> untouched(torch.tensor([[[[0.0, 0.0, 0.0, 1.0]]]]), 3).flatten().tolist()
        [True, True, False, False]
    """
    return F.max_pool2d(hole, kernel, stride=1, padding=kernel // 2) == 0


def attend(
    queries: Float[Tensor, "B C h w"],
    keys: Float[Tensor, "B C h w"],
    values: Float[Tensor, "B c 2*h 2*w"],
    usable: Bool[Tensor, "B 1 h w"],
    *,
    kernel: int = 3,
    fused: bool = False,
    least: float = 0.0,
) -> Float[Tensor, "B c 2*h 2*w"]:
    """Each query's mixture of the 4x4 patches behind the keys, pasted with overlap and divided by 4.

    A score is the product of a query's patch with a key's patch of length 1, times `SCALE`.

    Args:
        usable: (B, 1, h, w), which keys may be copied. The others get the score 0 before the softmax and the weight 0
            after it, so they take part of the sum; both originals do so.
        kernel: side of the patches that are compared, odd.
        fused: add up each score with those of neighbouring queries and keys, see `fuse`.
        least: no weight is below this (PEN-Net: 1e-8).

    Returns:
        (B, c, 2h, 2w), dtype of `values`; computed in float32 or wider.

    Example:
        >>> values = torch.arange(16.0).view(1, 1, 4, 4)
        >>> found = attend(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2), values, torch.ones(1, 1, 2, 2) > 0, kernel=1)
        >>> found.shape, round(found[0, 0, 1, 1].item(), 4)
        (torch.Size([1, 1, 4, 4]), 4.6875)
    """
    height, width = queries.shape[-2:]
    with full_precision(queries):
        wide = torch.promote_types(values.dtype, torch.float32)
        asked = F.unfold(queries.to(wide), kernel, padding=kernel // 2)
        held = F.unfold(keys.to(wide), kernel, padding=kernel // 2)
        held = held / held.square().sum(1, keepdim=True).clamp(min=1e-8).sqrt()  # a length of at least 1e-4
        behind = F.unfold(values.to(wide), 4, padding=1, stride=2)
        allowed = usable.flatten(2).transpose(1, 2).to(wide)

        def found(rows: Tensor) -> Tensor:
            scores = held.transpose(1, 2) @ rows
            scores = fuse(scores, (height, width)) if fused else scores
            weights = torch.softmax(SCALE * scores * allowed, 1) * allowed
            return behind @ (weights.clamp(min=least) if least else weights)

        # A query's weights do not depend on other queries, unless they are fused: large maps are done part by part.
        whole = fused or torch.is_grad_enabled() or torch.compiler.is_compiling()
        if whole or height * width * held.shape[-1] * held.shape[0] <= _MAX_SCORES:
            mixed = found(asked)
        else:
            share = max(1, _MAX_SCORES // (held.shape[-1] * held.shape[0]))
            mixed = torch.cat([found(part) for part in asked.split(share, 2)], 2)
        pasted = F.fold(mixed, (2 * height, 2 * width), 4, padding=1, stride=2) / 4
    return pasted.to(values.dtype)


def fuse(scores: Float[Tensor, "B K Q"], size: tuple[int, int]) -> Float[Tensor, "B K Q"]:
    """Scores that neighbours support: a query beside another should look beside where the other looks.

    Each score is added to the two that lie one step before and after on both axes, first in the order of the rows, then
    in the order of the columns. Like the original it runs on from the end of a row to the beginning of the next.

    Args:
        scores: (B, K, Q), keys and queries of one map each, both of `size`, row by row.

    Example:
        >>> fuse(torch.eye(3)[None], (1, 3))[0].diagonal()
        tensor([5., 7., 5.])
    """
    height, width = size
    scores = _along(scores)
    by_columns = scores.unflatten(2, size).unflatten(1, size).permute(0, 2, 1, 4, 3).flatten(3).flatten(1, 2)
    scores = _along(by_columns).unflatten(2, (width, height)).unflatten(1, (width, height))
    return scores.permute(0, 2, 1, 4, 3).flatten(3).flatten(1, 2)


def _along(scores: Float[Tensor, "B K Q"]) -> Float[Tensor, "B K Q"]:
    """Each score plus both neighbours on its diagonal."""
    wide = F.pad(scores, (1, 1, 1, 1))
    return wide[:, :-2, :-2] + scores + wide[:, 2:, 2:]
