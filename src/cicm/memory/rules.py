"""Equations 1 to 4 as functions: route, read, augment, inject.

Each touches only what it is given. A plain form defines a rule; the form with `_fast` behind its name gives the same
values and gradients with less memory and time, and is tested against it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cicm.conventions import InputError
from cicm.memory.state import Blend, MemoryState, Update, kept
from cicm.ops.similarity import Similarity, compared, similarity

Reduce = Callable[[Tensor], Tensor]
"""Sum over ranks, inside the graph."""

DENSE_LIMIT = 4096
"""Up to so many contexts in all, one product with every context beats gathering those of the chosen set."""
CHUNK_FLOATS = 2**24
"""Gathered contexts at a time beyond that limit (64 MiB in float32)."""


def alone(tensor: Tensor) -> Tensor:
    """The reduction of a single process."""
    return tensor


# Eq. 1 ----------------------------------------------------------------------------------------------------------------


def route(
    regions: Float[Tensor, "N C"],
    anchors: Float[Tensor, "L C"],
    *,
    kind: Similarity = "cosine",
    center: Float[Tensor, " C"] | None = None,
    prior: Float[Tensor, "N L"] | None = None,
) -> Int[Tensor, " N"]:
    """Choose for each region the set whose anchor is the most similar (Eq. 1).

    Args:
        kind: how similarity is measured; `dot` is the printed form, which favours the longest anchor.
        center: (C,), for `centred`.
        prior: added to the similarities; zeros choose bit for bit as none.

    Returns:
        (N,) in 0..L-1; the first of equals.

    Raises:
        InputError: regions and anchors differ in channels.

    Example:
        >>> route(torch.eye(2), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
        tensor([1, 0])
    """
    _check_channels(regions, anchors.shape[-1])
    alike = similarity(regions, anchors, kind, center)
    return (alike if prior is None else alike + prior).argmax(-1)


# Eq. 4 ----------------------------------------------------------------------------------------------------------------


def read(
    regions: Float[Tensor, "N C"],
    sets: Int[Tensor, " N"],
    contexts: Float[Tensor, "L K C"],
    *,
    kind: Similarity = "cosine",
    temperature: float = 0.1,
    center: Float[Tensor, " C"] | None = None,
    top: float = 1.0,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N K"]]:
    """Mix the contexts of each region's set by a softmax over their similarities (Eq. 4).

    Args:
        sets: (N,), from `route`.
        kind, temperature, center: as in `MemoryConfig`; `dot` and 1 are the printed form.
        top: share of the contexts that are mixed, the most similar first; their weights are made to sum to 1 again.

    Returns:
        context (N, C) and the weights (N, K) over all K contexts, before `top`.

    Raises:
        InputError: regions and contexts differ in channels.

    Example:
        >>> context, weights = read(torch.ones(1, 2), torch.tensor([0]), torch.ones(1, 4, 2))
        >>> context, weights
        (tensor([[1., 1.]]), tensor([[0.2500, 0.2500, 0.2500, 0.2500]]))
    """
    _check_channels(regions, contexts.shape[-1])
    offered = contexts[sets]
    scores = (compared(regions, kind, center)[:, None] * compared(offered, kind, center)).sum(-1)
    weights = (scores / temperature).softmax(-1)
    return (keep_top(weights, top)[..., None] * offered).sum(1), weights


def read_fast(
    regions: Float[Tensor, "N C"],
    sets: Int[Tensor, " N"],
    contexts: Float[Tensor, "L K C"],
    *,
    kind: Similarity = "cosine",
    temperature: float = 0.1,
    center: Float[Tensor, " C"] | None = None,
    top: float = 1.0,
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N K"]]:
    """`read` without the N x K x C floats of the gathered contexts.

    Small memories are multiplied as a whole and the chosen set is picked from the scores; large ones are gathered in
    pieces.
    """
    _check_channels(regions, contexts.shape[-1])
    num_sets, num_contexts, channels = contexts.shape
    query, keys = compared(regions, kind, center), compared(contexts, kind, center)
    if num_sets * num_contexts > DENSE_LIMIT:
        pieces = [
            _read_gathered(q, s, keys, contexts, temperature, top)
            for q, s in zip(*_split(num_contexts * channels, query, sets), strict=True)
        ]
        return torch.cat([p[0] for p in pieces]), torch.cat([p[1] for p in pieces])
    scores = (query @ keys.view(-1, channels).T).unflatten(-1, (num_sets, num_contexts))
    own = sets[:, None, None].expand(-1, 1, num_contexts)
    weights = (scores.gather(1, own)[:, 0] / temperature).softmax(-1)
    return _spread(keep_top(weights, top), sets, num_sets) @ contexts.view(-1, channels), weights


def augment(
    regions: Float[Tensor, "N C"], context: Float[Tensor, "N C"], ratio: Float[Tensor, " N"], *, blend: Blend = "text"
) -> Float[Tensor, "N C"]:
    """Blend cross-image context into the regions that need it (Eq. 4).

    Args:
        regions: (N, C); one row per cell of the feature map.
        context: (N, C); what the memory offers for the same rows.
        ratio: (N,) in [0, 1]; missing share of each region.
        blend: `paper` swaps the two weights.

    Returns:
        (N, C), same dtype. Equal to `regions` where ratio is 0.

    Raises:
        InputError: the first dimensions differ.

    Differs from the paper: the printed formula weights the region by the ratio, the text by one minus it.
        We follow the text, where a larger ratio means more context.

    Example:
        >>> augment(torch.ones(1, 2), torch.zeros(1, 2), torch.tensor([0.25]))
        tensor([[0.7500, 0.7500]])
    """
    # .shape and not len(): a graph with dynamic sizes would be tied to the number of regions that it was traced with
    rows = regions.shape[0], context.shape[0], ratio.shape[0]
    if not rows[0] == rows[1] == rows[2]:
        raise InputError(f"regions, context and ratio need one row per region; got {rows[0]}, {rows[1]}, {rows[2]}.")
    share = (ratio if blend == "text" else 1 - ratio)[:, None]
    return ((1 - share) * regions + share * context).to(regions.dtype)


# Eq. 2-3 --------------------------------------------------------------------------------------------------------------


def inject(
    state: MemoryState,
    regions: Float[Tensor, "N C"],
    sets: Int[Tensor, " N"],
    weights: Float[Tensor, "N K"],
    complete: Bool[Tensor, " N"],
    momentum: float = 0.5,
    reduce: Reduce = alone,
    *,
    update: Update = "mean",
    retention: float = 0.99,
) -> MemoryState:
    """Write the complete regions of a batch into their sets, then move the anchors (Eq. 2 and 3).

    All regions are written against the old state, so that their order does not matter and ranks add up. The result
    is in the graph of `regions` and `weights`.

    Args:
        sets: (N,), from `route`.
        weights: (N, K), from `read`.
        complete: (N,); the others are not written.
        momentum: beta of Eq. 3.
        update: `mean`: each context becomes the mean of what it held and what it received, by mass;
            `paper`: it is added up (Eq. 2).
        retention: share of the old mass that counts in that mean.

    Returns:
        the memory after. A context that received nothing is unchanged; so is everything if no region is complete.

    Differs from the paper: the printed sum grows without bound, so that `mean` divides it by the accumulated weight,
        with forgetting.

    Example:
        >>> state = MemoryState(torch.zeros(1, 1), torch.zeros(1, 1, 1), torch.ones(1, 1))
        >>> one = torch.tensor([[2.0]]), torch.tensor([0]), torch.tensor([[1.0]]), torch.tensor([True])
        >>> inject(state, *one, retention=1.0).contexts, inject(state, *one, update="paper").contexts
        (tensor([[[1.]]]), tensor([[[2.]]]))
    """
    given = weights * complete[:, None]
    received = torch.zeros_like(state.contexts, dtype=regions.dtype)
    received = received.index_add(0, sets, given[..., None] * regions[:, None])
    mass = received.new_zeros(received.shape[:2]).index_add(0, sets, given)
    return settle(state, reduce(received), reduce(mass), momentum, update=update, retention=retention)


def inject_fast(
    state: MemoryState,
    regions: Float[Tensor, "N C"],
    sets: Int[Tensor, " N"],
    weights: Float[Tensor, "N K"],
    complete: Bool[Tensor, " N"],
    momentum: float = 0.5,
    reduce: Reduce = alone,
    *,
    update: Update = "mean",
    retention: float = 0.99,
) -> MemoryState:
    """`inject` without N x K x C floats: one product for small memories, pieces for large ones; one reduction."""
    num_sets, num_contexts, channels = state.contexts.shape
    given = weights * complete[:, None]
    if num_sets * num_contexts > DENSE_LIMIT:
        received = torch.zeros_like(state.contexts, dtype=regions.dtype)
        for w, s, r in zip(*_split(num_contexts * channels, given, sets, regions), strict=True):
            received = received.index_add(0, s, w[..., None] * r[:, None])
        mass = received.new_zeros(num_sets, num_contexts).index_add(0, sets, given)
    else:
        spread = _spread(given, sets, num_sets)
        received = (spread.T @ regions).view(num_sets, num_contexts, channels)
        mass = spread.sum(0).view(num_sets, num_contexts)
    both = reduce(torch.cat([received, mass[..., None]], -1))
    return settle(state, both[..., :-1], both[..., -1], momentum, update=update, retention=retention)


def settle(
    state: MemoryState,
    received: Float[Tensor, "L K C"],
    mass: Float[Tensor, "L K"],
    momentum: float,
    *,
    update: Update = "mean",
    retention: float = 0.99,
) -> MemoryState:
    """The state after a batch whose weighted sums are `received`, of total weight `mass` (Eq. 2, then Eq. 3)."""
    old = state.weight()
    if update == "paper":
        contexts, total = state.contexts + received, old + mass
    else:
        total = retention * old + mass
        # As a difference, so that a context that received nothing keeps its bits.
        step = (received - mass[..., None] * state.contexts) / total.clamp_min(1e-12)[..., None]
        contexts = state.contexts + step
    anchors = momentum * state.anchors + (1 - momentum) * contexts.mean(1)
    # A batch without any complete region is no batch: Eq. 3 and the forgetting wait too. No branch: no synchronisation.
    written = mass.sum() > 0
    return MemoryState(torch.where(written, anchors, state.anchors), contexts, torch.where(written, total, old))


def keep_top(weights: Float[Tensor, "N K"], share: float) -> Float[Tensor, "N K"]:
    """The largest weights of each row, made to sum to 1 again; the others 0 (Table 1, top-1 and top-50 %).

    Args:
        weights: (N, K), rows sum to 1.
        share: of the K contexts, in [0, 1]; at least one is kept.

    Example:
        >>> keep_top(torch.tensor([[0.5, 0.3, 0.2, 0.0]]), 0.5)
        tensor([[0.6250, 0.3750, 0.0000, 0.0000]])
    """
    count = kept(share, weights.shape[-1])
    if count == weights.shape[-1]:
        return weights
    values, places = weights.topk(count, dim=-1)
    return torch.zeros_like(weights).scatter(-1, places, values / values.sum(-1, keepdim=True))


def _check_channels(regions: Tensor, channels: int) -> None:
    if regions.shape[-1] != channels:
        raise InputError(f"regions must have the memory's {channels} channels; got {regions.shape[-1]}.")


def _read_gathered(
    query: Tensor, sets: Tensor, keys: Tensor, contexts: Tensor, temperature: float, top: float
) -> tuple[Tensor, Tensor]:
    weights = (torch.bmm(keys[sets], query[..., None])[..., 0] / temperature).softmax(-1)
    return torch.bmm(keep_top(weights, top)[:, None], contexts[sets])[:, 0], weights


def _spread(weights: Tensor, sets: Tensor, num_sets: int) -> Tensor:
    """(N, K) weights within one set -> (N, L*K) weights within all, zero elsewhere."""
    rows, num_contexts = weights.shape
    own = sets[:, None, None].expand(-1, 1, num_contexts)
    return weights.new_zeros(rows, num_sets, num_contexts).scatter(1, own, weights[:, None]).flatten(1)


def _split(floats_per_row: int, *tensors: Tensor) -> tuple[tuple[Tensor, ...], ...]:
    rows = max(1, CHUNK_FLOATS // floats_per_row)
    return tuple(t.split(rows) for t in tensors)
