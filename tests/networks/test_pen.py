"""PEN-Net: the original's outputs, names, and what becomes of a map without a key."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks import create
from cicm.networks.pen import (
    PEN,
    AttentionTransfer,
    PENDiscriminator,
    discriminator_from_original,
    from_original,
    to_original,
)

ROUNDING = 3e-5  # of the largest value: float32 differs from float64 by 8e-6 here; measured 8e-6
LAYER = 1e-5


@pytest.mark.shared
@torch.no_grad()
def test_it_gives_what_the_original_gave_and_the_names_come_back(oracles) -> None:
    state = oracles.state("pen")
    network = from_original(state)
    assert network.options == {"width": 32, "guard": True}
    assert sum(p.numel() for p in network.parameters()) == 10_231_538
    counts = [sum(p.numel() for p in one.parameters()) for one in network.attention]
    assert counts == [9_248, 36_928, 147_584, 590_080, 0]
    back = to_original(network)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    for case in ("a", "b"):
        stored = oracles.outputs(f"pen.{case}")
        image, hole = oracles.picture(stored)
        seen: dict[str, Tensor] = {}
        last, earlier, *_ = network(image * (1 - hole), hole, edit=lambda s, f, seen=seen: seen.update({s: f}) or f)
        assert oracles.error(2 * last - 1, stored["output"]) < ROUNDING
        for side, picture in zip((8, 16, 32, 64, 128), earlier, strict=True):
            assert oracles.error(2 * picture - 1, stored[f"pyramid{side}"]) < ROUNDING
        assert oracles.error(seen["bottom"].mean((2, 3)), stored["dw_conv06_mean"]) < ROUNDING
        for level in range(1, 6):
            found = seen[f"attended{level}"].mean((2, 3))
            assert oracles.error(found, stored[f"at_conv0{level}_mean"]) < ROUNDING


@pytest.mark.shared
@pytest.mark.parametrize("tag", ["k3", "k3_rect", "k1"])
def test_a_transfer_alone_gives_what_the_original_gave(oracles, tag: str) -> None:
    stored = oracles.outputs("pen_layers")
    batch, _, height, width = stored[f"atn_{tag}"].shape
    first = torch.from_numpy(oracles.layers.normal(f"pen.atn.{tag}.x1", (batch, 8, height, width)))
    below = torch.from_numpy(oracles.layers.normal(f"pen.atn.{tag}.x2", (batch, 16, height // 2, width // 2)))
    hole = torch.from_numpy(oracles.inputs.hole(22, batch, 8 * height, 8 * width))
    layer = AttentionTransfer(8, 1 if tag == "k1" else 3, tag != "k1", guard=False)
    for index, conv in enumerate(layer.refine):
        for kind, value in conv.named_parameters():
            theirs = oracles.inputs.parameter(f"pen.layer.conv0{index}.0.{kind}", tuple(value.shape))
            value.data.copy_(torch.from_numpy(theirs))
    for end, given in (("", hole), ("_nomask", 0 * hole), ("_allhole", 0 * hole + 1)):
        assert oracles.error(layer(first, below, given), stored[f"atn_{tag}{end}"]) < LAYER, end
    layer.guard = True
    for end, given in (("", hole), ("_nomask", 0 * hole)):
        assert oracles.error(layer(first, below, given), stored[f"atn_{tag}{end}"]) < LAYER, end


def test_a_map_without_a_key_stays_as_it_is_picture_by_picture() -> None:
    hole = torch.zeros(2, 1, 32, 32)
    hole[0] = 1
    features, below = torch.randn(2, 4, 8, 8), torch.randn(2, 6, 4, 4)
    guarded, original = (AttentionTransfer(4, refined=False, guard=guard) for guard in (True, False))
    assert torch.equal(guarded(features, below, hole)[0], features[0])
    assert 0 < original(features, below, hole)[0].abs().max() < 1e-6
    assert torch.equal(guarded(features, below, hole)[1], original(features, below, hole)[1])
    assert not torch.allclose(original(features, below, hole)[1], features[1])


@torch.no_grad()
def test_without_the_guard_a_large_hole_hides_what_is_known() -> None:
    """No patch of 3x3 cells is known at any level but the finest; something is known in each."""
    torch.manual_seed(3)
    guarded = create("pen", width=8).eval()
    original = create("pen", width=8, guard=False).eval()
    original.load_state_dict(guarded.state_dict())
    hole = torch.ones(1, 1, 128, 128)
    hole[..., 40:70, 40:70] = 0
    moved = {}
    for name, network in (("guarded", guarded), ("original", original)):
        pictures = [network(colour * (1 - hole).expand(-1, 3, -1, -1), hole).image for colour in (0.1, 0.9)]
        moved[name] = (pictures[0] - pictures[1]).abs().mean()
    assert moved["guarded"] > 2 * moved["original"]


def test_with_a_key_at_every_level_the_guard_changes_nothing() -> None:
    guarded = create("pen", width=4).eval()
    original = create("pen", width=4, guard=False).eval()
    original.load_state_dict(guarded.state_dict())
    hole = torch.zeros(1, 1, 128, 192)
    hole[..., 80:120, 120:180] = 1
    corrupted = torch.rand(1, 3, 128, 192) * (1 - hole)
    assert torch.equal(guarded(corrupted, hole).image, original(corrupted, hole).image)


def test_pictures_of_all_scales_come_coarse_to_fine() -> None:
    image, earlier, *_ = create("pen", width=4)(torch.rand(1, 3, 64, 128), torch.zeros(1, 1, 64, 128))
    assert [tuple(one.shape[2:]) for one in earlier] == [(2, 4), (4, 8), (8, 16), (16, 32), (32, 64)]
    assert all(((one >= 0) & (one <= 1)).all() for one in (image, *earlier))
    assert_close(image.mean(), torch.tensor(0.5), atol=0.05, rtol=0)  # begins grey


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(PEN(4))
    assert from_original({"netG": state}, guard=False).options == {"width": 4, "guard": False}
    with pytest.raises(InputError, match=r"shape    dw_conv02\.0\.weight"):
        from_original(state, width=8)
    with pytest.raises(InputError, match=r"missing  decoder\.2\.bias"):
        from_original({name: tensor for name, tensor in state.items() if name != "decoder.2.bias"})
    for wrong in ({"encoder.0.weight_orig": torch.zeros(64, 3, 5, 5)}, {**state, "torgb1.0.bias": "text"}):
        with pytest.raises(InputError, match="under their published names"):
            from_original(wrong)
    for width in (0, 2, 6):
        with pytest.raises(InputError, match="multiple of 4"):
            PEN(width)


# Discriminator --------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@torch.no_grad()
def test_the_discriminator_gives_what_the_original_gave(oracles) -> None:
    state, stored = oracles.state("pen_d"), oracles.outputs("pen_d.a")
    judge = discriminator_from_original(state)
    assert sum(p.numel() for p in judge.parameters()) == 4_318_401
    image, hole = oracles.picture(stored)
    assert oracles.error(judge(image), stored["output"]) < LAYER
    assert torch.equal(judge(image, hole), judge(image))
    assert judge(torch.rand(1, 3, 256, 256)).shape == (1, 1, 27, 27)
    with pytest.raises(InputError, match="parameters of PEN-Net's discriminator"):
        discriminator_from_original({"encoder.0.weight": torch.zeros(1)})


def test_every_weight_of_the_discriminator_has_a_gradient() -> None:
    judge = PENDiscriminator(width=2)
    judge(torch.rand(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in judge.parameters())
