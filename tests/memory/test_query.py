"""The learned route: exact at the start, right by a loop, and learnable."""

from __future__ import annotations

import math

import pytest
import torch

from cicm.memory import ContextMemory, LearnedTable, MemoryConfig, MemoryState
from cicm.memory.query import route_error
from cicm.memory.terms import route_term
from cicm.ops import as_regions

C = 5


def memory_of(**changes: object) -> ContextMemory:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        memory = ContextMemory(C, MemoryConfig(sets=3, contexts=4, **changes))  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    memory.seed_(torch.randn(200, C, generator=random), random)
    return memory


def maps(count: int = 2) -> torch.Tensor:
    return torch.randn(count, C, 4, 4, generator=torch.Generator().manual_seed(1))


def test_an_untrained_query_is_the_feature_itself() -> None:
    plain, asked = memory_of().read(maps()), memory_of(route="query").read(maps())
    assert torch.equal(plain.sets, asked.sets)
    assert torch.equal(plain.context, asked.context)
    assert plain.query is None
    assert torch.equal(asked.query, plain.regions)


def test_without_a_query_a_memory_has_the_parameters_it_always_had() -> None:
    assert {name for name, _ in memory_of().named_parameters()} == {"ratio_head.weight", "ratio_head.bias"}


def test_a_null_context_without_trust_changes_nothing() -> None:
    memory = memory_of(route="query", ratio="full")
    assert not torch.equal(memory.read(maps()).features, maps())
    torch.nn.init.constant_(memory.query_head.trust.bias, -200.0)
    assert torch.equal(memory.read(maps()).features, maps())


def test_another_query_reads_what_it_would_read_at_home() -> None:
    memory = memory_of(ratio="full")
    other = maps().flip(0)
    assert torch.equal(memory.read(maps(), query=other).context, memory.read(other).context)
    assert torch.equal(memory.read(maps(), query=other).regions, as_regions(maps()))


def test_regions_are_written_where_they_belong_and_not_where_the_query_went() -> None:
    plain, asked = memory_of(), memory_of(route="query")
    torch.nn.init.normal_(asked.query_head.query.weight, std=5.0, generator=torch.Generator().manual_seed(2))
    complete = torch.ones(32, dtype=torch.bool)
    reads = plain.read(maps()), asked.read(maps())
    assert not torch.equal(reads[0].sets, reads[1].sets)
    for mine, theirs in zip(plain.pending([reads[0]], [complete]), asked.pending([reads[1]], [complete]), strict=True):
        assert torch.equal(mine, theirs)


def test_the_error_is_the_cross_entropy_of_both_choices_written_out() -> None:
    random = torch.Generator().manual_seed(3)
    query, target = torch.randn(6, C, generator=random).double(), torch.randn(6, C, generator=random).double()
    contexts = torch.randn(3, 4, C, generator=random).double()
    state = MemoryState(contexts.mean(1), contexts)
    sets, own, chosen = route_error(query, target, state, kind="cosine", temperature=0.3)

    def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
        return float(a @ b / (a.norm() * b.norm()))

    def entropy(goal: list[float], seen: list[float]) -> float:
        p, q = ([math.exp(v / 0.3) for v in values] for values in (goal, seen))
        return -sum(a / sum(p) * math.log(b / sum(q)) for a, b in zip(p, q, strict=True))

    for row in range(6):
        goal = [cosine(target[row], anchor) for anchor in state.anchors]
        best = goal.index(max(goal))
        assert chosen[row] == best
        assert sets[row].item() == pytest.approx(entropy(goal, [cosine(query[row], a) for a in state.anchors]))
        expected = entropy(*([cosine(v[row], c) for c in contexts[best]] for v in (target, query)))
        assert own[row].item() == pytest.approx(expected)


def test_the_term_looks_at_missing_regions_alone_and_teaches_the_head() -> None:
    memory = memory_of(route="query")
    features, truth = maps(), maps().roll(1, dims=0)
    hole = torch.zeros(2, 1, 16, 16)
    reads = {"map": [memory.read(features)]}
    assert route_term({"map": memory}, reads, {"map": as_regions(truth)}, hole) == 0
    hole[:, :, 4:12, 4:12] = 1
    optimizer = torch.optim.Adam(memory.query_head.parameters(), lr=1e-2)
    errors = []
    for _ in range(60):
        reads = {"map": [memory.read(features)]}
        error = route_term({"map": memory}, reads, {"map": as_regions(truth)}, hole)
        errors.append(error.item())
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    assert errors[-1] < 0.5 * errors[0]


def test_a_table_may_have_a_query_too() -> None:
    table = LearnedTable(C, MemoryConfig(sets=3, contexts=4, kind="table", route="query"))
    table.seed_(torch.randn(100, C), torch.Generator().manual_seed(0))
    table.read(maps()).features.sum().backward()
    assert table.query_head.query.weight.grad is not None
