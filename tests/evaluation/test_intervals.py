"""Intervals of means over images."""

from __future__ import annotations

import pytest
import torch

from cicm.conventions import InputError
from cicm.evaluation.intervals import interval


def test_interval_is_that_of_the_normal_theory_for_many_values() -> None:
    values = (torch.randn(400, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) * 2 + 5).numpy()
    low, high = interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    # a quantile of 2000 draws is off by about 6 % of the half-width (binomial error of the 2.5 % rank); three of those
    assert low == pytest.approx(values.mean() - half, abs=0.18 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.18 * half)
    assert (low, high) == interval(values)


def test_interval_refuses_what_it_cannot_use() -> None:
    for bad in ([], [1.0, float("inf")]):
        with pytest.raises(InputError, match="finite values"):
            interval(bad)
