"""Structural similarity as something to be raised (Wang et al., IEEE TIP 2004); JPGNet trains its filters with it.

The metric of the same name (`cicm.metrics.ssim`) has no gradient in mind: it takes the windows inside the image alone
and refuses values outside [0, 1], which a raw prediction has.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2
"""(K1 * range)^2 and (K2 * range)^2 with the paper's K and a data range of 1."""


def similarity(first: Float[Tensor, "B C H W"], second: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
    """SSIM around every pixel, in Gaussian windows of 11x11 with a sigma of 1.5, data range 1.

    Args:
        first, second: (B, C, H, W) of any values; nothing is clamped.

    Returns:
        (B, C, H, W), at most 1. Beyond the border both pictures are taken as 0, as JPGNet's code does.
    """
    means = _blur(torch.cat([first, second, first * first, second * second, first * second]))
    m1, m2, s11, s22, s12 = means.chunk(5)
    structure = (2 * (s12 - m1 * m2) + C2) / ((s11 - m1 * m1) + (s22 - m2 * m2) + C2)
    return (2 * m1 * m2 + C1) / (m1 * m1 + m2 * m2 + C1) * structure


def structural_similarity(prediction: Float[Tensor, "B C H W"], image: Float[Tensor, "B C H W"]) -> Float[Tensor, ""]:
    """Mean of `similarity` over pixels, colours and images.

    Returns:
        scalar, at most 1; 1 for equal pictures.

    Example:
        >>> structural_similarity(torch.ones(1, 3, 16, 16), torch.ones(1, 3, 16, 16)).item()
        1.0
    """
    return similarity(prediction, image).mean()


def _blur(picture: Tensor) -> Tensor:
    """Each channel by itself, rows and columns in turn; the same as the window of 11x11 at once."""
    channels = picture.shape[1]
    offsets = torch.arange(WINDOW, dtype=picture.dtype, device=picture.device) - WINDOW // 2
    weights = (-offsets.square() / (2 * SIGMA**2)).exp()
    row = (weights / weights.sum()).view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    across = F.conv2d(picture, row, padding=(0, WINDOW // 2), groups=channels)
    return F.conv2d(across, row.transpose(2, 3), padding=(WINDOW // 2, 0), groups=channels)
