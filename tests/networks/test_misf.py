"""MISF: the original's outputs, names and counts; its channel stretch; the way it trains and compiles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks.misf import MISF, STRETCH, TAPS, from_original, to_original
from cicm.ops import filter_pixels


def batch(count: int = 2, height: int = 16, width: int = 24) -> tuple[Tensor, Tensor]:
    hole = (torch.rand(count, 1, height, width) < 0.3).float()
    return torch.rand(count, 3, height, width) * (1 - hole), hole


# The original ---------------------------------------------------------------------------------------------------------


def test_the_count_is_the_originals() -> None:
    with torch.device("meta"):
        network = MISF()
    assert sum(p.numel() for p in network.parameters()) == 23_059_493
    predicting = sum(p.numel() for p in network.prediction.parameters())
    assert (predicting, 23_059_493 - predicting) == (12_284_898, 10_774_595)
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == [
        "prediction.unused.weight",
        "prediction.unused.bias",
    ]


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(MISF(2))
    with pytest.raises(InputError, match=r"shape    encoder1\.0\.weight"):
        from_original(state, width=3)
    for wrong in ({"discriminator": {}}, {**state, "encoder1.0.bias": "text"}):
        with pytest.raises(InputError, match=r"encoder0\.1\.weight"):
            from_original(wrong)
    with pytest.raises(InputError, match="at least 1"):
        MISF(0)


# The stretch ----------------------------------------------------------------------------------------------------------


def volume_loop(planes: Tensor, count: int) -> Tensor:
    """Nearest interpolation of (C, h, w) taken as a volume: out[d, y, x] = in[floor(d * C / count), y, x]."""
    out = torch.empty(count, *planes.shape[1:])
    for d in range(count):
        for y in range(planes.shape[1]):
            for x in range(planes.shape[2]):
                out[d, y, x] = planes[d * planes.shape[0] // count, y, x]
    return out


def test_the_originals_stretch_of_a_square_map_repeats_each_plane_four_times() -> None:
    width = 3
    planes = torch.rand(width * TAPS, 5, 5)
    count = 4 * width * TAPS
    in_volume = F.interpolate(planes[None, None], size=(count, 5, 5), mode="nearest")[0, 0]
    assert torch.equal(in_volume, volume_loop(planes, count))
    assert torch.equal(planes.repeat_interleave(STRETCH, 0), in_volume)
    features = torch.rand(1, 4 * width, 5, 5)
    # the same products in the same order, one of them without the stretched planes
    stretched = filter_pixels(features, in_volume[None])
    assert torch.equal(filter_pixels(features, planes[None], share=STRETCH), stretched)


def test_the_first_channel_has_runs_of_four_equal_taps() -> None:
    """Channel 0 reads planes 0,0,0,0,1,1,1,1,2: by hand, on a feature of ones away from the border."""
    planes = torch.zeros(1, 9, 3, 3)
    planes[:, 0], planes[:, 1], planes[:, 2] = 1, 10, 100
    out = filter_pixels(torch.ones(1, 4, 3, 3), planes, share=STRETCH)
    assert out[0, :, 1, 1].tolist() == [4 + 40 + 100, 300, 0, 0]


# Sizes, values, training ----------------------------------------------------------------------------------------------


def test_the_minimum_is_the_true_one() -> None:
    network = MISF(2)
    assert (network.size.multiple_of, network.size.minimum) == (4, 12)
    network(*batch(1, 12, 12))
    network.size = type(network.size)(4, 8)
    with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
        network(*batch(1, 8, 12))


def test_a_picture_on_its_side_is_as_good() -> None:
    """Not square, which the original cannot: a kernel turned with the picture gives the turned prediction."""
    network = MISF(2).double().eval()
    with torch.no_grad():
        network.decoder0.weight.mul_(30)  # far from the grey that it begins with, where anything equals anything
    turned = MISF(2).double().eval()
    state = {
        name: tensor.transpose(2, 3) if tensor.ndim == 4 else tensor for name, tensor in network.state_dict().items()
    }
    swap = [3 * (t % 3) + t // 3 for t in range(TAPS)]  # tap (i, j) -> (j, i)
    for kind in ("weight", "bias"):
        head = state[f"prediction.image.{kind}"]
        state[f"prediction.image.{kind}"] = head.unflatten(0, (3, TAPS))[:, swap].flatten(0, 1)
        # the semantic planes straddle taps, so that they cannot be turned; one filter that is its own turn will do
        state[f"prediction.semantic.{kind}"] = state[f"prediction.semantic.{kind}"] * 0 + (kind == "bias")
    turned.load_state_dict(state)
    network.load_state_dict(
        {**network.state_dict(), **{n: state[n] for n in state if n.startswith("prediction.semantic.")}}
    )
    corrupted, hole = (tensor.double() for tensor in batch(1, 12, 28))
    upright = network(corrupted, hole).image
    lying = turned(corrupted.transpose(2, 3), hole.transpose(2, 3)).image
    assert_close(lying.transpose(2, 3), upright, rtol=1e-9, atol=1e-9)  # float64, instance norms over few cells
    assert upright.std() > 1e-2


@pytest.mark.parametrize("width", [4, 16])
def test_it_begins_grey_within_0_and_1_and_with_gradients_to_learn_from(width: int) -> None:
    network = MISF(width)
    corrupted, hole = batch(2, 32, 32)
    image = network(corrupted, hole).image
    assert image.min() >= 0
    assert image.max() <= 1
    assert (image - 0.5).abs().mean() < 0.1
    (image - corrupted).square().mean().backward()
    # with weights of 0.02 throughout, the lowest layer of a network of width 4 begins with a gradient of 1e-17
    for layer in (network.encoder0, network.prediction.at_full.conv1[0], network.prediction.lowest.conv1[0]):
        assert layer.weight.grad.abs().max() > 1e-8


def test_both_levels_of_kernels_matter() -> None:
    network = MISF(4).eval()
    arguments = batch()
    before = network(*arguments).image
    for head in (network.prediction.semantic, network.prediction.image):
        with torch.no_grad():
            head.weight.add_(0.1 * torch.randn_like(head.weight))
        after = network(*arguments).image
        assert not torch.equal(after, before)
        before = after
