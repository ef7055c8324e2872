"""How far a prediction is from the image (Eq. 5, first half)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Norm = Literal["l2", "l1", "log"]

FLOOR = 1e-4
"""Mean squared error below which `log` no longer asks for more: 40 dB."""


def reconstruction(
    prediction: Float[Tensor, "B 3 H W"],
    image: Float[Tensor, "B 3 H W"],
    hole: Float[Tensor, "B 1 H W"],
    *,
    norm: Norm = "l2",
    hole_weight: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean error over all pixels, those of the hole weighted (Eq. 5).

    Args:
        prediction: (B, 3, H, W), raw.
        image: (B, 3, H, W) in [0, 1].
        hole: (B, 1, H, W), 1 = missing.
        norm: `l2` is squared (the paper), `l1` absolute; `log` is the mean over images of the logarithm of the
            composite's squared error, that is PSNR itself: a small hole then counts as much as a large one. With
            `log` the known pixels, which a composite never takes from the prediction, do not count.
        hole_weight: how much more a missing pixel counts than a known one in `l2` and `l1`; 1 is the paper's.

    Returns:
        scalar. The paper does not say sum or mean; the mean does not depend on the image's size.

    Example:
        >>> import torch
        >>> image, hole = torch.zeros(1, 3, 1, 2), torch.tensor([[[[1.0, 0.0]]]])
        >>> [reconstruction(image + 0.5, image, hole, hole_weight=weight).item() for weight in (1.0, 3.0)]
        [0.25, 0.5]
    """
    difference = prediction - image
    if norm == "log":
        return ((difference.square() * hole).mean((1, 2, 3)) + FLOOR).log().mean()
    errors = difference.square() if norm == "l2" else difference.abs()
    if hole_weight != 1:
        errors = errors * (1 + (hole_weight - 1) * hole)
    return errors.mean()
