"""Gated convolution: the original's outputs and its port's, names, and what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks import create
from cicm.networks.gated import (
    Gated,
    GatedConv,
    GatedDiscriminator,
    contextual_attention,
    discriminator_from_original,
    from_original,
    to_original,
)
from cicm.networks.layers import pad_same

ROUNDING = 1e-5  # of the largest value: float32, and sums in another order; measured 1.5e-6


@pytest.mark.shared
@torch.no_grad()
def test_it_gives_what_the_original_and_its_port_gave_and_the_names_come_back(oracles) -> None:
    state = oracles.state("gated")
    network = from_original(state)
    assert network.options == {"width": 24, "attention": "original"}
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert sum(parts.values()) == 4_052_478
    assert parts["rough"] + parts["rough_up"] + parts["rough_out"] == 1_631_151
    assert (parts["spreading"], parts["looking"] + parts["copied"]) == (990_000, 782_352)
    back = to_original(network)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    for case in ("a", "b"):
        stored = oracles.outputs(f"gated.{case}")
        image, hole = oracles.picture(stored)
        for attention, end in (("original", "_official"), ("port", ""))[: 1 if case == "a" else 2]:
            network.attention = attention
            seen: dict[str, Tensor] = {}
            fine, (rough,), *_ = network(
                image * (1 - hole), hole, edit=lambda s, f, seen=seen: seen.update({s: f}) or f
            )
            assert oracles.error(2 * fine - 1, stored[f"output{end}"]) < ROUNDING
            assert oracles.error(2 * rough - 1, stored["coarse"]) < ROUNDING
            assert oracles.error(seen["rough"].mean((2, 3)), stored["conv12_mean"]) < ROUNDING
            assert oracles.error(seen["attended"].mean((2, 3)), stored[f"attended{end}_mean"]) < ROUNDING


@pytest.mark.shared
@pytest.mark.parametrize(("tag", "shape"), [("sq", (2, 8, 16, 16)), ("rect", (1, 8, 16, 24))])
def test_the_attention_alone_gives_what_the_original_gave(oracles, tag: str, shape: tuple[int, ...]) -> None:
    """There the hole of the first picture is the hole of all."""
    stored = oracles.outputs("gated_layers")
    f, b = (torch.from_numpy(oracles.layers.normal(f"gated.attention.{tag}.{one}", shape)) for one in "fb")
    hole = torch.from_numpy(oracles.inputs.hole(21, shape[0], 4 * shape[2], 4 * shape[3]))[:1]
    for given, attention, end in ((hole, "original", "_official"), (hole, "port", ""), (0 * hole, "original", None)):
        expected = stored[f"attention_{tag}{'_nomask_fused' if end is None else end}"]
        assert oracles.error(contextual_attention(f, b, given, attention), expected) < ROUNDING


def test_each_picture_has_its_own_hole_in_the_attention() -> None:
    f = torch.randn(2, 4, 8, 8)
    hole = torch.zeros(2, 1, 32, 32)
    hole[0, ..., :16, :] = 1
    hole[1, ..., 16:, 8:] = 1
    both = contextual_attention(f, f, hole)
    for i in range(2):
        assert_close(both[i : i + 1], contextual_attention(f[i : i + 1], f[i : i + 1], hole[i : i + 1]))
    shared = contextual_attention(f, f, hole[:1])
    assert torch.equal(shared[0], both[0])
    assert not torch.allclose(shared[1], both[1])


def test_where_nothing_is_known_nothing_is_copied_and_the_rest_goes_on() -> None:
    network = create("gated", width=4).eval()
    hole = torch.ones(1, 1, 32, 40)
    seen: dict[str, Tensor] = {}
    image = network(torch.zeros(1, 3, 32, 40), hole, edit=lambda site, f: seen.update({site: f}) or f).image
    assert not seen["attended"].any()
    assert torch.isfinite(image).all()
    assert torch.isfinite(network(torch.rand(1, 3, 32, 40), 0 * hole).image).all()


@pytest.mark.parametrize("rectified", [False, True])
def test_a_gated_convolution_by_hand(rectified: bool) -> None:
    """The first half of the channels are values, the second are gates."""
    layer = GatedConv(2, 3, rectified=rectified).double()
    x = torch.randn(1, 2, 5, 6, dtype=torch.float64)
    values = F.conv2d(F.pad(x, (1, 1, 1, 1)), layer.conv.weight[:3], layer.conv.bias[:3])
    gates = F.conv2d(F.pad(x, (1, 1, 1, 1)), layer.conv.weight[3:], layer.conv.bias[3:])
    bent = values.clamp(min=0) if rectified else torch.where(values > 0, values, values.exp() - 1)
    assert_close(layer(x), bent / (1 + (-gates).exp()))


def test_padding_is_shared_evenly_and_the_rest_goes_to_the_bottom_right() -> None:
    for size, kernel, stride, dilation, expected in (
        (8, 3, 2, 1, (0, 1)),
        (8, 5, 2, 1, (1, 2)),
        (7, 5, 2, 1, (2, 2)),
        (8, 5, 1, 1, (2, 2)),
        (8, 3, 1, 16, (16, 16)),
        (8, 1, 2, 1, (0, 0)),
    ):
        conv = nn.Conv2d(1, 1, kernel, stride, dilation=dilation)
        wide = pad_same(torch.ones(1, 1, size, 4 * size), conv)
        assert tuple(wide[0, 0, :, wide.shape[3] // 2].nonzero()[[0, -1], 0].tolist()) == (
            expected[0],
            expected[0] + size - 1,
        )
        assert wide.shape[2] == size + sum(expected)
        assert conv(wide).shape[2] == -(-size // stride)


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(Gated(2))
    assert from_original({"G": state, "D": {}}, attention="port").options == {"width": 2, "attention": "port"}
    with pytest.raises(InputError, match=r"shape    conv2_downsample\.conv\.weight"):
        from_original(state, width=4)
    with pytest.raises(InputError, match=r"missing  allconv17\.conv\.bias"):
        from_original({name: tensor for name, tensor in state.items() if name != "allconv17.conv.bias"})
    for wrong in ({"conv1.conv_sn.weight": torch.zeros(64, 4, 5, 5)}, {**state, "conv1.conv.bias": "text"}):
        with pytest.raises(InputError, match="under the names of its PyTorch port"):
            from_original(wrong)
    for width in (0, 3):
        with pytest.raises(InputError, match="multiple of 2"):
            Gated(width)


# Discriminator --------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@torch.no_grad()
def test_the_discriminator_gives_what_the_original_gave(oracles) -> None:
    state, stored = oracles.state("gated_d"), oracles.outputs("gated_d.a")
    judge = discriminator_from_original(state)
    assert sum(p.numel() for p in judge.parameters()) == 5_946_816
    image, hole = oracles.picture(stored)
    assert oracles.error(judge(image, hole), stored["output"]) < ROUNDING
    assert oracles.error(judge(image, 1 - hole), stored["output"]) > 1e-3
    with pytest.raises(InputError, match="parameters of a gated discriminator"):
        discriminator_from_original({"conv1.weight": torch.zeros(1)})


def test_the_discriminator_takes_every_size_and_every_weight_has_a_gradient() -> None:
    judge = GatedDiscriminator(width=2)
    for height, width, cells in ((64, 64, 1), (96, 130, 6)):
        logits = judge(torch.rand(2, 3, height, width), torch.zeros(2, 1, height, width))
        assert logits.shape == (2, 8 * cells)
    logits.sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in judge.parameters())
