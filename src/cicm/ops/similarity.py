"""How alike two features are."""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError

Similarity = Literal["dot", "cosine", "centred"]
SIMILARITIES: tuple[str, ...] = get_args(Similarity)


def compared(
    features: Float[Tensor, "... C"], kind: Similarity = "cosine", center: Float[Tensor, " C"] | None = None
) -> Float[Tensor, "... C"]:
    """The form of a feature in which a plain dot product is the similarity asked for.

    Args:
        kind: `dot` leaves it (the printed Eq. 1), `cosine` gives it length 1, `centred` subtracts `center` first.
        center: (C,), the mean of many features; needed by `centred`, ignored by the others.

    Raises:
        InputError: `centred` without a center.
    """
    if kind == "dot":
        return features
    if kind == "centred":
        if center is None:
            raise InputError("the similarity 'centred' needs center=, the mean of many features; or use 'cosine'.")
        features = features - center
    return F.normalize(features, dim=-1, eps=1e-6)


def similarity(
    first: Float[Tensor, "N C"],
    second: Float[Tensor, "M C"],
    kind: Similarity = "cosine",
    center: Float[Tensor, " C"] | None = None,
) -> Float[Tensor, "N M"]:
    """Similarity of each row of `first` with each row of `second` (the dot product of Eq. 1, or its cosine).

    Features after a ReLU are all positive, so that all their cosines are near 1; `centred` tells them apart.

    Returns:
        (N, M); in [-1, 1] unless kind is `dot`.

    Example:
        >>> import torch
        >>> a, b = torch.tensor([[3.0, 4.0]]), torch.tensor([[3.0, 4.0], [4.0, -3.0]])
        >>> similarity(a, b), similarity(a, b, "dot")
        (tensor([[1., 0.]]), tensor([[25.,  0.]]))
    """
    return compared(first, kind, center) @ compared(second, kind, center).transpose(-1, -2)
