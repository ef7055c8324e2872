"""Intervals of means over images."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.evaluation.intervals import bootstrap_interval


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
