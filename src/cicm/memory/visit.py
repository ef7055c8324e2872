"""One visit to a memory: what a read has to know of the hole."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from cicm.memory.module import ContextMemory
from cicm.memory.source import ContextSource
from cicm.memory.state import MemoryRead
from cicm.ops import complete_cells, missing_share


def needs_hole(memory: ContextSource) -> bool:
    """Whether a read of this memory looks at the hole."""
    return memory.config.ratio == "true" or memory.needs_complete


def look_up(
    memory: ContextSource,
    features: Float[Tensor, "B C h w"],
    hole: Tensor | None,
    missing: Tensor | None = None,
    prior: Float[Tensor, "N L"] | None = None,
) -> MemoryRead:
    """Read a memory and tell it of the hole what it needs to know; `hole` may be None where it `needs_hole` not.

    Args:
        missing: the part of the hole that is still missing; the ratio follows it, while complete regions are those
            that the hole never touched. None for all of it.
        prior: added to the similarities when a `ContextMemory` routes; None adds nothing.
    """
    true = complete = None
    if needs_hole(memory):
        assert hole is not None
        share = missing_share(hole, (features.shape[-2], features.shape[-1]))
        if memory.config.ratio == "true":
            left = share if missing is None else missing_share(missing, (features.shape[-2], features.shape[-1]))
            true = left.reshape(-1)
        complete = complete_cells(share, memory.config.complete_tolerance)
    if prior is None:
        return memory.read(features, true, complete)
    assert isinstance(memory, ContextMemory), "only sets can be routed to"
    return memory.read(features, true, complete, prior=prior)
