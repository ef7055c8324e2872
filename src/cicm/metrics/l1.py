"""`l1`: mean absolute difference, in percent."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.metrics.pixels import channels, check_pair, one_channel
from cicm.metrics.registry import Metric
from cicm.metrics.state import Running, of_pixels


def l1(composite: Tensor, image: Tensor, *, color: str = "rgb", relative: bool = False) -> Float[Tensor, "B"]:
    """Mean absolute difference over all pixels and colours, times 100 (percent of the data range).

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        relative: divide the sum of the differences by the sum of both pictures' values instead of their number: the
            same error counts for more in a dark photo. Published tables call this "MAE" and also "L1".

    Returns:
        (B,) float64 in [0, 100]; 0 for identical images, two black ones among them.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1].

    Example:
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> l1(black, black + 0.25)
        tensor([25.], dtype=torch.float64)
    """
    ours, theirs = (one_channel(picture, color) for picture in check_pair(composite, image))
    difference = (ours - theirs).abs()
    if not relative:
        return 100 * difference.mean(dim=(1, 2, 3))
    total = (ours + theirs).sum(dim=(1, 2, 3))
    return 100 * difference.sum(dim=(1, 2, 3)) / torch.where(total > 0, total, 1.0)


def running(metric: Metric, *, color: str = "rgb", relative: bool = False) -> Running:
    scale = "sum |d| / sum (a + b) x 100" if relative else "mean |d| x 100 over the whole image"
    protocol = {"color": channels(color), "scale": scale}
    return of_pixels(metric, partial(l1, color=color, relative=relative), protocol)
