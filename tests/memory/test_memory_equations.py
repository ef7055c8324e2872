"""Equations 1-4, 7 and 8: the code against loops written from the page."""

from __future__ import annotations

import printed
import pytest
import torch
from torch.testing import assert_close

from cicm.memory import (
    MemoryState,
    augment,
    inject,
    inject_fast,
    inter_set,
    intra_set,
    keep_top,
    ratio_error,
    read,
    read_fast,
    route,
)

SIZES = [(7, 3, 4, 5), (1, 3, 4, 5), (7, 1, 4, 5), (7, 3, 1, 5), (1, 1, 1, 5), (40, 6, 9, 3)]
IDS = ["N7 L3 K4", "N=1", "L=1", "K=1", "N=L=K=1", "N40 L6 K9"]
# float64 sums of at most a few hundred terms of size 1: rounding stays below 1e-13; a wrong term is about 1e-1
CLOSE = {"rtol": 1e-11, "atol": 1e-12}

pytestmark = pytest.mark.parametrize(("n", "sets", "contexts", "channels"), SIZES, ids=IDS)


class World:
    """A random memory and a batch of regions, as tensors and as plain lists."""

    def __init__(self, n: int, sets: int, contexts: int, channels: int) -> None:
        g = torch.Generator().manual_seed(n + 10 * sets + 100 * contexts)

        def random(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=g, dtype=torch.float64)

        self.regions = random(n, channels) * 2 - 0.5
        self.state = MemoryState(
            random(sets, channels) * 2 - 0.5, random(sets, contexts, channels) * 2 - 0.5, random(sets, contexts) * 5
        )
        self.complete = random(n) < 0.6
        self.complete[0] = True  # at least one, also where N is 1
        self.ratio = random(n)
        self.rows = self.regions.tolist()
        self.anchors, self.contexts, self.mass = (part.tolist() for part in self.state)
        self.whole = self.complete.tolist()
        self.gamma = self.ratio.tolist()


@pytest.fixture
def world(n: int, sets: int, contexts: int, channels: int) -> World:
    return World(n, sets, contexts, channels)


def center(world: World) -> list[float]:
    """Mean of all contexts by mass."""
    pairs = [(m, c) for ms, cs in zip(world.mass, world.contexts, strict=True) for m, c in zip(ms, cs, strict=True)]
    total = sum(m for m, _ in pairs)
    return [sum(m * c[i] for m, c in pairs) / total for i in range(len(world.rows[0]))]


def looks(world: World) -> dict:
    return {"dot": printed.as_is, "cosine": printed.unit, "centred": printed.unit_around(center(world))}


KINDS = pytest.mark.parametrize(("kind", "temperature"), [("dot", 1.0), ("cosine", 0.1), ("centred", 0.1)])


def arguments(world: World, kind: str) -> dict:
    return {"kind": kind, "center": world.state.center() if kind == "centred" else None}


def test_center_is_the_mean_of_contexts_by_mass(world: World) -> None:
    assert_close(world.state.center().tolist(), center(world), **CLOSE)


@KINDS
def test_route_is_equation_1(world: World, kind: str, temperature: float) -> None:
    expected = [printed.equation_1(row, world.anchors, looks(world)[kind]) for row in world.rows]
    assert route(world.regions, world.state.anchors, **arguments(world, kind)).tolist() == expected


@KINDS
@pytest.mark.parametrize("form", [read, read_fast])
def test_read_is_the_sum_in_equation_4(world: World, kind: str, temperature: float, form) -> None:
    look = looks(world)[kind]
    own = [printed.equation_1(row, world.anchors, look) for row in world.rows]
    weights = [
        printed.lambdas(row, world.contexts[index], look, temperature)
        for row, index in zip(world.rows, own, strict=True)
    ]
    context = [printed.mixed(w, world.contexts[index]) for w, index in zip(weights, own, strict=True)]
    got = form(
        world.regions, torch.tensor(own), world.state.contexts, temperature=temperature, **arguments(world, kind)
    )
    assert_close(got[0].tolist(), context, **CLOSE)
    assert_close(got[1].tolist(), weights, **CLOSE)


def test_augment_as_printed_is_equation_4(world: World) -> None:
    context = torch.flip(world.regions, [1]) * 3
    expected = [
        printed.equation_4(row, gamma, other)
        for row, gamma, other in zip(world.rows, world.gamma, context.tolist(), strict=True)
    ]
    assert_close(augment(world.regions, context, world.ratio, blend="paper").tolist(), expected, **CLOSE)


