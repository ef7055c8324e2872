"""`psnr`: peak signal-to-noise ratio."""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor

from cicm.metrics.pixels import channels, check_pair, one_channel
from cicm.metrics.registry import Metric
from cicm.metrics.state import Running, of_pixels

_CAP_DB = 100.0


def psnr(
    composite: Tensor, image: Tensor, *, color: str = "rgb", floor: float = 0.0, offset_db: float = 0.0
) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio in dB over all pixels and colours, `-10 log10(mean d^2)`; data range 1.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        floor: added to the mean square, as some projects do to avoid the logarithm of 0.
        offset_db: added to the ratio; 0 is right, a published table has 1.

    Returns:
        (B,) float64. Identical images, whose ratio is infinite, give the cap of 100 dB, so that a mean over images
        stays finite. So does any ratio above it: one value of a 256x256 image that is off by one 8-bit step would be
        101 dB.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1].

    Example:
        >>> import torch
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> psnr(black, black + 0.1), psnr(black, black)
        (tensor([20.0000], dtype=torch.float64), tensor([100.], dtype=torch.float64))
    """
    ours, theirs = (one_channel(picture, color) for picture in check_pair(composite, image))
    error = (ours - theirs).square().mean(dim=(1, 2, 3)) + floor
    return (10 * error.reciprocal().log10() + offset_db).clamp(max=_CAP_DB)


def running(metric: Metric, *, color: str = "rgb", floor: float = 0.0, offset_db: float = 0.0) -> Running:
    protocol: dict[str, Any] = {"color": channels(color), "data_range": 1, "cap_db": _CAP_DB}
    # settings that are not the default alone: records from before they existed stay comparable
    protocol |= {name: value for name, value in (("floor", floor), ("offset_db", offset_db)) if value}
    return of_pixels(metric, partial(psnr, color=color, floor=floor, offset_db=offset_db), protocol)
