"""What every inpainting network promises: its sites, its size rule, and one call.

A network calls `edit` at each place it declares and goes on with what comes back; that is all it knows of a memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.conventions import SizeRule as SizeRule

Edit = Callable[[str, Tensor], Tensor]
"""(site name, features (B, C, h, w)) -> features of the same shape."""


def unchanged(site: str, features: Tensor) -> Tensor:
    """The edit that does nothing: a network with it is the network alone."""
    return features


@dataclass(frozen=True)
class FeatureSite:
    """A place where a network lets its features be edited.

    Args:
        channels: C of the features there.
        stride: pixels of the input per cell, so the map is (H / stride, W / stride).
    """

    name: str
    channels: int
    stride: int


class Prediction(NamedTuple):
    """What a network gives back.

    Args:
        image: (B, 3, H, W), the raw prediction, unclamped.
        earlier: predictions of earlier stages or scales, coarse to fine; empty for one-stage networks.
        maps: what else it predicts, by name, as `labels` or `prior`; for losses and for a look.
    """

    image: Float[Tensor, "B 3 H W"]
    earlier: tuple[Tensor, ...] = ()
    maps: dict[str, Tensor] = {}


class InpaintingNetwork(nn.Module):
    """Base of all networks here.

    Attributes:
        sites: declared places, fine to coarse; each is visited in every forward.
        batch_statistics: in training mode it normalises by statistics of the whole batch, so that images of a batch
            influence each other; in evaluation mode they never do.
        takes_labels: `forward` has a keyword `labels`, (B, N, H, W) planes of N classes, all zero where nothing is
            known of a pixel; None for none of them. The number of classes is the network's option `classes`.
        no_onnx: why it can't become ONNX, as the rest of a sentence; empty if nothing is known against it.
        options: what a registered network was made with, defaults included; `register` sees to it.
    """

    sites: tuple[FeatureSite, ...] = ()
    size: SizeRule = SizeRule()
    batch_statistics: bool = False
    takes_labels: bool = False
    no_onnx: str = ""
    options: Mapping[str, Any] = MappingProxyType({})

    def forward(
        self, corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, edit: Edit = unchanged
    ) -> Prediction:
        """Predict the complete image.

        Args:
            corrupted: (B, 3, H, W) in [0, 1], `image * (1 - hole)`.
            hole: (B, 1, H, W), 1 = missing.
            edit: what happens at each site; with `unchanged` the network is itself alone.
        """
        raise NotImplementedError

    def remaining(self, hole: Float[Tensor, "B 1 H W"], visit: int) -> Float[Tensor, "B 1 h w"]:
        """The part of the hole that is still missing when a site is visited: all of it, but for recurrent networks.

        Args:
            hole: (B, 1, H, W), as `forward` gets it.
            visit: 0 for a site's first visit in a forward.

        Returns:
            (B, 1, h, w), 1 = missing, at the network's own resolution of the hole.
        """
        return hole

    def site(self, name: str) -> FeatureSite:
        """The declared site of that name."""
        for site in self.sites:
            if site.name == name:
                return site
        known = ", ".join(s.name for s in self.sites)
        raise InputError(f"{type(self).__name__} has no site {name!r}; it has {known}.")
