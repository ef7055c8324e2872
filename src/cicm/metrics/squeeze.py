"""The SqueezeNet v1.1 that ships with this package, for `sqz-distance`, `sqz-frechet` and `sqz-kernel`.

These stand in where LPIPS and FID cannot be computed, because the weights of those are not on the machine. The network
is not torchvision's and there are no learned heads, so the figures are not LPIPS and not FID, and are not comparable
with any.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cicm.metrics.published import published
from cicm.metrics.state import Batch
from cicm.metrics.trunks import Design, Trunk, load_network, squeezenet

NETWORK = "SqueezeNet v1.1 (keras-squeezenet, ImageNet)"
NUM_FEATURES = 512
POOLED = {"network": NETWORK, "features": f"last map, pooled, {NUM_FEATURES}", "resize": "none"}
"""The protocol of features of `squeeze_pooled`."""


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


def squeeze_maps(path: str | Path | None, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
    """All maps of both sides; one pass for all metrics on this network."""

    def compute() -> tuple[list[Tensor], list[Tensor]]:
        network = load_squeeze_features(path).to(batch.image.device)
        return network(batch.composite.float()), network(batch.image.float())

    return batch.once(("squeeze", path), compute)


def squeeze_pooled(path: str | Path | None, batch: Batch) -> tuple[Tensor, Tensor]:
    """(B, 512) of both sides: the means over the cells of the last maps."""
    composites, images = squeeze_maps(path, batch)
    return composites[-1].mean(dim=(2, 3)), images[-1].mean(dim=(2, 3))
