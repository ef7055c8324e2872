"""Sets that belong to classes: what labels say about where a region is read and written.

The L sets of a memory are N groups of m = L / N, one group per class, each of which may split its class in m. The tags
are constants and no running means: only cells of which 0.9 are one class are written, and only to sets of that class,
so that a mean would stay within 0.1 of them.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cicm.conventions import InputError
from cicm.memory import seeding
from cicm.memory.module import ContextMemory
from cicm.memory.state import MemoryState

PURITY = 0.9
"""Least share of one class in a cell that is written."""
FLOOR = 1e-3
"""Least probability that a set is right, so that a prior is never infinite."""


def class_of_sets(sets: int, classes: int) -> Int[Tensor, " L"]:
    """The class of each set.

    Raises:
        InputError: the sets can't be shared out evenly.

    Example:
        >>> class_of_sets(6, 3)
        tensor([0, 0, 1, 1, 2, 2])
    """
    if sets % classes:
        raise InputError(
            f"a memory with tags has the same number of sets for each class: a multiple of {classes}; got {sets}. "
            f"Set model.memories.SITE.sets = {max(1, round(sets / classes)) * classes}."
        )
    return torch.arange(classes).repeat_interleave(sets // classes)


def log_prior(
    shares: Float[Tensor, "N K"], tags: Int[Tensor, " L"], strength: float, temperature: float
) -> Float[Tensor, "N L"]:
    """What is added to a region's similarities: how likely each set's class is there.

    Args:
        shares: probability of each class in each region.
        tags: class of each set.
        strength: of labels against features; 0 is no prior.
        temperature: that similarities are divided by; the prior is multiplied by it instead, so that similarities keep
            their bits.

    Returns:
        at most 0, and 0 for the likeliest class: where all are equally likely, exactly 0 everywhere.

    Example:
        >>> log_prior(torch.tensor([[0.5, 0.5]]), torch.tensor([0, 1]), 1.0, 0.1)
        tensor([[0., 0.]])
    """
    logs = (shares[:, tags] + FLOOR).log()
    return strength * temperature * (logs - logs.amax(-1, keepdim=True))


def strict_prior(classes: Int[Tensor, " N"], tags: Int[Tensor, " L"], dtype: torch.dtype) -> Float[Tensor, "N L"]:
    """The prior of regions that are written: nothing but sets of their own class."""
    other = classes[:, None] != tags[None]
    return torch.zeros(other.shape, dtype=dtype, device=other.device).masked_fill(other, -torch.inf)


@torch.no_grad()
def seed_by_class_(
    memory: ContextMemory, regions: Float[Tensor, "N C"], classes: Int[Tensor, " N"], count: int,
    generator: torch.Generator,
) -> None:  # fmt: skip
    """Fill the sets of each class from its own regions; those of a class without any from all of them."""
    memory.seed_(regions, generator)  # checks what it gets; what it stores is replaced below
    regions, _ = memory._entering(regions.float())
    each = memory.config.sets // count
    parts = []
    for kind in range(count):
        own = regions[classes == kind]
        own = own if len(own) else regions
        parts.append(seeding.from_regions(own, each, memory.config.contexts, generator, memory.config.similarity))
    memory.commit(_joined(parts))


@torch.no_grad()
def reseed_by_class_(
    memory: ContextMemory, regions: Float[Tensor, "N C"], classes: Int[Tensor, " N"], count: int,
    generator: torch.Generator,
) -> int:  # fmt: skip
    """As `ContextMemory.reseed_`, each class for itself; returns how many contexts changed."""
    each, changed, parts = memory.config.sets // count, 0, []
    regions, _ = memory._entering(regions.float())
    for kind in range(count):
        part = MemoryState(*(t[kind * each : (kind + 1) * each] for t in memory.state))  # type: ignore[union-attr,index]
        own = regions[classes == kind]
        part, sets, contexts = seeding.reseeded(part, own, generator, memory.config.similarity)
        parts.append(part)
        changed += sets * memory.config.contexts + contexts
    memory.commit(_joined(parts))
    return changed


def pure(shares: Float[Tensor, "N K"]) -> tuple[Int[Tensor, " N"], Bool[Tensor, " N"]]:
    """The class of each region, and whether so much of it is that class that it is written.

    Example:
        >>> pure(torch.tensor([[0.95, 0.05], [0.5, 0.5]]))
        (tensor([0, 0]), tensor([ True, False]))
    """
    share, kind = shares.max(-1)
    return kind, share >= PURITY


def _joined(parts: list[MemoryState]) -> MemoryState:
    return MemoryState(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))  # type: ignore[arg-type]
