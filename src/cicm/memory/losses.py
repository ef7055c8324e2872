"""Equations 7 and 8: the ratio's error, similarity between sets and within them."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError
from cicm.memory.state import MemoryState
from cicm.ops.similarity import Similarity, compared


def inter_set(
    anchors: Float[Tensor, "L C"],
    *,
    kind: Similarity = "cosine",
    center: Float[Tensor, " C"] | None = None,
    printed: bool = False,
) -> Float[Tensor, ""]:
    """Mean similarity of the anchors of different sets (Eq. 8, first half); to be minimised.

    Args:
        kind, center: as in `MemoryConfig`.
        printed: the sum over all pairs of dot products, l = o included.

    Returns:
        scalar; in [-1, 1] unless printed or `dot`; 0 when there is one set.

    Differs from the paper: the printed sum includes l = o and grows with norm and L; we take the mean over l != o.

    Example:
        >>> inter_set(torch.tensor([[1.0, 0.0], [0.0, 2.0]])), inter_set(torch.eye(2), printed=True)
        (tensor(0.), tensor(2.))
    """
    if printed:
        return (anchors @ anchors.T).sum()
    count = len(anchors)
    if count == 1:
        return anchors.sum() * 0
    unit = compared(anchors, kind, center)
    pairs = unit @ unit.T
    return (pairs.sum() - pairs.diagonal().sum()) / (count * (count - 1))


def intra_set(
    state: MemoryState, *, kind: Similarity = "cosine", center: Float[Tensor, " C"] | None = None, printed: bool = False
) -> Float[Tensor, ""]:
    """Mean similarity of each context with its own anchor (Eq. 8, second half); to be maximised.

    Args:
        state: anchors (L, C) and contexts (L, K, C).
        printed: the sum of dot products.

    Returns:
        scalar; in [-1, 1] unless printed or `dot`.

    Example:
        >>> state = MemoryState(torch.tensor([[1.0, 0.0]]), torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))
        >>> intra_set(state), intra_set(state, printed=True)
        (tensor(0.5000), tensor(2.))
    """
    if printed:
        return (state.anchors[:, None] * state.contexts).sum()
    return (compared(state.anchors, kind, center)[:, None] * compared(state.contexts, kind, center)).sum(-1).mean()


def ratio_error(
    ratio: Float[Tensor, " N"], target: Float[Tensor, " N"], *, reduction: Literal["mean", "sum"] = "mean"
) -> Float[Tensor, ""]:
    """Squared error of the estimated ratio (Eq. 7).

    Args:
        ratio: (N,), estimated.
        target: (N,), in the same row order; see `cicm.ops.missing_share`.
        reduction: the paper sums over the regions, so that the term's scale depends on the map; we take the mean.

    Example:
        >>> ratio_error(torch.tensor([0.5, 0.0]), torch.tensor([1.0, 0.0])).item()
        0.125
    """
    if ratio.shape != target.shape:
        raise InputError(f"ratio and target must have one value per region; got {len(ratio)} and {len(target)}.")
    errors = (ratio - target.to(ratio.dtype)).square()
    return errors.mean() if reduction == "mean" else errors.sum()


def pixel_ratio(
    corrupted: Float[Tensor, "B 3 H W"], image: Float[Tensor, "B 3 H W"], size: tuple[int, int]
) -> Float[Tensor, " N"]:
    """The target of Eq. 7 as the text has it: pixel differences, accumulated in each cell and normalised.

    Normalised by the largest cell of the image, since the text does not say by what. It depends on brightness: a
    black object in a hole filled with 0 counts as complete. `cicm.ops.missing_share` is the default instead.

    Returns:
        (N,) in [0, 1].
    """
    cells = torch.nn.functional.adaptive_avg_pool2d((image - corrupted).abs().mean(1, keepdim=True), size)
    return (cells / cells.amax((1, 2, 3), keepdim=True).clamp_min(1e-12)).reshape(-1)
