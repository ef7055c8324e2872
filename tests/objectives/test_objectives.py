"""Equations 5, 6 and 9: against loops written from the page, numbers worked by hand, and what must hold."""

from __future__ import annotations

import math

import pytest
import torch

from cicm.conventions import InputError
from cicm.objectives import ObjectiveConfig, Weights, discriminator_loss, generator_loss, reconstruction, weighted_total
from cicm.objectives.reconstruction import FLOOR

# Eq. 5-6 --------------------------------------------------------------------------------------------------------------


def equation_5(real: list[float], fake: list[float]) -> float:
    """-E_real[log(1 - D(real, fake))] - E_fake[log D(fake, real)], D(x, y) = sigmoid(C(x) - E_y[C(y)])"""

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    def sigmoid(value: float) -> float:
        return 1 / (1 + math.exp(-value))

    def d(x: float, y: list[float]) -> float:
        return sigmoid(x - mean(y))

    return -mean([math.log(1 - d(x, fake)) for x in real]) - mean([math.log(d(x, real)) for x in fake])


def test_adversarial_losses_are_equation_5() -> None:
    for shape in ((1,), (5,), (2, 1, 3, 4)):
        real, fake = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
        r, f = real.flatten().tolist(), fake.flatten().tolist()
        # float64, a dozen terms of size 1
        assert generator_loss(real, fake).item() == pytest.approx(equation_5(r, f), abs=1e-12), shape
        assert discriminator_loss(real, fake).item() == pytest.approx(equation_5(f, r), abs=1e-12), shape


def test_adversarial_losses_worked_by_hand() -> None:
    """C(real) = 1, C(fake) = 0: D(real, fake) = sigmoid(1), D(fake, real) = sigmoid(-1)."""
    real, fake = torch.tensor([1.0]), torch.tensor([0.0])
    assert generator_loss(real, fake).item() == pytest.approx(2 * math.log(1 + math.e), rel=1e-6)
    assert discriminator_loss(real, fake).item() == pytest.approx(2 * math.log(1 + 1 / math.e), rel=1e-6)
    assert generator_loss(fake, fake).item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_the_two_sides_pull_in_opposite_directions() -> None:
    real, fake = torch.randn(6, requires_grad=True), torch.randn(6, requires_grad=True)
    up = torch.autograd.grad(generator_loss(real, fake), fake)[0]
    down = torch.autograd.grad(discriminator_loss(real, fake), fake)[0]
    assert up.sum() < 0 < down.sum()


def test_far_logits_stay_finite() -> None:
    real, fake = torch.full((4,), 1e4, requires_grad=True), torch.full((4,), -1e4)
    loss = generator_loss(real, fake)
    assert loss.item() == pytest.approx(4e4)
    loss.backward()
    assert torch.isfinite(real.grad).all()


def test_expectations_over_ranks_are_used() -> None:
    """Two ranks that share their means give, on average, the loss of the whole batch."""
    real, fake = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    whole = generator_loss(real, fake)
    means = {0: real.mean(), 1: fake.mean()}
    parts = []
    for rank in range(2):
        rows = slice(3 * rank, 3 * rank + 3)
        local = real[rows], fake[rows]
        parts.append(generator_loss(*local, mean=lambda t, local=local: means[int(t is local[1])]))
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), abs=1e-12)


# Eq. 5, first half ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("norm", "power"), [("l2", 2), ("l1", 1)])
@pytest.mark.parametrize("hole_weight", [1.0, 6.0, 0.0])
def test_reconstruction_is_the_mean_error(norm: str, power: int, hole_weight: float) -> None:
    prediction, image = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    hole = (torch.rand(2, 1, 4, 5) < 0.5).double()
    total = 0.0
    for b in range(2):
        for c in range(3):
            for y in range(4):
                for x in range(5):
                    error = abs(float(prediction[b, c, y, x] - image[b, c, y, x])) ** power
                    total += error * (hole_weight if hole[b, 0, y, x] else 1)
    got = reconstruction(prediction, image, hole, norm=norm, hole_weight=hole_weight)
    assert got.item() == pytest.approx(total / 120, abs=1e-13)


def test_the_logarithm_is_psnr_of_the_composite() -> None:
    prediction, image = torch.rand(3, 3, 8, 8, dtype=torch.float64), torch.rand(3, 3, 8, 8, dtype=torch.float64)
    hole = (torch.rand(3, 1, 8, 8) < 0.4).double()
    expected = 0.0
    for p, i, h in zip(prediction, image, hole, strict=True):
        done = p * h + i * (1 - h)
        expected += math.log(((done - i) ** 2).mean().item() + FLOOR) / 3
    got = reconstruction(prediction, image, hole, norm="log")
    assert got.item() == pytest.approx(expected, abs=1e-12)
    elsewhere = prediction + (1 - hole)  # what a composite never takes does not count
    assert reconstruction(elsewhere, image, hole, norm="log").item() == got.item()


def test_a_perfect_prediction_is_the_least() -> None:
    for norm in ("l2", "l1", "log"):
        image, hole = torch.rand(1, 3, 4, 4), torch.ones(1, 1, 4, 4)
        least = reconstruction(image, image, hole, norm=norm).item()
        assert least == pytest.approx(math.log(FLOOR) if norm == "log" else 0, abs=1e-6), norm
        assert reconstruction(image + 0.01, image, hole, norm=norm).item() > least, norm


# Eq. 9 ----------------------------------------------------------------------------------------------------------------


def test_the_total_is_equation_9() -> None:
    """1.0 * 2 + 0.1 * 3 + 1.0 * 5 + 20 * 7 - 0.5 * 11 = 141.8"""
    values = {"inpaint": 2.0, "adversarial": 3.0, "ratio": 5.0, "inter": 7.0, "intra": 11.0}
    terms = {name: torch.tensor(value, dtype=torch.float64) for name, value in values.items()}
    assert weighted_total(terms, Weights()).item() == pytest.approx(141.8)
    assert weighted_total({"intra": torch.tensor(4.0)}, Weights()).item() == -2
    assert weighted_total({}, Weights()).item() == 0


def test_the_default_weights_are_the_printed_ones() -> None:
    weights = ObjectiveConfig().weights
    printed = 1.0, 0.1, 1.0, 20.0, 0.5
    assert (weights.inpaint, weights.adversarial, weights.ratio, weights.inter, weights.intra) == printed


def test_a_term_of_weight_0_is_left_out_even_if_it_is_not_finite() -> None:
    terms = {"inpaint": torch.tensor(1.0), "inter": torch.tensor(math.nan)}
    assert weighted_total(terms, Weights(inter=0.0)).item() == 1
    assert math.isnan(weighted_total(terms, Weights()).item())


def test_a_term_without_a_weight_is_refused() -> None:
    with pytest.raises(InputError, match="'style' has no weight; the terms are inpaint, adversarial"):
        weighted_total({"style": torch.tensor(1.0)}, Weights())
