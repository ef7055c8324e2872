"""The averaged weights: a plain loop as judge, and a copy that writes only to itself."""

from __future__ import annotations

import copy

import pytest
import torch

from cicm.training.ema import WeightAverage


def test_the_average_is_the_recursion_written_out():
    model = torch.nn.Linear(2, 1).double()
    average = WeightAverage(model, decay=0.6)
    expected = model.weight.detach().clone()
    for step in range(8):
        model.weight.data += 1.0 + step
        keep = min(0.6, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * model.weight.detach()
        average.update(model)
    # float64: lerp adds a difference where the recursion adds two products
    torch.testing.assert_close(average.model.weight, expected, rtol=1e-12, atol=0)
    assert average.updates == 8


def test_the_copy_writes_only_to_itself_and_takes_memories_over(make_players):
    model = make_players().bare
    before = copy.deepcopy(model.state_dict())
    average = WeightAverage(model, decay=0.9)
    frozen = copy.deepcopy(average.model.state_dict())

    with torch.no_grad():  # another memory and other weights in the model: the copy does not see them by itself
        for value in model.state_dict().values():
            value.add_(1.0)
    torch.testing.assert_close(average.model.state_dict(), frozen, rtol=0, atol=0)
    shifted = copy.deepcopy(model.state_dict())
    average.update(model)
    torch.testing.assert_close(model.state_dict(), shifted, rtol=0, atol=0)

    for name, value in average.model.state_dict().items():
        if name.endswith(("anchors", "contexts", "mass", "filled")):
            assert torch.equal(value, shifted[name]), name  # copied
        else:
            assert torch.allclose(value, before[name] + 0.9), name  # 1/10 kept at the first update
    assert not any(p.requires_grad for p in average.model.parameters())
    assert not average.model.training


def test_early_on_little_is_kept():
    for decay in (0.0, 0.999):
        model = torch.nn.Linear(1, 1, bias=False)
        model.weight.data.fill_(0.0)
        average = WeightAverage(model, decay)
        model.weight.data.fill_(1.0)
        average.update(model)
        assert average.model.weight.item() == pytest.approx(1 - min(decay, 0.1)), decay
