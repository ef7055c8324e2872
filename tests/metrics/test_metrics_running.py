"""Kept values: batches and parts add up; intervals."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.metrics import PerImageValues, bootstrap_interval


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


def test_interval_is_that_of_the_normal_theory_for_many_values() -> None:
    values = torch.randn(400, dtype=torch.float64) * 2 + 5
    low, high = bootstrap_interval(values, torch.Generator().manual_seed(3), resamples=4000)
    half = 1.96 * values.std().item() / 20
    # a quantile of 4000 draws is off by about 4 % of the half-width (binomial error of the 2.5 % rank); three of those
    assert low == pytest.approx(values.mean().item() - half, abs=0.12 * half)
    assert high == pytest.approx(values.mean().item() + half, abs=0.12 * half)
    assert (low, high) == bootstrap_interval(values, torch.Generator().manual_seed(3), resamples=4000)


def test_interval_refuses_what_it_cannot_use() -> None:
    generator = torch.Generator()
    with pytest.raises(InputError, match="finite values"):
        bootstrap_interval(torch.zeros(0), generator)
    with pytest.raises(InputError, match="finite values"):
        bootstrap_interval(torch.tensor([float("inf")]), generator)
    with pytest.raises(InputError, match="level"):
        bootstrap_interval(torch.ones(3), generator, level=1.0)
