"""Kept values: batches and parts add up."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.metrics.state import PerImageValues


def test_batches_and_parts_add_up() -> None:
    values = torch.rand(11, dtype=torch.float64)
    whole, first, second = PerImageValues(), PerImageValues(), PerImageValues()
    whole.append(values)
    for value in values[:4].split(1):
        first.append(value)
    second.append(values[4:])
    first.merge(second)
    assert torch.equal(first.values, whole.values)
    assert first.mean() == whole.mean() == values.mean().item()
    assert (len(first), len(second)) == (11, 7)


def test_what_comes_later_does_not_reach_a_merged_part() -> None:
    first, second = PerImageValues(), PerImageValues()
    second.append(torch.ones(2))
    first.merge(second)
    second.append(torch.zeros(3))
    assert first.values.tolist() == [1.0, 1.0]


def test_values_that_are_no_numbers_are_refused() -> None:
    seen = PerImageValues()
    with pytest.raises(InputError, match="finite"):
        seen.append(torch.tensor([1.0, float("nan")]))
    assert len(seen) == 0
    with pytest.raises(InputError, match="at least one image"):
        seen.mean()
