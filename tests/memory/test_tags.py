"""Sets of classes: a prior of equal chances is none, writing keeps to its class, and starvation is judged by class."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig
from cicm.memory.rules import route
from cicm.memory.tags import class_of_sets, log_prior, pure, reseed_by_class_, seed_by_class_, strict_prior

C, N = 6, 3
TAGS = class_of_sets(6, N)


def memory(sets: int = 6) -> ContextMemory:
    made = ContextMemory(C, MemoryConfig(sets=sets, contexts=4))
    made.seed_(torch.randn(200, C), torch.Generator().manual_seed(1))
    return made


@pytest.mark.parametrize("kind", ["dot", "cosine", "centred"])
def test_equal_chances_route_bit_for_bit_as_no_prior(kind: str) -> None:
    regions, anchors = torch.randn(400, C), torch.randn(6, C)
    regions[:6] = anchors  # and exact ties with doubles
    anchors[5] = anchors[4]
    look = {"kind": kind, "center": torch.zeros(C)}
    even = log_prior(torch.full((400, N), 1 / N), TAGS, 1.0, 0.1)
    assert torch.equal(even, torch.zeros(400, 6))
    assert torch.equal(route(regions, anchors, prior=even, **look), route(regions, anchors, **look))


def test_no_strength_is_no_prior_and_a_read_is_the_same_with_either() -> None:
    made, features = memory(), torch.randn(2, C, 4, 4)
    none = log_prior(torch.rand(32, N).softmax(-1), TAGS, 0.0, 0.1)
    plain, guided = made.read(features), made.read(features, prior=none)
    assert all(torch.equal(a, b) for a, b in zip(plain, guided) if a is not None)


def test_one_class_is_the_plain_memory() -> None:
    assert torch.equal(log_prior(torch.ones(5, 1), class_of_sets(6, 1), 3.0, 0.1), torch.zeros(5, 6))


def test_a_sure_label_outweighs_any_cosine_and_a_doubt_does_not() -> None:
    regions, anchors = torch.randn(300, C), torch.randn(6, C)
    plain = route(regions, anchors)
    sure = torch.eye(N)[torch.arange(300) % N]
    strong = log_prior(sure, TAGS, 10.0, 0.1)
    assert torch.equal(TAGS[route(regions, anchors, prior=strong)], torch.arange(300) % N)
    weak = route(regions, anchors, prior=log_prior(sure, TAGS, 0.01, 0.1))
    assert 0 < (weak != plain).sum() < 30
    # worked out by hand: log((0.75 + 0.001) / (0.25 + 0.001)) = 1.0959...
    by_hand = log_prior(torch.tensor([[0.75, 0.25]]), torch.tensor([0, 1]), 1.0, 0.1)
    assert by_hand[0].tolist() == pytest.approx([0.0, -0.109591], abs=1e-5)


def test_regions_are_written_to_sets_of_their_class_alone() -> None:
    made, features = memory(), torch.randn(4, C, 4, 4)
    read = made.read(features)
    classes = torch.randint(N, (64,))
    placed = made.placed(read, strict_prior(classes, TAGS, torch.float32))
    assert torch.equal(TAGS[placed.sets], classes)
    assert torch.equal(placed.features, read.features), "what was read stays"
    only_one = torch.zeros(64, dtype=torch.bool)
    only_one[classes == 1] = True
    before, after = made.state, made.pending([placed], [only_one])
    changed = (after.contexts != before.contexts).flatten(1).any(1)
    assert changed.any()
    assert set(TAGS[changed].tolist()) == {1}


def test_pure_cells() -> None:
    kind, fits = pure(torch.tensor([[0.9, 0.1], [0.11, 0.89], [0.0, 0.0]]))
    assert (kind.tolist(), fits.tolist()) == ([0, 1, 0], [True, False, False])


def test_seeding_takes_each_classes_own_regions() -> None:
    made = ContextMemory(C, MemoryConfig(sets=6, contexts=4))
    centres = 10 * torch.eye(C)[:N]
    classes = torch.randint(2, (300,))  # none of class 2
    regions = centres[classes] + 0.1 * torch.randn(300, C)
    seed_by_class_(made, regions, classes, N, torch.Generator().manual_seed(0))
    assert made.seeded
    nearest = torch.cdist(made.contexts.flatten(0, 1), centres).argmin(1).view(6, 4)
    assert nearest[:2].eq(0).all()
    assert nearest[2:4].eq(1).all()
    assert set(nearest[4:].flatten().tolist()) == {0, 1}, "a class that was not seen begins with what was"


def test_a_rare_class_is_not_given_to_a_frequent_one() -> None:
    """Its sets have little mass because it is rare; by all sets together they would starve."""
    made = memory()
    mass = torch.full((6, 4), 1000.0)
    mass[4:] = 0.01
    made.commit(made.state._replace(mass=mass))
    before = made.contexts.clone()
    assert reseed_by_class_(made, torch.randn(50, C), torch.zeros(50).long(), N, torch.Generator()) == 0
    assert torch.equal(made.contexts, before)
    mass[5] = 1e-6  # starved within its class
    made.commit(made.state._replace(mass=mass))
    assert reseed_by_class_(made, torch.randn(50, C), torch.full((50,), 2), N, torch.Generator()) == 4
    assert torch.equal(made.contexts[:5], before[:5])
    assert not torch.equal(made.contexts[5], before[5])


def test_sets_that_classes_do_not_divide() -> None:
    with pytest.raises(InputError, match=r"a multiple of 11; got 13.*sets = 11"):
        class_of_sets(13, 11)