def test_augment_by_default_exchanges_the_two_weights(world: World) -> None:
    context = torch.flip(world.regions, [1]) * 3
    expected = [
        [(1 - g) * f + g * c for f, c in zip(row, other, strict=True)]
        for row, g, other in zip(world.rows, world.gamma, context.tolist(), strict=True)
    ]
    assert_close(augment(world.regions, context, world.ratio).tolist(), expected, **CLOSE)


@pytest.mark.parametrize("form", [inject, inject_fast])
def test_inject_as_printed_is_equations_2_and_3(world: World, form) -> None:
    own = [printed.equation_1(row, world.anchors) for row in world.rows]
    weights = [printed.lambdas(row, world.contexts[index]) for row, index in zip(world.rows, own, strict=True)]
    contexts = printed.equation_2(world.contexts, world.rows, own, weights, world.whole)
    after = form(
        world.state,
        world.regions,
        torch.tensor(own),
        torch.tensor(weights, dtype=torch.float64),
        world.complete,
        update="paper",
    )
    assert_close(after.contexts.tolist(), contexts, **CLOSE)
    assert_close(after.anchors.tolist(), printed.equation_3(world.anchors, contexts), **CLOSE)


@pytest.mark.parametrize("form", [inject, inject_fast])
@pytest.mark.parametrize(("momentum", "retention"), [(0.5, 0.99), (0.9, 0.5), (0.0, 1.0)])
def test_inject_by_default_is_a_mean_with_forgetting(world: World, form, momentum: float, retention: float) -> None:
    look = looks(world)["centred"]
    own = [printed.equation_1(row, world.anchors, look) for row in world.rows]
    weights = [
        printed.lambdas(row, world.contexts[index], look, 0.1) for row, index in zip(world.rows, own, strict=True)
    ]
    contexts, mass = printed.running_mean(world.contexts, world.mass, world.rows, own, weights, world.whole, retention)
    after = form(
        world.state,
        world.regions,
        torch.tensor(own),
        torch.tensor(weights, dtype=torch.float64),
        world.complete,
        momentum,
        retention=retention,
    )
    assert_close(after.contexts.tolist(), contexts, **CLOSE)
    assert_close(after.mass.tolist(), mass, **CLOSE)
    assert_close(after.anchors.tolist(), printed.equation_3(world.anchors, contexts, momentum), **CLOSE)


def test_ratio_error_is_equation_7(world: World) -> None:
    target = torch.flip(world.ratio, [0]) ** 2
    expected = printed.equation_7(world.gamma, target.tolist())
    assert ratio_error(world.ratio, target, reduction="sum").item() == pytest.approx(expected, rel=1e-12)
    assert ratio_error(world.ratio, target).item() == pytest.approx(expected / len(world.rows), rel=1e-12)


def test_similarities_as_printed_are_equation_8(world: World) -> None:
    inter, intra = printed.equation_8_inter(world.anchors), printed.equation_8_intra(world.anchors, world.contexts)
    assert inter_set(world.state.anchors, printed=True).item() == pytest.approx(inter, rel=1e-11, abs=1e-11)
    assert intra_set(world.state, printed=True).item() == pytest.approx(intra, rel=1e-11, abs=1e-11)


def test_similarities_by_default_are_means_of_cosines(world: World) -> None:
    for kind in ("cosine", "centred"):
        look = looks(world)[kind]
        where = arguments(world, kind)
        inter, intra = printed.mean_inter(world.anchors, look), printed.mean_intra(world.anchors, world.contexts, look)
        assert inter_set(world.state.anchors, **where).item() == pytest.approx(inter, abs=1e-12), kind
        assert intra_set(world.state, **where).item() == pytest.approx(intra, abs=1e-12), kind
        assert abs(inter) <= 1, kind
        assert abs(intra) <= 1 + 1e-12, kind


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_keep_top_keeps_the_best_and_sums_to_one(world: World, share: float) -> None:
    rows = [printed.lambdas(row, world.contexts[0]) for row in world.rows]
    count = max(1, round(share * len(rows[0])))
    expected = []
    for row in rows:
        best = sorted(range(len(row)), key=lambda k: -row[k])[:count]
        total = sum(row[k] for k in best)
        expected.append([row[k] / total if k in best else 0.0 for k in range(len(row))])
    assert_close(keep_top(torch.tensor(rows, dtype=torch.float64), share).tolist(), expected, **CLOSE)
