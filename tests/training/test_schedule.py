"""The learning rate: torch's own cosine as judge, the two other ways by hand."""

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


def test_short_runs_stay_finite_and_positive():
    for steps in (1, 2, 3):
        for step in range(steps):
            assert 0 < learning_rate(step, highest=1.0, steps=steps, warmup_steps=2, last=0.01) <= 1


def test_constant_is_constant_after_the_warm_up():
    options = {"highest": 0.4, "steps": 20, "warmup_steps": 3, "last": 0.1, "schedule": "constant"}
    assert [learning_rate(s, **options) for s in (3, 4, 19, 40)] == [0.4] * 4
    assert learning_rate(0, **options) == pytest.approx(0.1)


def test_linear_golden():
    """20 steps, the fall from step 10 on, to a tenth: 0.9 / 9 = 0.1 less each step."""
    options = {"highest": 1.0, "steps": 20, "warmup_steps": 0, "last": 0.1, "schedule": "linear", "decay_from": 0.5}
    rates = [learning_rate(s, **options) for s in range(20)]
    assert rates == pytest.approx([1.0] * 10 + [1 - 0.1 * i for i in range(10)])


def test_linear_is_jpgnets_rule_per_step_in_place_of_per_epoch():
    """Its code: from epoch 20 of 3200 on, lr * (3200 - epoch) / (3200 - 20); one step an epoch."""
    options = {"highest": 2e-4, "steps": 3201, "warmup_steps": 0, "last": 0.0, "schedule": "linear"}
    for epoch in (0, 19, 20, 21, 1000, 3199, 3200):
        expected = 2e-4 * (3200 - epoch) / 3180 if epoch >= 20 else 2e-4
        assert learning_rate(epoch, decay_from=0.00625, **options) == pytest.approx(expected, rel=1e-9), epoch


def test_a_fall_never_begins_within_the_warm_up():
    options = {"highest": 1.0, "steps": 11, "warmup_steps": 4, "last": 0.0, "schedule": "linear", "decay_from": 0.1}
    assert [learning_rate(s, **options) for s in (3, 4, 7, 10)] == pytest.approx([0.8, 1.0, 0.5, 0.0])


def test_step_is_pen_nets_rule_with_one_drop():
    """Its code: 1e-4 * 0.1 ** floor(step / 100,000), where it stops counting before a second drop."""
    options = {"highest": 1e-4, "steps": 1_000_000, "warmup_steps": 0, "last": 0.1, "schedule": "step"}
    for step in (0, 1, 99_999, 100_000, 100_001, 999_999):
        expected = 1e-4 * 0.1 ** (min(step, 199_999) // 100_000)
        assert learning_rate(step, decay_from=0.1, **options) == pytest.approx(expected, rel=1e-9), step
