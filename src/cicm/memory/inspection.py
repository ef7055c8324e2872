"""A look inside a memory: who uses it, how long its vectors are, how alike its sets and contexts; as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Integer

from cicm.conventions import InputError
from cicm.memory.module import ContextMemory
from cicm.memory.seeding import starved
from cicm.memory.source import ContextSource
from cicm.ops.similarity import compared


@dataclass(frozen=True)
class Inspection:
    """What was found in a memory; numpy arrays, so that nothing keeps the memory alive.

    Args:
        usage: (L, K), share of all accumulated mass; sums to 1.
        starved_sets: (L,), see `cicm.memory.seeding.starved`.
        starved_contexts: (L, K), contexts that starve within a set that does not.
        between: (L, L), similarity of anchors.
        within: (L, K, K), similarity of the contexts of one set.
    """

    kind: str
    seeded: bool
    similarity: str
    channels: int
    usage: Float[np.ndarray, "L K"]
    starved_sets: Bool[np.ndarray, " L"]
    starved_contexts: Bool[np.ndarray, "L K"]
    anchor_norms: Float[np.ndarray, " L"]
    context_norms: Float[np.ndarray, "L K"]
    between: Float[np.ndarray, "L L"]
    within: Float[np.ndarray, "L K K"]

    @property
    def per_set(self) -> Float[np.ndarray, " L"]:
        """(L,), share of all mass that each set holds."""
        return self.usage.sum(1)

    @property
    def pairs(self) -> Float[np.ndarray, "L pairs"]:
        """(L, K * (K - 1)), similarities of different contexts of one set; empty for one context."""
        different = ~_diagonal(self.within.shape[1])
        return self.within[:, different]

    @property
    def in_use(self) -> Integer[np.ndarray, " L"]:
        """(L,), contexts of each set that do not starve; 0 for a set that does."""
        return (~self.starved_contexts & ~self.starved_sets[:, None]).sum(1)

    def nearest(self) -> list[tuple[int, float]]:
        """For each set the one whose anchor is the most similar, and how much; empty for one set."""
        if len(self.between) == 1:
            return []
        others = self.between - 9 * _diagonal(len(self.between))
        return [(int(row.argmax()), float(row.max())) for row in others]

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON: totals, and one entry per set."""
        nearest, pairs = self.nearest(), self.pairs
        return {
            "kind": self.kind,
            "seeded": self.seeded,
            "similarity": self.similarity,
            "sets": self.usage.shape[0],
            "contexts": self.usage.shape[1],
            "channels": self.channels,
            "sets_in_use": int((~self.starved_sets).sum()) if self.seeded else 0,
            "contexts_in_use": int(self.in_use.sum()) if self.seeded else 0,
            "largest_set": float(self.per_set.max()),
            "norm": float(self.context_norms.mean()),
            "within": float(pairs.mean()) if pairs.size else None,
            "between": float(self.between[~_diagonal(len(self.between))].mean()) if nearest else None,
            "per_set": [
                {
                    "set": index,
                    "usage": float(self.per_set[index]),
                    "starved": bool(self.starved_sets[index]),
                    "contexts_in_use": int(self.in_use[index]),
                    "anchor_norm": float(self.anchor_norms[index]),
                    "norm": float(self.context_norms[index].mean()),
                    "within": float(pairs[index].mean()) if pairs.size else None,
                    "nearest_set": nearest[index][0] if nearest else None,
                    "nearest_similarity": nearest[index][1] if nearest else None,
                }
                for index in range(len(self.usage))
            ],
        }


@torch.no_grad()
def look_inside(memory: ContextSource) -> Inspection:
    """Usage, norms and similarities of what a memory holds; changes nothing.

    Raises:
        InputError: a control that stores nothing.

    Example:
        >>> from cicm.memory import MemoryConfig
        >>> memory = ContextMemory(4, MemoryConfig(sets=2, contexts=3))
        >>> memory.seed_(torch.rand(20, 4), torch.Generator().manual_seed(0))
        >>> found = look_inside(memory)
        >>> found.usage.shape, found.between.shape, found.within.shape
        ((2, 3), (2, 2), (2, 3, 3))
    """
    config = memory.config
    if not isinstance(memory, ContextMemory):
        raise InputError(f"{config.kind!r} stands in for a memory and stores nothing; there is nothing to look into.")
    state = memory.state.detached()
    dead, weak = starved(state)
    center = state.center()
    anchors = compared(state.anchors, config.similarity, center)
    contexts = compared(state.contexts, config.similarity, center)

    def plain(tensor: torch.Tensor) -> np.ndarray:
        return tensor.cpu().numpy()

    return Inspection(
        kind=config.kind,
        seeded=memory.seeded,
        similarity=config.similarity,
        channels=memory.channels,
        usage=plain(state.weight() / state.weight().sum().clamp_min(1e-12)),
        starved_sets=plain(dead),
        starved_contexts=plain(weak),
        anchor_norms=plain(state.anchors.norm(dim=-1)),
        context_norms=plain(state.contexts.norm(dim=-1)),
        between=plain(anchors @ anchors.T),
        within=plain(contexts @ contexts.transpose(-1, -2)),
    )


def _diagonal(count: int) -> Bool[np.ndarray, "n n"]:
    return np.eye(count, dtype=bool)
