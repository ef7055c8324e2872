"""A memory over time: who writes when, what is kept, what starves, what grows."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.memory import ContextMemory, ConvolutionControl, MemoryConfig, MemoryState, create, route, seeding
from cicm.ops import as_regions

C = 8
SMALL = {"sets": 3, "contexts": 4}


def bits(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(seed: int = 0, **changes) -> ContextMemory:
    memory = create(C, MemoryConfig(**{**SMALL, **changes}))
    memory.seed_(torch.rand(60, C, generator=generator(seed)), generator(seed))
    return memory


def step(memory: ContextMemory, *maps: torch.Tensor) -> MemoryState:
    reads = [memory.read(features) for features in maps]
    return memory.pending(reads, [torch.ones(len(r.regions), dtype=torch.bool) for r in reads])


# Who writes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "table"])
def test_forwards_losses_reports_and_pending_never_write(kind: str) -> None:
    memory = small(kind=kind)
    before = bits(memory)
    features = torch.rand(2, C, 3, 3, requires_grad=True)
    for mode in (True, False):
        memory.train(mode)
        memory(features).sum().backward()
        pending = step(memory, features)
        memory.losses(pending)
        memory.report()
    assert same(before, bits(memory))


def test_one_commit_stores_exactly_what_was_pending_and_cuts_the_graph() -> None:
    memory = small()
    pending = step(memory, torch.rand(2, C, 3, 3, requires_grad=True))
    assert pending.contexts.requires_grad
    memory.commit(pending)
    for kept, given in zip(memory.state, pending, strict=True):
        assert torch.equal(kept, given)
        assert not kept.requires_grad
        assert kept.data_ptr() != given.data_ptr()


def test_micro_batches_accumulate_to_the_step_of_the_whole_batch() -> None:
    memory = small()
    features = torch.rand(4, C, 3, 3)
    # float32, 36 regions added up in another order
    for a, b in zip(step(memory, features), step(memory, features[:1], features[1:]), strict=True):
        assert_close(a, b, rtol=0, atol=1e-6)


def test_no_complete_region_and_no_read_leave_every_bit() -> None:
    memory = small()
    memory.commit(step(memory, torch.rand(2, C, 3, 3)))  # anchors now differ from the mean of their contexts
    before = bits(memory)
    read = memory.read(torch.rand(2, C, 3, 3))
    memory.commit(memory.pending([read], [torch.zeros(18, dtype=torch.bool)]))
    memory.commit(memory.pending([], []))
    assert same(before, bits(memory))


def test_a_copy_writes_to_itself_only() -> None:
    memory = small()
    before = bits(memory)
    twin = copy.deepcopy(memory)
    twin.commit(step(twin, torch.rand(2, C, 3, 3)))
    assert same(before, bits(memory))
    changed = bits(twin)
    assert not same(before, changed)
    memory.commit(step(memory, torch.rand(1, C, 3, 3)))
    assert same(changed, bits(twin))


def test_state_dict_makes_the_same_memory() -> None:
    memory = small()
    memory.commit(step(memory, torch.rand(2, C, 3, 3)))
    other = ContextMemory(C, memory.config)
    assert not other.seeded
    other.load_state_dict(memory.state_dict())
    assert other.seeded
    features = torch.rand(2, C, 3, 3)
    reads = zip(memory.read(features)[:-1], other.read(features)[:-1], strict=True)
    assert all(torch.equal(a, b) for a, b in reads)
    assert memory.read(features).query is None  # the paper's route: the region itself
    assert same(bits(memory), bits(other))
    assert set(memory.state_dict()) == {"anchors", "contexts", "mass", "filled", "ratio_head.weight", "ratio_head.bias"}


def test_a_kind_of_another_class_is_refused() -> None:
    with pytest.raises(InputError, match=r"ContextMemory is for kind = memory; got 'table'.*create"):
        ContextMemory(C, MemoryConfig(kind="table"))


# Where it begins ------------------------------------------------------------------------------------------------------


def test_an_unseeded_memory_is_the_identity_bit_for_bit() -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
        memory = ContextMemory(C, MemoryConfig(**SMALL))
        features = torch.randn(2, C, 3, 5).to(dtype)
        read = memory.read(features).features
        assert not memory.seeded, dtype
        assert read.dtype == dtype, dtype
        assert torch.equal(read, features), dtype
        leaf = features.clone().requires_grad_()
        memory.read(leaf).features.sum().backward()
        assert torch.equal(leaf.grad, torch.ones_like(leaf)), dtype


def test_an_unseeded_memory_says_so() -> None:
    """It gives back what it reads; a training that forgets to seed must not go on like that in silence."""
    memory = ContextMemory(C, MemoryConfig(**SMALL))
    assert memory.report() == {"seeded": 0.0}
    pending = step(memory, torch.rand(1, C, 2, 2))
    with pytest.raises(InputError, match=r"is empty.*memory\.seed_\(features, generator\)"):
        memory.commit(pending)
    assert not memory.contexts.any()
    memory.seed_(torch.rand(5, C, 4, 4), generator())  # whole maps, as they come from a network
    memory.commit(step(memory, torch.rand(1, C, 2, 2)))
    assert memory.report()["seeded"] == 1
    again = ContextMemory(C, MemoryConfig(**SMALL))
    maps = torch.rand(5, C, 4, 4)
    memory.seed_(maps, generator())
    again.seed_(as_regions(maps), generator())
    assert same(bits(memory), bits(again))


def test_pending_names_the_shape_that_it_expects() -> None:
    memory = small()
    read = memory.read(torch.rand(2, C, 3, 3))
    for wrong in (torch.ones(2, 3, 3, dtype=torch.bool), torch.ones(9, dtype=torch.bool), torch.ones(18)):
        with pytest.raises(InputError, match=r"complete must be \(N,\) bool .* \(18,\); got .*complete_cells"):
            memory.pending([read], [wrong])


def test_other_beginnings_wait_for_nothing() -> None:
    for initial in ("random", "zeros"):
        memory = ContextMemory(C, MemoryConfig(**SMALL, initial=initial))
        assert memory.seeded, initial
        features = torch.rand(1, C, 2, 2)
        assert not torch.equal(memory.read(features).features, features), initial


def test_equal_zeros_never_separate() -> None:
    """Why `zeros` is not the default: one set takes everything and its contexts stay the same."""
    memory = ContextMemory(C, MemoryConfig(**SMALL, initial="zeros", write_top=1.0, similarity="cosine"))
    for _ in range(5):
        memory.commit(step(memory, torch.rand(2, C, 4, 4)))
    assert memory.read(torch.rand(1, C, 8, 8)).sets.unique().tolist() == [0]
    assert_close(memory.contexts[0], memory.contexts[0, :1].expand(4, -1))


def test_a_new_ratio_head_starts_low() -> None:
    ratio = small().read(torch.rand(1, C, 4, 4)).ratio
    assert_close(ratio, torch.full((16,), 0.1192), rtol=0, atol=5e-5)  # sigmoid(-2), to four digits


def test_seeding_is_decided_by_the_generator_alone() -> None:
    regions = torch.rand(60, C)
    made = []
    for seed in (1, 1, 2):
        torch.manual_seed(len(made))  # the global generator must not matter
        memory = ContextMemory(C, MemoryConfig(**SMALL))
        memory.seed_(regions, generator(seed))
        made.append(memory.contexts.clone())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_seeds_are_regions_that_were_seen_and_found_again() -> None:
    """Three far clusters, three sets: each set is one cluster, its contexts are regions of it."""
    centers = torch.eye(3, C) * 10
    labels = torch.arange(90) % 3
    regions = centers[labels] + 0.1 * torch.rand(90, C)
    memory = ContextMemory(C, MemoryConfig(**SMALL))
    memory.seed_(regions, generator())
    own = route(regions, memory.anchors, kind="centred", center=memory.state.center())
    assert len({(int(a), int(b)) for a, b in zip(own, labels, strict=True)}) == 3
    for context in memory.contexts.flatten(0, 1):
        assert (regions == context).all(1).any()
    assert all(len(members.unique(dim=0)) == 4 for members in memory.contexts)
    assert_close(memory.anchors, memory.contexts.mean(1))


def test_fewer_regions_than_places_repeat() -> None:
    for count in (1, 2, 5, 13):
        memory = ContextMemory(C, MemoryConfig(**SMALL))
        regions = torch.rand(count, C)
        memory.seed_(regions, generator())
        assert torch.isfinite(memory.contexts).all(), count
        for context in memory.contexts.flatten(0, 1):
            assert (regions == context).all(1).any(), count
        found = memory.read(torch.rand(2, C, 3, 3))
        assert torch.isfinite(found.features).all(), count


def test_equal_regions_give_a_finite_memory() -> None:
    memory = ContextMemory(C, MemoryConfig(**SMALL))
    memory.seed_(torch.ones(50, C), generator())
    memory.commit(step(memory, torch.ones(1, C, 4, 4)))
    assert torch.isfinite(memory.contexts).all()
    assert torch.isfinite(memory.read(torch.ones(1, C, 4, 4)).features).all()


# Starving and reseeding -----------------------------------------------------------------------------------------------


def test_starved_is_below_a_hundredth_of_an_even_share() -> None:
    mass = torch.ones(3, 4)
    mass[0] = 0.005  # below 1 % of the mean set
    mass[1, 2] = 0.007  # below 1 % of its own set's mean
    state = MemoryState(torch.zeros(3, C), torch.zeros(3, 4, C), mass)
    dead, weak = seeding.starved(state)
    assert dead.tolist() == [True, False, False]
    assert weak.nonzero().tolist() == [[1, 2]]


def test_a_starved_set_begins_anew_and_is_used_again() -> None:
    memory = small()
    with torch.no_grad():
        memory.contexts[1] = -100.0  # where no region is
        memory.anchors[1] = -100.0
        memory.mass[1] = 1e-6
    others = memory.contexts[[0, 2]].clone()
    features = torch.rand(4, C, 5, 5)
    regions = as_regions(features)
    assert memory.report()["sets_used"] == 2
    assert memory.reseed_(regions, generator()) == 4  # all of its contexts
    for context in memory.contexts[1]:
        assert (regions == context).all(1).any()
    assert torch.equal(memory.contexts[[0, 2]], others)
    assert memory.report()["sets_used"] == 3
    read = memory.read(features)
    assert (read.sets == 1).any()
    before = memory.mass[1].sum()
    memory.commit(memory.pending([read], [torch.ones(100, dtype=torch.bool)]))
    assert memory.mass[1].sum() > 0.99 * before
    assert memory.reseed_(regions, generator()) == 0  # nothing starves any more


def test_a_starved_context_takes_a_region_of_its_own_set() -> None:
    memory = small()
    with torch.no_grad():
        memory.mass[2, 3] = 0.0
    kept = memory.contexts.clone()
    regions = torch.rand(200, C)
    own = memory.read(regions.T.reshape(1, C, 200, 1)).sets
    assert memory.reseed_(regions, generator()) == 1
    place = (regions == memory.contexts[2, 3]).all(1).nonzero().item()
    assert own[place] == 2
    kept[2, 3] = memory.contexts[2, 3]
    assert torch.equal(memory.contexts, kept)
    assert_close(memory.mass[2, 3], memory.mass[2, :3].mean())


def test_reseeding_is_decided_by_the_generator_and_nothing_starving_changes_nothing() -> None:
    memory = small()
    before = bits(memory)
    assert memory.reseed_(torch.rand(50, C), generator()) == 0
    assert same(before, bits(memory))
    memory.mass[0] = 0
    twin = copy.deepcopy(memory)
    regions = torch.rand(50, C)
    memory.reseed_(regions, generator(4))
    twin.reseed_(regions, generator(4))
    assert same(bits(memory), bits(twin))
    assert memory.reseed_(torch.rand(0, C), generator()) == 0


def test_sets_whose_regions_are_gone_come_back_by_reseeding() -> None:
    """Three clusters, then only one of them: without reseeding two sets wait for ever, with it all share the work."""
    centers = 10 * torch.eye(3, C)
    used = {}
    for reseed in (False, True):
        memory, g = ContextMemory(C, MemoryConfig(**SMALL, similarity="cosine", retention=0.5)), generator(3)
        memory.seed_(centers[torch.arange(60) % 3] + torch.rand(60, C, generator=g), g)
        for _ in range(12):
            regions = centers[0] + torch.rand(100, C, generator=g)
            features = regions.T.reshape(1, C, 100, 1)
            memory.commit(step(memory, features))
            if reseed:
                memory.reseed_(regions, g)
        used[reseed] = len(memory.read(features).sets.unique())
        assert memory.report()["sets_used"] == used[reseed]
    assert used == {False: 1, True: 3}


# 300 steps ------------------------------------------------------------------------------------------------------------


def clustered(count: int, g: torch.Generator, channels: int = 16) -> torch.Tensor:
    """Regions of 20 clusters, rectified, as (1, C, count, 1)."""
    centers = torch.rand(20, channels, generator=torch.Generator().manual_seed(99))
    regions = centers[torch.randint(20, (count,), generator=g)] + 0.2 * torch.randn(count, channels, generator=g)
    return regions.relu().T.reshape(1, channels, count, 1)


def test_norms_stay_bounded_and_sets_stay_in_use_over_300_steps() -> None:
    g = generator(0)
    memory = ContextMemory(16, MemoryConfig(contexts=10))
    memory.seed_(as_regions(clustered(500, g)), g)
    longest = 0.0
    for _ in range(300):
        features = clustered(100, g)
        longest = max(longest, float(as_regions(features).norm(dim=1).max()))
        memory.commit(step(memory, features))
    report = memory.report()
    assert float(memory.contexts.norm(dim=-1).max()) <= longest  # a mean is no longer than the longest
    assert report["sets_used"] == 13
    assert report["largest_set"] < 0.4
    assert len(memory.read(clustered(500, g)).sets.unique()) == 13


def test_the_printed_update_grows_without_bound_and_one_set_takes_nearly_all() -> None:
    """The reason for `update = "mean"`: Eq. 2 adds a batch's regions in every step and forgets nothing."""
    g = generator(0)
    memory = ContextMemory(16, MemoryConfig.as_printed(contexts=10))
    norms = []
    for steps in (100, 200):
        for _ in range(steps):
            memory.commit(step(memory, clustered(100, g)))
        norms.append(float(memory.contexts.norm(dim=-1).max()))
    longest = float(as_regions(clustered(500, g)).norm(dim=1).max())
    assert norms[0] > 100 * longest
    assert norms[1] > 2 * norms[0]  # three times as many steps
    assert memory.report()["largest_set"] > 0.9


