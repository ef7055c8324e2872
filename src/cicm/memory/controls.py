"""What a memory must beat, as many parameters without a memory; and the class that each kind means."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from cicm.memory.module import ContextMemory
from cicm.memory.single_image import SingleImageContext
from cicm.memory.source import ContextSource
from cicm.memory.state import Complete, Kind, Map, MemoryConfig, MemoryRead, MemoryState, Ratio
from cicm.ops import as_regions


class LearnedTable(ContextMemory):
    """A table of the size of a memory: read like one, learned by gradient, never written."""

    kinds: ClassVar[tuple[Kind, ...]] = ("table",)
    writes = False

    def _hold(self) -> None:
        super()._hold()
        for name in ("anchors", "contexts"):
            held = getattr(self, name)
            delattr(self, name)
            setattr(self, name, nn.Parameter(held))

    def commit(self, state: MemoryState) -> None:
        """Nothing to store: the optimizer moves it."""

    def _readable(self) -> MemoryState:
        return self.state


class ConvolutionControl(ContextSource):
    """A residual block of two 1x1 convolutions with as many parameters as a memory has numbers.

    It sits where the memory would, is blended by the same ratio head, and remembers nothing: what it gains is what
    capacity alone gains.

    Args:
        channels: C.
        config: of the memory it stands in for; its hidden width follows from L, K and C.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ("convolution",)

    def __init__(self, channels: int, config: MemoryConfig) -> None:
        super().__init__(channels, config)
        numbers = config.sets * (config.contexts + 1) * channels
        hidden = max(1, round((numbers - channels) / (2 * channels + 1)))
        self.block = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LeakyReLU(0.1), nn.Conv2d(hidden, channels, 1))

    def read(self, features: Map, ratio: Ratio | None = None, complete: Complete | None = None) -> MemoryRead:
        offered = self.block(features)
        share = self._ratio(features, ratio)
        blended = features + share.view(features.shape[0], 1, *features.shape[2:]) * offered
        regions = as_regions(features)
        nothing = regions.new_zeros(len(regions), 1)
        return MemoryRead(
            blended.to(features.dtype),
            regions,
            torch.zeros(len(regions), dtype=torch.long, device=regions.device),
            nothing + 1,
            as_regions(offered).to(regions.dtype),
            share,
        )


KINDS: dict[str, type[ContextSource]] = {
    kind: made for made in (ContextMemory, LearnedTable, ConvolutionControl, SingleImageContext) for kind in made.kinds
}
"""`MemoryConfig.kind` -> the class that it means. What a kind can do is asked of the class."""


def create(channels: int, config: MemoryConfig) -> ContextSource:
    """The memory, the control or the single image's context that a configuration asks for."""
    return KINDS[config.kind](channels, config)
