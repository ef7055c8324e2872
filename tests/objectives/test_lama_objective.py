"""LaMa's terms and its discriminator's loss, by hand and by other words."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.objectives import LaMaObjective, ObjectiveConfig, Seen, Weights, gradient_penalty, patch_loss


def judge(pictures: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Logit: the mean of red; maps: the picture, and twice its first channel."""
    return pictures[:, :1].mean((2, 3), keepdim=True), [pictures, 2 * pictures[:, :1]]


def seen(**more) -> Seen:
    image = torch.zeros(1, 3, 2, 2)
    prediction = torch.full((1, 3, 2, 2), 0.5)
    hole = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    return Seen(prediction, prediction, image, hole, **more)


def test_each_term_by_hand() -> None:
    look = {"ade20k": lambda images, layers: [images + i for i, _ in enumerate(layers)]}
    terms = LaMaObjective(hole=1.0).terms(seen(judge=judge, features=look))
    expected = {
        "lama.known": 0.5 * 3 / 4,
        "lama.hole": 0.5 / 4,
        "lama.adversarial": math.log1p(math.exp(-0.5)),
        "lama.matching": (0.25 + 1.0) / 2,
        "lama.perceptual": 4 * 0.25,
    }
    assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected, rel=1e-6)


def test_a_term_of_weight_0_is_not_looked_at_and_the_penalty_is_none() -> None:
    section = LaMaObjective(adversarial=0.0, matching=0.0, perceptual=0.0)
    assert set(section.terms(seen())) == {"lama.known"}
    assert not section.needs_judge
    assert set(section.weights()) == {f"lama.{n}" for n in ("known", "hole", "adversarial", "matching", "perceptual")}
    assert section.left_out() == ["lama.adversarial", "lama.matching", "lama.perceptual"]
    assert LaMaObjective(matching=0.0).needs_judge


def test_gradients_reach_the_prediction_and_nothing_else() -> None:
    weight = torch.ones(1, requires_grad=True)
    prediction = torch.rand(2, 3, 4, 4, requires_grad=True)
    image = torch.rand(2, 3, 4, 4)
    look = Seen(prediction, prediction, image, torch.ones(2, 1, 4, 4), judge=judge)
    terms = LaMaObjective(perceptual=0.0).terms(look)
    (terms["lama.adversarial"] + terms["lama.matching"] + 0 * weight.sum()).backward()
    assert prediction.grad is not None
    assert prediction.grad[:, 0].ne(0).all()
    assert image.grad is None


def test_patches_outside_the_hole_count_as_real() -> None:
    """Written as a loop over patches; the hole of 8x8 pixels is seen at 3x3 patches, by the nearest pixel."""
    real, fake = torch.randn(2, 1, 3, 3), torch.randn(2, 1, 3, 3)
    hole = (torch.rand(2, 1, 8, 8) < 0.5).float()
    total = 0.0
    for b in range(2):
        for y in range(3):
            for x in range(3):
                missing = hole[b, 0, int(y * 8 / 3), int(x * 8 / 3)].item()
                total += math.log1p(math.exp(-real[b, 0, y, x].item()))
                total += math.log1p(math.exp((1 if missing else -1) * fake[b, 0, y, x].item()))
    assert patch_loss(real, fake, hole).item() == pytest.approx(total / 18, rel=1e-5)


def test_the_penalty_is_the_squared_gradient_and_can_be_differentiated() -> None:
    image = torch.rand(3, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    penalty = gradient_penalty((weight * image.square()).flatten(1), image)
    assert_close(penalty, (2 * weight * image).square().sum((1, 2, 3)).mean())
    (grad,) = torch.autograd.grad(penalty, weight)
    assert_close(grad, (8 * weight * image.square()).sum((1, 2, 3)).mean())


def test_two_discriminators_are_refused() -> None:
    with pytest.raises(InputError, match=r"both train a discriminator; set weights\.adversarial to 0"):
        ObjectiveConfig(lama=LaMaObjective())
    without = Weights(adversarial=0.0)
    assert ObjectiveConfig(without, lama=LaMaObjective()).judged_by_maps
    kept = ObjectiveConfig(lama=LaMaObjective(adversarial=0.0, matching=0.0))
    assert not kept.judged_by_maps
