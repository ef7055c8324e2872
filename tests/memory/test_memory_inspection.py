"""What `look_inside` counts, and that the picture shows it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig, create
from cicm.memory.drawing import BLUE, RED, picture, stacked
from cicm.memory.inspection import look_inside


def crafted() -> ContextMemory:
    """Three sets of two contexts, with numbers that can be worked by hand."""
    memory = ContextMemory(2, MemoryConfig(sets=3, contexts=2, similarity="cosine", initial="zeros"))
    with torch.no_grad():
        memory.contexts.copy_(torch.tensor([[[2.0, 0], [0, 2.0]], [[3.0, 4.0], [3.0, 4.0]], [[0, 1.0], [0, -1.0]]]))
        memory.anchors.copy_(torch.tensor([[1.0, 0], [0.6, 0.8], [0, 5.0]]))
        memory.mass.copy_(torch.tensor([[6.0, 0.01], [2.0, 1.99], [0.0, 0.0]]))
    return memory


def test_numbers_worked_by_hand() -> None:
    found = look_inside(crafted())
    np.testing.assert_allclose(found.usage, [[0.6, 0.001], [0.2, 0.199], [0, 0]], atol=1e-7)
    np.testing.assert_allclose(found.per_set, [0.601, 0.399, 0], atol=1e-7)
    assert found.starved_sets.tolist() == [False, False, True]
    assert found.starved_contexts.tolist() == [[False, True], [False, False], [False, False]]
    assert found.in_use.tolist() == [1, 2, 0]
    np.testing.assert_allclose(found.context_norms, [[2, 2], [5, 5], [1, 1]])
    np.testing.assert_allclose(found.anchor_norms, [1, 1, 5])
    np.testing.assert_allclose(found.between, [[1, 0.6, 0], [0.6, 1, 0.8], [0, 0.8, 1]], atol=1e-6)
    np.testing.assert_allclose(found.pairs, [[0, 0], [1, 1], [-1, -1]], atol=1e-6)
    assert [index for index, _ in found.nearest()] == [1, 2, 1]
    facts = found.to_dict()
    assert (facts["sets_in_use"], facts["contexts_in_use"]) == (2, 3)
    assert facts["within"] == pytest.approx(0, abs=1e-6)
    assert facts["between"] == pytest.approx(1.4 / 3)
    assert json.loads(json.dumps(facts)) == facts


def test_it_agrees_with_the_report_of_the_log() -> None:
    memory = ContextMemory(6, MemoryConfig(sets=4, contexts=5))
    memory.seed_(torch.rand(50, 6), torch.Generator().manual_seed(0))
    facts, report = look_inside(memory).to_dict(), memory.report()
    for one, other in (("sets_in_use", "sets_used"), ("contexts_in_use", "contexts_used"), ("norm", "norm")):
        assert facts[one] == pytest.approx(report[other])
    for name in ("largest_set", "within", "between"):
        assert facts[name] == pytest.approx(report[name], abs=1e-6), name


def test_looking_changes_nothing_and_keeps_nothing() -> None:
    memory = crafted()
    before = memory.contexts.clone()
    found = look_inside(memory)
    found.context_norms[:] = 9
    found.usage[:] = 9
    assert torch.equal(memory.contexts, before)
    assert memory.mass[0, 0] == 6


def test_a_control_that_stores_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="stores nothing"):
        look_inside(create(4, MemoryConfig(sets=2, contexts=2, kind="convolution")))


@pytest.mark.parametrize(("sets", "contexts"), [(1, 1), (1, 3), (3, 1), (13, 40), (700, 2)])
@pytest.mark.parametrize("seeded", [True, False])
def test_a_picture_of_any_memory(sets: int, contexts: int, seeded: bool) -> None:
    memory = ContextMemory(3, MemoryConfig(sets=sets, contexts=contexts))
    if seeded:
        memory.seed_(torch.rand(60, 3), torch.Generator().manual_seed(0))
    drawn = picture(look_inside(memory), "bottom")
    assert (drawn.mode, drawn.size) == ("RGB", (1280, 1000))


def test_the_picture_shows_the_numbers() -> None:
    pixels = np.asarray(picture(look_inside(crafted())))
    bars = pixels[140:461, 80:601]
    blue = (bars == BLUE).all(-1).any(0)
    heights = (bars == BLUE).all(-1).sum(0)
    assert blue[:347].any()  # sets 0 and 1, in the first two thirds
    assert not blue[347:].any()
    assert (bars == RED).all(-1)[:, 347:].any()  # the starved set
    # 0.601 against 0.399 of all, each bar in its own third; the dashed line crosses both
    assert heights[87] / heights[87 + 174] == pytest.approx(0.601 / 0.399, rel=0.02)
    cell = pixels[580:950, 80:480]  # anchors: 1.0 on the diagonal is the deepest red
    assert tuple(cell[60, 10]) == tuple(cell[185 + 60, 200 - 60 + 10]) == tuple(cell[310, 390]) == (178, 24, 43)
    assert tuple(cell[60, 390]) == (248, 248, 248)  # sets 0 and 2 are orthogonal


def test_an_album_stacks_pictures() -> None:
    one = picture(look_inside(crafted()))
    both = stacked([one, one])
    assert both.size == (1280, 2000)
    assert both.crop((0, 1000, 1280, 2000)).tobytes() == one.tobytes()
