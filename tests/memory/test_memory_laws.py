"""What holds for every memory and every batch."""

from __future__ import annotations

import inspect
from dataclasses import asdict

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.memory import (
    ContextMemory,
    MemoryConfig,
    MemoryRead,
    MemoryState,
    augment,
    inject,
    inject_fast,
    inter_set,
    ratio_error,
    read,
    read_fast,
    route,
    rules,
)
from cicm.ops import as_map, as_regions

FORMS = pytest.mark.parametrize("form", [inject, inject_fast])
UPDATES = pytest.mark.parametrize("update", ["mean", "paper"])
# shape checks make each example slow at first; the laws need few
LAW = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors]
)
sizes = st.integers(1, 6)


def world(seed: int, n: int = 30, sets: int = 4, contexts: int = 5, channels: int = 6, dtype=torch.float64):
    """A batch of regions and a memory; positive features, as a rectifier gives them."""
    g = torch.Generator().manual_seed(seed)
    regions = torch.rand(n, channels, generator=g, dtype=dtype)
    state = MemoryState(
        torch.rand(sets, channels, generator=g, dtype=dtype),
        torch.rand(sets, contexts, channels, generator=g, dtype=dtype),
        torch.rand(sets, contexts, generator=g, dtype=dtype) + 0.1,
    )
    own = route(regions, state.anchors)
    weights = read(regions, own, state.contexts)[1]
    complete = torch.rand(n, generator=g) < 0.7
    return state, (regions, own, weights, complete)


# Eq. 1 ----------------------------------------------------------------------------------------------------------------


@LAW
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3), n=sizes, sets=sizes)
def test_cosine_routing_ignores_the_length_of_regions_and_anchors(seed: int, scale: float, n: int, sets: int) -> None:
    state, (regions, own, _, _) = world(seed, n=n, sets=sets)
    if sets > 1:
        best = rules.similarity(regions, state.anchors).topk(2, dim=-1).values
        assume((best[:, 0] - best[:, 1]).min() > 1e-9)  # rounding may decide between equals
    assert torch.equal(route(regions * scale, state.anchors), own)
    assert torch.equal(route(regions, state.anchors * scale), own)


def test_dot_routing_favours_the_longest_anchor() -> None:
    region = torch.tensor([[1.0, 0.2]])
    anchors = torch.tensor([[1.0, 0.2], [9.0, 9.0]])
    assert route(region, anchors).item() == 0
    assert route(region, anchors, kind="dot").item() == 1


def test_first_of_equal_anchors_is_chosen() -> None:
    assert route(torch.ones(3, 2), torch.ones(4, 2)).tolist() == [0, 0, 0]


# Eq. 4 ----------------------------------------------------------------------------------------------------------------


@LAW
@given(seed=st.integers(0, 10**6), temperature=st.floats(1e-3, 10), n=sizes, k=sizes)
def test_weights_are_a_distribution_and_context_lies_within_the_set(seed: int, temperature: float, n: int, k: int):
    state, (regions, own, _, _) = world(seed, n=n, contexts=k)
    context, weights = read_fast(regions, own, state.contexts, temperature=temperature)
    assert_close(weights.sum(-1), torch.ones(n, dtype=torch.float64), rtol=0, atol=1e-14)  # K <= 6 roundings
    assert weights.min() >= 0
    offered = state.contexts[own]
    assert (context <= offered.amax(1) + 1e-12).all()
    assert (context >= offered.amin(1) - 1e-12).all()


def test_a_colder_softmax_reads_the_nearest_context_alone() -> None:
    state, (regions, own, _, _) = world(0)
    context, weights = read_fast(regions, own, state.contexts, temperature=1e-6)
    nearest = state.contexts[own][torch.arange(len(regions)), weights.argmax(-1)]
    assert_close(context, nearest)
    one, same = read_fast(regions, own, state.contexts, top=0.0)
    assert_close(one, nearest)
    assert torch.equal(same, read_fast(regions, own, state.contexts)[1])  # `top` leaves the weights whole


