"""The blocks that several networks share, against the operations they are made of."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.networks.layers import DilatedResidual, TripleConv


def test_a_triple_convolution_is_three_rectified_ones() -> None:
    block, x = TripleConv(2, 5), torch.randn(1, 2, 6, 7)
    expected, state = x, block.state_dict()
    assert list(state) == [f"conv1.{i}.{kind}" for i in (0, 2, 4) for kind in ("weight", "bias")]
    for i in (0, 2, 4):
        expected = F.conv2d(expected, state[f"conv1.{i}.weight"], state[f"conv1.{i}.bias"], padding=1).clamp_min(0)
    assert_close(block(x), expected)


@pytest.mark.parametrize("bias", [True, False])
def test_a_dilated_residual_adds_two_reflected_convolutions_and_rectifies_only_between(bias: bool) -> None:
    block, x = DilatedResidual(3, bias=bias), torch.randn(2, 3, 6, 7)
    state = block.state_dict()
    kinds = ("weight", "bias") if bias else ("weight",)
    assert list(state) == [f"conv_block.{i}.{kind}" for i in (1, 5) for kind in kinds]

    def normed(y: torch.Tensor) -> torch.Tensor:
        mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, unbiased=False)
        return (y - mean) / (variance + 1e-5).sqrt()

    y = F.pad(x, (2, 2, 2, 2), mode="reflect")
    y = normed(F.conv2d(y, state["conv_block.1.weight"], state.get("conv_block.1.bias"), dilation=2)).clamp_min(0)
    y = F.pad(y, (1, 1, 1, 1), mode="reflect")
    y = normed(F.conv2d(y, state["conv_block.5.weight"], state.get("conv_block.5.bias")))
    assert_close(block(x), x + y, rtol=1e-4, atol=1e-5)  # float32, a variance taken in another order
    assert (block(x) < 0).any()
