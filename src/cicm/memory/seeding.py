"""Where a memory begins, and where its starved places begin again: in regions that were really seen."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cicm.conventions import InputError
from cicm.memory.rules import route
from cicm.memory.state import MemoryState
from cicm.ops.similarity import Similarity, compared

_STARVED = 0.01  # a set or a context starves when its mass is below this share of an even one
_ROUNDS = 5  # of Lloyd's algorithm after k-means++
MOST_REGIONS = 20_000  # a few times L * K; more regions only make k-means slower


def thinned(regions: Float[Tensor, "N C"]) -> Float[Tensor, "M C"]:
    """At most `MOST_REGIONS` of the regions, evenly spaced."""
    return regions[:: max(1, -(-len(regions) // MOST_REGIONS))]


def generator_for(seed: int, step: int, place: int) -> torch.Generator:
    """A generator that depends on the seed, the step and the memory's place among the sites alone.

    No state of it need be saved, and every rank gets the same one.
    """
    mixed = (seed * 1_000_003 + step) * 101 + place
    return torch.Generator().manual_seed(mixed % 2**63)


def _spread_out(
    points: Float[Tensor, "N C"], count: int, generator: torch.Generator, weights: Float[Tensor, " N"] | None = None
) -> Int[Tensor, " count"]:
    """Indices of points far from each other: k-means++ (Arthur and Vassilvitskii, 2007).

    Args:
        points: (N, C), compared by squared distance.
        count: how many; beyond N, or beyond the number of different points, they repeat.
        weights: (N,) non-negative, multiplies the chance of each.
    """
    chance = torch.ones(len(points)) if weights is None else weights.to("cpu", torch.float32)
    nearest = torch.full((len(points),), torch.inf)
    chosen = []
    for step in range(count):
        odds = chance if step == 0 else chance * nearest
        if not torch.isfinite(odds).all() or odds.sum() <= 0:
            odds = torch.ones(len(points))  # every different point is taken already
        pick = int(torch.multinomial(odds, 1, generator=generator))
        chosen.append(pick)
        distance = (points - points[pick]).square().sum(-1).to("cpu", torch.float32)
        nearest = torch.minimum(nearest, distance)
    return torch.tensor(chosen, device=points.device)


def from_regions(
    regions: Float[Tensor, "N C"],
    sets: int,
    contexts: int,
    generator: torch.Generator,
    kind: Similarity = "centred",
) -> MemoryState:
    """A first memory out of complete regions: anchors by k-means, contexts spread over each anchor's own regions.

    Args:
        regions: (N, C), complete ones of several images.
        generator: a CPU generator; the same one gives the same memory.

    Raises:
        InputError: no region was given, or one is not finite.
    """
    if len(regions) == 0:
        raise InputError("a memory must be seeded from at least one complete region; got none. Use smaller holes.")
    if not torch.isfinite(regions).all():
        raise InputError("a memory must be seeded from finite features; got NaN or infinity. Check the network.")
    center = regions.mean(0)
    points = compared(regions, kind, center)
    anchors = regions[_spread_out(points, sets, generator)].clone()
    for _ in range(_ROUNDS):
        own = route(regions, anchors, kind=kind, center=center)
        total = torch.zeros_like(anchors).index_add(0, own, regions)
        count = torch.zeros(sets, 1, dtype=regions.dtype, device=regions.device).index_add(
            0, own, regions.new_ones(len(regions), 1)
        )
        anchors = torch.where(count > 0, total / count.clamp_min(1), anchors)
    own = route(regions, anchors, kind=kind, center=center)
    state = torch.stack(
        [_members(regions, points, own == index, anchors[index], contexts, generator) for index in range(sets)]
    )
    mass = torch.bincount(own, minlength=sets).to(regions.dtype).clamp_min(1)
    return MemoryState(state.mean(1), state, (mass / contexts)[:, None].repeat(1, contexts))


def _members(
    regions: Tensor, points: Tensor, mine: Bool[Tensor, " N"], anchor: Tensor, contexts: int, generator: torch.Generator
) -> Float[Tensor, "K C"]:
    """K contexts for one set: its own regions, spread out; the nearest others where it has too few."""
    if int(mine.sum()) < contexts:
        count = min(contexts, len(regions))
        mine = torch.zeros_like(mine)
        mine[(regions - anchor).square().sum(-1).topk(count, largest=False).indices] = True
    return regions[mine][_spread_out(points[mine], contexts, generator)]


def starved(state: MemoryState) -> tuple[Bool[Tensor, " L"], Bool[Tensor, "L K"]]:
    """Which sets, and which contexts of living sets, hardly receive anything any more.

    Returns:
        (L,) sets below a hundredth of an even share of the mass; (L, K) contexts below that share of their own set.
    """
    mass = state.weight()
    per_set = mass.sum(1)
    dead = per_set < _STARVED * per_set.mean()
    weak = (mass < _STARVED * per_set[:, None] / mass.shape[1]) & ~dead[:, None]
    return dead, weak


def reseeded(
    state: MemoryState,
    regions: Float[Tensor, "N C"],
    generator: torch.Generator,
    kind: Similarity = "centred",
) -> tuple[MemoryState, int, int]:
    """Give starved places new content from regions that the memory describes badly.

    A starved set starts anew around a region far from all anchors; a starved context takes a region of its own set,
    far from that set's other contexts. Fresh places get an even share of mass, so that they are not starved at once.

    Args:
        regions: (N, C), complete ones of the current batch; the same on every rank.

    Returns:
        the state, the number of sets and of contexts that were reseeded.
    """
    dead, weak = starved(state)
    if len(regions) == 0 or not bool(dead.any() | weak.any()):
        return state, 0, 0
    anchors, contexts, mass = state.anchors.clone(), state.contexts.clone(), state.weight().clone()
    center = state.center()
    points = compared(regions, kind, center)
    if bool(dead.any()):
        living = compared(anchors[~dead], kind, center)
        far = 1 - (points @ living.T).amax(1).clamp(-1, 1) if len(living) else torch.ones(len(points))
        seeds = _spread_out(points, int(dead.sum()), generator, weights=far)
        everywhere = torch.ones(len(regions), dtype=torch.bool, device=regions.device)
        for index, seed in zip(dead.nonzero()[:, 0].tolist(), seeds.tolist(), strict=True):
            near = (points - points[seed]).square().sum(-1).topk(min(len(points), contexts.shape[1]), largest=False)
            chosen = torch.zeros_like(everywhere)
            chosen[near.indices] = True
            contexts[index] = _members(regions, points, chosen, regions[seed], contexts.shape[1], generator)
            anchors[index] = contexts[index].mean(0)
            mass[index] = mass[~dead].mean() if bool((~dead).any()) else 1.0
    own = route(regions, anchors, kind=kind, center=center)
    replaced = 0
    for index in weak.any(1).nonzero()[:, 0].tolist():
        mine = (own == index).nonzero()[:, 0]
        places = weak[index].nonzero()[:, 0][: len(mine)]
        if len(places) == 0:
            continue
        held = compared(contexts[index][~weak[index]], kind, center)
        far = 1 - (points[mine] @ held.T).amax(1).clamp(-1, 1)
        picks = mine[_spread_out(points[mine], len(places), generator, weights=far + 1e-6)]
        contexts[index, places] = regions[picks]
        mass[index, places] = mass[index][~weak[index]].mean()
        replaced += len(places)
    return MemoryState(anchors, contexts, mass), int(dead.sum()), replaced