@LAW
@given(seed=st.integers(0, 10**6), n=sizes)
def test_ratio_0_changes_nothing_and_ratio_1_everything(seed: int, n: int) -> None:
    _, (regions, _, _, _) = world(seed, n=n, dtype=torch.float32)
    context = torch.rand(n, 6) * 100
    zero, one = torch.zeros(n), torch.ones(n)
    assert torch.equal(augment(regions, context, zero), regions)
    assert torch.equal(augment(regions, context, one), context)
    assert torch.equal(augment(regions, context, one, blend="paper"), regions)


def test_zeros_for_the_ratio_make_the_memory_the_exact_identity() -> None:
    memory = seeded(ratio="true")
    features = torch.randn(2, 6, 3, 5)
    assert torch.equal(memory.read(features, torch.zeros(30)).features, features)
    assert not torch.equal(memory.read(features, torch.full((30,), 0.5)).features, features)


def test_full_ratio_replaces_every_region_by_its_context() -> None:
    memory = seeded(ratio="full")
    found = memory.read(torch.rand(2, 6, 3, 5))
    assert torch.equal(as_regions(found.features), found.context)


# Eq. 2-3 --------------------------------------------------------------------------------------------------------------


@FORMS
@UPDATES
@LAW
@given(seed=st.integers(0, 10**6))
def test_order_of_regions_does_not_matter(form, update: str, seed: int) -> None:
    state, (regions, own, weights, complete) = world(seed)
    order = torch.randperm(len(regions), generator=torch.Generator().manual_seed(seed))
    one = form(state, regions, own, weights, complete, update=update)
    other = form(state, regions[order], own[order], weights[order], complete[order], update=update)
    for a, b in zip(one, other, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)  # 30 terms of size 1, added in another order


@FORMS
@UPDATES
def test_no_complete_region_leaves_every_bit(form, update: str) -> None:
    state, (regions, own, weights, complete) = world(3, dtype=torch.float32)
    for rows in (slice(None), slice(0, 0)):
        batch = regions[rows], own[rows], weights[rows], torch.zeros_like(complete)[rows]
        after = form(state, *batch, update=update)
        assert torch.equal(after.anchors, state.anchors)
        assert torch.equal(after.contexts, state.contexts)
        assert torch.equal(after.mass, state.mass)


@FORMS
@UPDATES
def test_incomplete_regions_are_not_written(form, update: str) -> None:
    state, (regions, own, weights, complete) = world(4)
    other = torch.where(complete[:, None], regions, regions * -50)
    for a, b in zip(
        form(state, regions, own, weights, complete, update=update),
        form(state, other, own, weights, complete, update=update),
        strict=True,
    ):
        assert torch.equal(a, b)


@FORMS
def test_a_context_that_received_nothing_keeps_its_bits(form) -> None:
    state, (regions, own, weights, complete) = world(5, dtype=torch.float32)
    own = torch.zeros_like(own)
    after = form(state, regions, own, weights, complete)
    assert torch.equal(after.contexts[1:], state.contexts[1:])
    assert not torch.equal(after.contexts[0], state.contexts[0])
    assert_close(after.mass[1:], state.mass[1:] * 0.99)


@FORMS
@UPDATES
@LAW
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 30))
def test_two_ranks_with_summed_halves_equal_the_whole(form, update: str, seed: int, cut: int) -> None:
    state, batch = world(seed)
    whole = form(state, *batch, update=update)
    halves = [tuple(t[:cut] for t in batch), tuple(t[cut:] for t in batch)]
    sent: list[list[torch.Tensor]] = [[], []]
    for rank, half in enumerate(halves):  # first round: what each rank would send
        form(state, *half, reduce=lambda t, rank=rank: (sent[rank].append(t), t)[1], update=update)
    sums = [a + b for a, b in zip(*sent, strict=True)]
    for half in halves:
        waiting = iter(sums)
        part = form(state, *half, reduce=lambda _: next(waiting), update=update)  # noqa: B023 - used at once
        for a, b in zip(part, whole, strict=True):
            assert_close(a, b, rtol=0, atol=1e-12)


