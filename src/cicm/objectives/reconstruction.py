"""How far a prediction is from the image, pixel by pixel (Eq. 5, first half; the L1 terms of RFR and MISF)."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor

Norm = Literal["l2", "l1", "log"]

FLOOR = 1e-4  # mean squared error below which `log` no longer asks for more: 40 dB

LEAST_SHARE = 0.01
"""Missing share below which `share_l1` divides by no less; an image without a hole would otherwise count infinitely."""


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


def masked_l1(
    prediction: Float[Tensor, "B 3 H W"], image: Float[Tensor, "B 3 H W"], where: Float[Tensor, "B 1 H W"]
) -> Float[Tensor, ""]:
    """Absolute error where a mask is 1, as a mean over ALL elements (RFR): mean(|prediction - image| * where).

    Args:
        prediction: (B, 3, H, W), raw.
        image: (B, 3, H, W) in [0, 1].
        where: (B, 1, H, W), the hole or `1 - hole`; the two results add up to the plain L1.

    Example:
        >>> import torch
        >>> image, hole = torch.zeros(1, 3, 1, 4), torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> masked_l1(image + 1, image, hole).item(), masked_l1(image + 1, image, 1 - hole).item()
        (0.25, 0.75)
    """
    return ((prediction - image).abs() * where).mean()


def share_l1(
    prediction: Float[Tensor, "B 3 H W"],
    image: Float[Tensor, "B 3 H W"],
    hole: Float[Tensor, "B 1 H W"],
    share: Float[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Absolute error over the whole image, divided by the share that is missing (MISF, EdgeConnect).

    mean over images of mean(|prediction - image|) / mean(hole); not below `LEAST_SHARE`.

    Args:
        prediction: (B, 3, H, W), raw.
        image: (B, 3, H, W) in [0, 1].
        hole: (B, 1, H, W), 1 = missing.
        share: mean(hole) of the whole batch, where all images are to be divided by one number.

    Differs from the original: its code takes mean(hole) over the batch; that is `share`. By default each image is
        divided by its own, which is the same for a batch of one and does not depend on how a batch is cut.

    Example:
        >>> import torch
        >>> image, hole = torch.zeros(1, 3, 1, 4), torch.tensor([[[[1.0, 0.0, 0.0, 0.0]]]])
        >>> share_l1(image + 0.5, image, hole).item()
        2.0
    """
    errors = (prediction - image).abs().mean((1, 2, 3))
    shares = hole.mean((1, 2, 3)) if share is None else share
    return (errors / shares.clamp(min=LEAST_SHARE)).mean()


def total_variation(picture: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """How much neighbouring pixels differ: mean|dx| + mean|dy| (RFR, of `composite * hole`).

    Args:
        picture: (B, C, H, W), at least two pixels high and wide.

    Returns:
        scalar >= 0; 0 for one colour everywhere.

    Example:
        >>> import torch
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])).item()
        1.0
    """
    across = picture[..., :, 1:] - picture[..., :, :-1]
    down = picture[..., 1:, :] - picture[..., :-1, :]
    return across.abs().mean() + down.abs().mean()
