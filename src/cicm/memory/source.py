"""What sits at a site of a network and offers context there: the base of the memory and of its controls."""

from __future__ import annotations

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.memory.state import Complete, Kind, Map, MemoryConfig, MemoryRead, Ratio


class ContextSource(nn.Module):
    """Reads the features of one site, and blends what it offers into them by the estimated ratio.

    Args:
        channels: C of the site.
        config: see `MemoryConfig`; its `kind` must be one that this class builds.
    """

    kinds: ClassVar[tuple[Kind, ...]] = ()
    """Values of `MemoryConfig.kind` that mean this class."""
    has_sets: ClassVar[bool] = False
    """Whether there are sets and contexts to look into, and for Eq. 8 to compare."""
    writes: ClassVar[bool] = False
    """Whether a training step writes into it."""
    needs_complete: ClassVar[bool] = False
    """Whether `read` asks which regions are complete."""

    filled: Tensor

    def __init__(self, channels: int, config: MemoryConfig | None = None) -> None:
        super().__init__()
        self.channels, self.config = channels, config or MemoryConfig()
        if channels < 1:
            raise InputError(f"channels must be at least 1; got {channels}.")
        if self.config.kind not in self.kinds:
            raise InputError(
                f"{type(self).__name__} is for kind = {' or '.join(self.kinds)}; got {self.config.kind!r}. "
                "cicm.memory.create(channels, config) builds the class that a kind means."
            )
        self._hold()  # before the head: the order of random draws is part of every seeded result
        self.register_buffer("filled", torch.tensor(1.0))
        kernel = self.config.ratio_kernel
        self.ratio_head = nn.Conv2d(channels, 1, kernel, padding=kernel // 2)
        nn.init.zeros_(self.ratio_head.weight)
        nn.init.constant_(self.ratio_head.bias, self.config.ratio_bias)  # type: ignore[arg-type]

    @property
    def seeded(self) -> bool:
        """False while it has nothing to offer."""
        return bool(self.filled > 0)

    def read(self, features: Map, ratio: Ratio | None = None, complete: Complete | None = None) -> MemoryRead:
        """Find context for each region and blend it in; changes nothing.

        Args:
            features: (B, C, h, w), any floating dtype.
            ratio: (N,), used in place of the estimate; needed when the configuration says `ratio = "true"`.
            complete: (N,), regions that no missing pixel touches; only contexts of a single image look at it.

        Raises:
            InputError: another number of channels, or no ratio where one is needed.
        """
        raise NotImplementedError

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        """The augmented features alone, for a `Sequential` and for export."""
        return self.read(features).features

    def report(self) -> dict[str, float]:
        """Plain numbers about what it holds, for a log; none where it holds nothing."""
        return {}

    def extra_repr(self) -> str:
        c = self.config
        return f"channels={self.channels}, sets={c.sets}, contexts={c.contexts}, kind={c.kind}"

    def _hold(self) -> None:
        """Register what is stored."""

    def _ratio(self, features: Tensor, given: Tensor | None) -> Tensor:
        if self.config.ratio == "full":
            return features.new_ones(features.shape[0] * features.shape[2] * features.shape[3])
        if given is not None:
            return given.to(features.dtype)
        if self.config.ratio == "true":
            raise InputError("ratio = 'true' needs the missing share of each region; pass read(features, ratio=...).")
        return self.ratio_head(features.to(self.ratio_head.weight.dtype)).sigmoid().reshape(-1).to(features.dtype)

    def _check_map(self, features: Tensor) -> None:
        if features.shape[1] != self.channels:
            raise InputError(f"this memory is for {self.channels} channels; got features with {features.shape[1]}.")