@FORMS
@LAW
@given(seed=st.integers(0, 10**6), retention=st.floats(0, 1))
def test_a_mean_stays_within_what_it_is_the_mean_of(form, seed: int, retention: float) -> None:
    state, batch = world(seed)
    after = form(state, *batch, retention=retention)
    held = torch.cat([state.contexts.flatten(0, 1), batch[0]])
    assert (after.contexts <= held.amax(0) + 1e-12).all()
    assert (after.contexts >= held.amin(0) - 1e-12).all()
    assert torch.isfinite(after.anchors).all()


def test_inject_touches_only_what_it_gives_back() -> None:
    state, batch = world(6)
    before = [t.clone() for t in (*state, *batch)]
    inject(state, *batch)
    inject_fast(state, *batch)
    assert all(torch.equal(a, b) for a, b in zip(before, (*state, *batch), strict=True))


# Fast forms -----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["dense", "pieces"])
def branch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The product with the whole memory, or gathering two regions at a time."""
    if request.param == "pieces":
        monkeypatch.setattr(rules, "DENSE_LIMIT", 0)
        monkeypatch.setattr(rules, "CHUNK_FLOATS", 2 * 5 * 6)
    return request.param


@pytest.mark.parametrize("kind", ["dot", "cosine", "centred"])
@pytest.mark.parametrize("top", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("n", [0, 1, 7])
def test_read_fast_is_read(branch: str, kind: str, top: float, n: int) -> None:
    state, (regions, own, _, _) = world(7, n=n)
    center = state.center() if kind == "centred" else None
    given_context = torch.rand(n, 6, dtype=torch.float64)
    given_weights = torch.rand(n, 5, dtype=torch.float64)
    results = []
    for form in (read, read_fast):
        leaves = [regions.clone().requires_grad_(), state.contexts.clone().requires_grad_()]
        context, weights = form(leaves[0], own, leaves[1], kind=kind, temperature=0.2, center=center, top=top)
        ((context * given_context).sum() + (weights * given_weights).sum()).backward()
        results.append([context, weights, *(leaf.grad for leaf in leaves)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)  # the same sums in another order, 1 / temperature = 5 times


@UPDATES
@pytest.mark.parametrize("n", [0, 1, 7])
def test_inject_fast_is_inject(branch: str, update: str, n: int) -> None:
    state, (regions, own, weights, complete) = world(8, n=n)
    given = [torch.rand_like(t) for t in state]
    results = []
    for form in (inject, inject_fast):
        leaves = [t.clone().requires_grad_() for t in (regions, weights)]
        after = form(state, leaves[0], own, leaves[1], complete, 0.7, update=update, retention=0.9)
        sum((a * g).sum() for a, g in zip(after, given, strict=True)).backward()
        results.append([*after, *(leaf.grad for leaf in leaves)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b, rtol=0, atol=1e-12)


def test_the_pieces_are_really_small(branch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    gathered = rules._read_gathered

    def watched(query, *rest):
        nonlocal largest
        largest = max(largest, len(query))
        return gathered(query, *rest)

    monkeypatch.setattr(rules, "_read_gathered", watched)
    state, (regions, own, _, _) = world(9)
    read_fast(regions, own, state.contexts)
    assert largest == {"dense": 0, "pieces": 2}[branch]


def test_a_memory_of_thousands_is_gathered() -> None:
    state, (regions, own, _, _) = world(10, n=12, sets=70, contexts=60, channels=3)
    assert rules.DENSE_LIMIT < 70 * 60
    assert_close(read_fast(regions, own, state.contexts), read(regions, own, state.contexts), rtol=0, atol=1e-12)


# Gradients ------------------------------------------------------------------------------------------------------------


def seeded(channels: int = 6, **changes) -> ContextMemory:
    """A small memory that has seen something."""
    memory = ContextMemory(channels, MemoryConfig(**{"sets": 4, "contexts": 5, **changes}))
    memory.seed_(torch.rand(80, channels), torch.Generator().manual_seed(1))
    return memory


def test_equation_8_reaches_the_features_through_the_pending_state() -> None:
    memory = seeded()
    features = torch.rand(2, 6, 4, 4, requires_grad=True)
    pending = memory.pending([memory.read(features)], [torch.arange(32) % 2 == 0])
    for term in memory.losses(pending):
        (gradient,) = torch.autograd.grad(term, features, retain_graph=True)
        flat = as_regions(gradient)
        assert flat[0::2].abs().sum(1).gt(0).all()  # every complete region
        assert flat[1::2].eq(0).all()  # no other
    assert memory.losses(memory.state)[0].requires_grad is False


def test_inter_set_of_one_set_is_zero_and_differentiable() -> None:
    anchors = torch.rand(1, 3, requires_grad=True)
    inter_set(anchors).backward()
    assert inter_set(anchors).item() == 0
    assert torch.equal(anchors.grad, torch.zeros(1, 3))


def test_losses_are_gradcheck_clean() -> None:
    state, (regions, own, _, complete) = world(11, n=5, sets=2, contexts=3, channels=3)

    def total(rows: torch.Tensor) -> torch.Tensor:
        weights = read_fast(rows, own, state.contexts)[1]
        after = inject_fast(state, rows, own, weights, complete)
        return inter_set(after.anchors) + (after.contexts**2).sum()

    assert torch.autograd.gradcheck(total, regions.requires_grad_())


# Refusals -------------------------------------------------------------------------------------------------------------


def bare(function):
    """The function without the shape checks of the tests, as a user has it."""
    return inspect.unwrap(function)


def test_what_a_caller_got_wrong_is_said() -> None:
    for call, words in (
        (lambda: bare(route)(torch.zeros(2, 3), torch.zeros(2, 4)), "4 channels; got 3"),
        (lambda: bare(read)(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), torch.zeros(1, 2, 4)), "4 channels"),
        (lambda: bare(read_fast)(torch.zeros(2, 3), torch.zeros(2).long(), torch.zeros(1, 2, 4)), "4 channels"),
        (lambda: bare(augment)(torch.zeros(2, 3), torch.zeros(1, 3), torch.zeros(2)), "got 2, 1, 2"),
        (lambda: bare(ratio_error)(torch.zeros(2), torch.zeros(3)), "got 2 and 3"),
        (lambda: ContextMemory(0), "channels must be at least 1"),
        (lambda: ContextMemory(4).read(torch.zeros(1, 3, 2, 2)), "for 4 channels; got features with 3"),
        (lambda: ContextMemory(4).seed_(torch.zeros(5, 3), torch.Generator()), r"\(N, 4\); got \(5, 3\)"),
        (lambda: ContextMemory(4).reseed_(torch.zeros(5, 3), torch.Generator()), r"\(N, 4\)"),
        (lambda: ContextMemory(4).seed_(torch.zeros(0, 4), torch.Generator()), "at least one complete region"),
        (lambda: ContextMemory(4).seed_(torch.full((5, 4), torch.nan), torch.Generator()), "finite"),
        (lambda: ContextMemory(4, MemoryConfig(ratio="true")).read(torch.zeros(1, 4, 2, 2)), "missing share"),
        (lambda: ContextMemory(4).pending([], [torch.ones(3, dtype=torch.bool)]), "got 0 and 1"),
    ):
        with pytest.raises(InputError, match=words):
            call()


def test_a_configuration_that_cannot_be_is_refused() -> None:
    for change, words in (
        ({"sets": 0}, "sets must be at least 1"),
        ({"contexts": -1}, "contexts must be at least 1"),
        ({"momentum": 1.5}, r"momentum must lie in \[0, 1\]"),
        ({"retention": -0.1}, "retention"),
        ({"retention": float("nan")}, "retention"),
        ({"read_top": 2}, "read_top"),
        ({"temperature": 0}, "temperature must be"),
        ({"temperature": float("nan")}, "temperature must be"),
        ({"ratio_kernel": 2}, "odd"),
        ({"similarity": "cosin"}, "dot, cosine, centred; got 'cosin'"),
        ({"update": "sum"}, "mean, paper"),
        ({"blend": "x"}, "text, paper"),
        ({"ratio": "x"}, "estimated, true, full"),
        ({"initial": "x"}, "data, random, zeros"),
        ({"kind": "x"}, "memory, table, convolution"),
    ):
        config = object.__new__(MemoryConfig)  # without the type checks of the tests, as a user has it
        config.__dict__.update({**asdict(MemoryConfig()), **change})
        with pytest.raises(InputError, match=words):
            bare(MemoryConfig.__post_init__)(config)


def test_the_printed_configuration_is_the_printed_one() -> None:
    config = MemoryConfig.as_printed(sets=3)
    assert (config.similarity, config.temperature, config.update, config.blend) == ("dot", 1.0, "paper", "paper")
    assert (config.sets, config.contexts, config.momentum) == (3, 40, 0.5)
    assert (MemoryConfig().sets, MemoryConfig().contexts, MemoryConfig().momentum) == (13, 40, 0.5)


# Regions --------------------------------------------------------------------------------------------------------------


def test_a_read_describes_each_cell_in_the_order_of_regions() -> None:
    memory = seeded(ratio="true")
    features = torch.rand(2, 6, 3, 4)
    found = memory.read(features, torch.linspace(0, 1, 24))
    assert isinstance(found, MemoryRead)
    assert torch.equal(as_map(found.regions, features), features)
    assert torch.equal(as_regions(found.features), augment(found.regions, found.context, found.ratio))
    single = memory.read(features[1:, :, 2:, 3:], found.ratio[-1:])
    assert single.sets.item() == found.sets[-1]
    assert_close(single.context[0], found.context[-1])


# Eq. 8 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dot", "cosine", "centred"])
@pytest.mark.parametrize("update", ["mean", "paper"])
def test_the_gradient_of_eq_8_is_that_of_the_logged_loss(kind: str, update: str) -> None:
    """Finite differences of inter and intra through `pending`: whatever the loss depends on, its gradient knows."""
    memory = ContextMemory(4, MemoryConfig(sets=3, contexts=4, similarity=kind, update=update, write_top=1.0)).double()
    random = torch.Generator().manual_seed(0)
    memory.seed_(torch.rand(60, 4, generator=random, dtype=torch.float64), random)
    features = torch.rand(2, 4, 3, 3, generator=random, dtype=torch.float64).requires_grad_()
    complete = torch.rand(18, generator=random) < 0.8

    def terms(seen: torch.Tensor) -> torch.Tensor:
        return torch.stack(memory.losses(memory.pending([memory.read(seen)], [complete])))

    for index, name in enumerate(("inter", "intra")):
        (gradient,) = torch.autograd.grad(terms(features)[index], features)
        expected = torch.zeros_like(features)
        for place in range(features.numel()):
            step = torch.zeros(features.numel(), dtype=torch.float64)
            step[place] = 1e-6  # float64: the error of a central difference is about 1e-10 then
            ahead, behind = (terms(features.detach() + way * step.view_as(features))[index] for way in (1, -1))
            expected.view(-1)[place] = (ahead - behind) / 2e-6
        assert_close(gradient, expected, rtol=1e-5, atol=1e-8, msg=lambda told, name=name: f"{name}: {told}")
