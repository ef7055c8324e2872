"""How far a prediction is from the image (Eq. 5, first half)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor


def reconstruction(
    prediction: Float[Tensor, "B 3 H W"],
    image: Float[Tensor, "B 3 H W"],
    hole: Float[Tensor, "B 1 H W"],
    *,
    norm: Literal["l2", "l1"] = "l2",
    hole_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean error over all pixels, those of the hole weighted (Eq. 5).

    Args:
        prediction: (B, 3, H, W), raw.
        image: (B, 3, H, W) in [0, 1].
        hole: (B, 1, H, W), 1 = missing.
        norm: `l2` is squared (the paper), `l1` absolute.
        hole_weight: how much more a missing pixel counts than a known one; 1 is the paper's.

    Returns:
        scalar. The paper does not say sum or mean; the mean does not depend on the image's size.

    Example:
        >>> import torch
        >>> image, hole = torch.zeros(1, 3, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> [reconstruction(image + 0.5, image, hole, hole_weight=weight).item() for weight in (1, 3)]
        [0.25, 0.5]
    """
    difference = prediction - image
    errors = difference.square() if norm == "l2" else difference.abs()
    if hole_weight != 1:
        errors = errors * (1 + (hole_weight - 1) * hole)
    return errors.mean()