# Precision ------------------------------------------------------------------------------------------------------------


def test_under_autocast_regions_are_compared_in_float32() -> None:
    memory = small()
    features = torch.rand(2, C, 6, 6).bfloat16()
    expected = memory.read(features.float())
    with torch.autocast("cpu", torch.bfloat16):
        found = memory.read(features)
        pending = memory.pending([found], [torch.ones(72, dtype=torch.bool)])
        inter, intra = memory.losses(pending)
    assert torch.equal(found.sets, expected.sets)
    for name in ("regions", "weights", "context", "ratio"):
        assert getattr(found, name).dtype == torch.float32
        assert torch.equal(getattr(found, name), getattr(expected, name)), name
    assert found.features.dtype == torch.bfloat16
    assert torch.equal(found.features, expected.features.bfloat16())
    alone = step(memory, features.float())
    assert all(torch.equal(a, b) for a, b in zip(pending, alone, strict=True))
    for under, plain in zip((inter, intra), memory.losses(alone), strict=True):
        assert torch.equal(under, plain)


def test_float64_features_stay_float64() -> None:
    memory = small()
    found = memory.read(torch.rand(1, C, 3, 3, dtype=torch.float64))
    assert {found.features.dtype, found.regions.dtype, found.weights.dtype, found.ratio.dtype} == {torch.float64}


