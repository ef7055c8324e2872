"""The terms that memories add to a training: the ratio's error (Eq. 7) and the similarities (Eq. 8), over all sites."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from cicm.memory import ContextMemory, ContextSource, MemoryRead, MemoryState, ratio_error
from cicm.memory.rules import Reduce, alone
from cicm.ops import missing_share


def ratio_term(
    reads: Mapping[str, Sequence[MemoryRead]],
    target: Callable[[str, int, tuple[int, int]], Tensor],
    reduction: Literal["mean", "sum"] = "mean",
) -> Tensor | None:
    """`ratio` (Eq. 7), the mean over the visits of all sites; None where no memory was read.

    Args:
        target: site, number of the visit from 0, (h, w) -> (N,), what the ratio of each region should be.
    """
    errors = []
    for site, visits in reads.items():
        for visit, read in enumerate(visits):
            size: tuple[int, int] = tuple(read.features.shape[-2:])  # type: ignore[assignment]
            truth = target(site, visit, size).to(read.ratio.device)
            errors.append(ratio_error(read.ratio, truth, reduction=reduction))
    return torch.stack(errors).mean() if errors else None


def route_term(
    memories: Mapping[str, ContextSource],
    reads: Mapping[str, Sequence[MemoryRead]],
    targets: Mapping[str, Tensor],
    hole: Tensor,
) -> Tensor:
    """`route`: cross entropy of the choice of set and context, in nats, weighted by the missing share of each region.

    The mean over all regions, so that portions of a batch add up; over the seeded memories that are asked by a query.

    Args:
        targets: site -> (N, C), the whole photos' features in the rows of the site's last read.
        hole: (B, 1, H, W), 1 = missing.
    """
    errors = []
    for site, memory in memories.items():
        read = reads[site][-1]
        if isinstance(memory, ContextMemory) and memory.seeded and read.query is not None:
            sets, contexts = memory.route_error(read, targets[site])
            size: tuple[int, int] = tuple(read.features.shape[-2:])  # type: ignore[assignment]
            errors.append(((sets + contexts) * missing_share(hole, size).reshape(-1)).mean())
    return torch.stack(errors).mean() if errors else hole.new_zeros(())


def similarity_terms(
    memories: Mapping[str, ContextSource],
    reads: Mapping[str, Sequence[MemoryRead]],
    complete: Mapping[str, Sequence[Tensor]],
    reduce: Reduce = alone,
    *,
    printed: bool = False,
) -> tuple[dict[str, Tensor], dict[str, MemoryState]]:
    """`inter` and `intra` (Eq. 8), means over the seeded memories, and the pending states that they were taken from.

    Args:
        memories: site -> memory; one that is not seeded is left out.
    """
    states: dict[str, MemoryState] = {}
    inter, intra = [], []
    for site, memory in memories.items():
        if not isinstance(memory, ContextMemory) or not memory.seeded:
            continue  # an empty one offers nothing yet, and what would be injected into nothing says nothing
        states[site] = memory.pending(reads[site], complete[site], reduce)
        between, within = memory.losses(states[site], printed=printed)
        inter.append(between)
        intra.append(within)
    terms = {"inter": torch.stack(inter).mean(), "intra": torch.stack(intra).mean()} if inter else {}
    return terms, states
