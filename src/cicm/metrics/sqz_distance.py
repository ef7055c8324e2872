"""`sqz-distance`: distance of the features of a SqueezeNet, image by image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.metrics.registry import Metric
from cicm.metrics.squeeze import NETWORK, SqueezeFeatures, squeeze_maps
from cicm.metrics.state import Batch, PerImage, Running
from cicm.metrics.trunks import unit


def sqz_distance(
    composite: Float[Tensor, "B 3 H W"], image: Float[Tensor, "B 3 H W"], features: SqueezeFeatures
) -> Float[Tensor, "B"]:
    """Distance of two images in the features of seven layers: `1/7 sum_l mean_ij |u_l,ij(x) - u_l,ij(y)|^2`.

    `u_l,ij` is the vector of C_l channels of layer l at cell (i, j), divided by its length. It is LPIPS's formula
    without the learned weights, averaged over the layers instead of summed.

    Args:
        composite: (B, 3, H, W) in [0, 1].
        image: (B, 3, H, W) in [0, 1].

    Returns:
        (B,) in [0, 2]: 0 for identical images, 2 minus twice the mean cosine of the features; these are not negative.
        Symmetric; differentiable.
    """
    return map_distance(features(composite), features(image))


def map_distance(composite: Sequence[Tensor], image: Sequence[Tensor]) -> Float[Tensor, "B"]:
    """`sqz_distance` of maps that are there already.

    Args:
        composite: L maps (B, C_l, h_l, w_l) of the repaired images.
        image: the maps of the complete pictures, of the same shapes.

    Returns:
        (B,) in [0, 2].
    """
    layers = [(unit(x) - unit(y)).square().sum(dim=1).mean(dim=(1, 2)) for x, y in zip(composite, image, strict=True)]
    return torch.stack(layers).mean(dim=0)


def _score(path: str | Path | None) -> Callable[[Batch], Tensor]:
    return lambda batch: map_distance(*squeeze_maps(path, batch))


def running(metric: Metric, *, path: str | Path | None = None) -> Running:
    protocol = {"network": NETWORK, "layers": 7, "heads": "none"}
    return PerImage(metric, partial(_score, path), protocol, path)
