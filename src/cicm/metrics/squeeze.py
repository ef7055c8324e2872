"""`sqz-distance`, `sqz-frechet`, `sqz-kernel`: perceptual scores on a SqueezeNet v1.1 that ships with this package.

They stand in where LPIPS and FID cannot be computed, because the weights of those are not on the machine. The network
is not torchvision's and there are no learned heads, so the figures are not LPIPS and not FID, and are not comparable
with any.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cicm.metrics.published import published
from cicm.metrics.trunks import Design, Trunk, load_network, squeezenet, unit

NUM_FEATURES = 512


class SqueezeFeatures(nn.Module):
    """The maps of seven layers of the SqueezeNet, from images in [0, 1].

    Args:
        trunk: a SqueezeNet whose weights expect RGB normalised by the ImageNet mean and deviation.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """(B, 3, H, W) in [0, 1], at least 17x17 -> seven maps of 64, 128, 256, 384, 384, 512, 512 channels."""
        return self.trunk((image - self.mean) / self.deviation)

    def pooled(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 512"]:
        """The mean over the cells of the last map."""
        return self(image)[-1].mean(dim=(2, 3))


@lru_cache(maxsize=2)
def load_squeeze_features(path: str | Path | None = None) -> SqueezeFeatures:
    """The network with the weights that ship with this package (or of a copy at `path`); loaded once and shared.

    Raises:
        MissingWeights: the file is not there.
        InputError: the file is damaged.
    """
    trunk = load_network(Design(squeezenet), published("sqz-features"), path)
    assert isinstance(trunk, Trunk)
    return SqueezeFeatures(trunk).eval()


def sqz_distance(
    composite: Float[Tensor, "B 3 H W"], image: Float[Tensor, "B 3 H W"], features: SqueezeFeatures
) -> Float[Tensor, "B"]:
    """Distance of two images in the features of seven layers: `1/7 sum_l mean_ij |u_l,ij(x) - u_l,ij(y)|^2`.

    `u_l,ij` is the vector of C_l channels of layer l at cell (i, j), divided by its length. It is LPIPS's formula
    without the learned weights, averaged over the layers instead of summed.

    Args:
        composite: (B, 3, H, W) in [0, 1].
        image: (B, 3, H, W) in [0, 1].
        features: the network.

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