# Controls -------------------------------------------------------------------------------------------------------------


def test_a_table_learns_by_gradient_and_is_never_overwritten() -> None:
    memory = small(kind="table", ratio="full")
    assert {name for name, _ in memory.named_parameters()} >= {"anchors", "contexts"}
    features, wanted = torch.rand(2, C, 4, 4), torch.rand(1, C, 1, 1)
    optimizer = torch.optim.Adam(memory.parameters(), 0.05)
    errors = []
    for _ in range(30):
        read = memory.read(features)
        inter, _ = memory.losses(step(memory, features))
        error = (read.features - wanted).square().mean()
        optimizer.zero_grad()
        (error + 0.01 * inter).backward()
        assert memory.contexts.grad.abs().sum() > 0
        assert memory.anchors.grad.abs().sum() > 0
        optimizer.step()
        errors.append(error.item())
    assert errors[-1] < 0.3 * errors[0]
    before = bits(memory)
    memory.commit(MemoryState(torch.zeros(3, C), torch.zeros(3, 4, C), torch.zeros(3, 4)))
    assert memory.reseed_(torch.rand(9, C), generator()) == 0
    assert same(before, bits(memory))


def test_the_convolution_has_about_as_many_parameters_as_the_memory_has_numbers() -> None:
    for channels in (8, 64, 512):
        config = MemoryConfig(kind="convolution")
        with torch.device("meta"):
            control, memory = create(channels, config), create(channels, MemoryConfig())
        assert isinstance(control, ConvolutionControl), channels
        numbers = memory.anchors.numel() + memory.contexts.numel()
        parameters = sum(p.numel() for p in control.block.parameters())
        # the hidden width is a whole number, and one more of it are 2 C + 1 parameters
        assert abs(parameters - numbers) <= channels + 1, channels


def test_the_convolution_is_blended_like_a_memory_and_learns() -> None:
    control = create(C, MemoryConfig(**SMALL, kind="convolution", ratio="true"))
    features = torch.rand(2, C, 3, 3)
    assert torch.equal(control.read(features, torch.zeros(18)).features, features)
    read = control.read(features, torch.full((18,), 0.5))
    read.features.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in control.block.parameters())
    assert control.seeded
    assert not isinstance(control, ContextMemory)  # it has nothing to seed, to write or to compare
    assert control.report() == {}
    assert not set(control.state_dict()) & {"anchors", "contexts", "mass"}


def test_an_estimated_ratio_learns_the_missing_share() -> None:
    memory = small()
    features = torch.rand(2, C, 4, 4)
    target = (as_regions(features)[:, 0] > 0.5).float()
    optimizer = torch.optim.Adam(memory.ratio_head.parameters(), 0.2)
    for _ in range(150):
        error = (memory.read(features).ratio - target).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert error < 0.05  # a constant would leave 0.25
    with pytest.raises(InputError, match="odd"):
        MemoryConfig(ratio_kernel=4)
