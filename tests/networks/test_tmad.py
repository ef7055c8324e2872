"""TMAD-style: which patches are chosen, and what is put together from them."""

from __future__ import annotations

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.networks.tmad import TEMPERATURE, TMAD, choose


def test_the_choice_is_hard_and_its_gradient_that_of_a_softmax() -> None:
    codes = F.normalize(torch.randn(1, 6, 4, dtype=torch.float64), dim=-1).requires_grad_()
    complete = torch.tensor([[True, True, False, True, False, True]])
    values = torch.randn(6, 3, dtype=torch.float64)
    chosen = choose(codes, complete)
    for i in range(6):
        usable = [j for j in range(6) if complete[0, j] and j != i]
        best = max(usable, key=lambda j: (codes[0, i] @ codes[0, j]).item())
        assert_close(chosen[0, i], F.one_hot(torch.tensor(best), 6).double())
    hard = torch.autograd.grad((chosen @ values).square().sum() - (chosen @ values).detach().square().sum(), codes)[0]
    weight = 2 * (chosen @ values).detach()  # the derivative of the square at the hard choice
    scores = (codes @ codes.transpose(1, 2) / TEMPERATURE).masked_fill(~complete[:, None] | torch.eye(6).bool(), -1e9)
    soft = torch.autograd.grad((weight * (scores.softmax(-1) @ values)).sum(), codes)[0]
    assert_close(hard, soft)
    assert soft.abs().max() > 1e-6


def test_with_one_complete_patch_all_can_be_chosen() -> None:
    codes = F.normalize(torch.randn(1, 5, 4), dim=-1)
    one = torch.tensor([[True, False, False, False, False]])
    assert torch.equal(choose(codes, one), choose(codes, one | True))


def test_texture_comes_from_complete_patches_and_only_into_the_hole() -> None:
    """A hole in stripes of one phase, filled with their mean colour by the coarse network, gets stripes again."""
    network = TMAD(4)
    stripes = torch.tensor([0.2, 0.8]).repeat(32).view(1, 1, 1, 64).expand(1, 3, 64, 64).clone()
    hole = torch.zeros(1, 1, 64, 64)
    hole[..., 24:40, 24:40] = 1
    filled = stripes * (1 - hole) + 0.5 * hole
    texture = network.texture(filled, hole)
    assert torch.equal(texture * (1 - hole), stripes * (1 - hole))
    assert_close(texture[..., 28:36, 28:36], stripes[..., 28:36, 28:36], atol=0.1, rtol=0)  # the rim's means differ


def test_untrained_it_is_its_coarse_repair() -> None:
    network = TMAD(4).eval()
    prediction = network(torch.rand(1, 3, 32, 48), torch.zeros(1, 1, 32, 48))
    assert torch.equal(prediction.image, prediction.earlier[0])
