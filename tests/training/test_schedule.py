"""The learning rate: torch's own cosine as judge."""

from __future__ import annotations

import pytest
import torch

from cicm.training.schedule import learning_rate


def test_after_the_warm_up_it_is_torchs_cosine():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.5)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.05)
    for step in range(21):
        ours = learning_rate(step + 4, highest=0.5, steps=25, warmup_steps=4, last=0.1)
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9), step
        optimizer.step()
        scheduler.step()


def test_the_warm_up_is_a_straight_line_from_above_zero_to_the_highest():
    rates = [learning_rate(s, highest=1.0, steps=100, warmup_steps=4, last=0.0) for s in range(5)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_short_runs_stay_finite_and_positive(steps):
    for step in range(steps):
        assert 0 < learning_rate(step, highest=1.0, steps=steps, warmup_steps=2, last=0.01) <= 1
