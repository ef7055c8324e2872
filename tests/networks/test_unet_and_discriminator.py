"""The plain network as it is described, and the discriminator's patches."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cicm.conventions import InputError
from cicm.networks import PatchDiscriminator, create
from cicm.networks.inventory import facts
from cicm.ops import biharmonic, pull_push


def test_unet_has_the_documented_size() -> None:
    for width, millions, giga in ((64, 25.8, 37.6), (32, 6.5, 9.5)):
        found = facts("unet", 256, width=width)
        assert found.parameters / 1e6 == pytest.approx(millions, abs=0.05), width
        assert found.multiply_adds / 1e9 == pytest.approx(giga, abs=0.06), width
        assert found.pixels == (256, 256), width
        assert [(s.name, s.channels, s.stride) for s in found.sites][-1] == ("bottom", 8 * width, 16), width


def test_unet_has_exactly_15_convolutions() -> None:
    network = create("unet", width=4)
    assert sum(isinstance(m, nn.Conv2d) for m in network.modules()) == 15
    assert not any(isinstance(m, nn.ConvTranspose2d | nn.Linear) for m in network.modules())


def test_the_bottom_of_the_unet_sees_about_368_pixels_far() -> None:
    """Stem 5x5; four 4x4 of stride 2; 3x3 with dilations 1, 2, 4, 2, 1 at stride 16, by gradient."""
    network = create("unet", width=1)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 0.1)  # nothing cancels
    side = 512
    corrupted = torch.rand(1, 3, side, side, requires_grad=True)
    seen = {}
    network(corrupted, torch.zeros(1, 1, side, side), edit=lambda site, f: seen.setdefault(site, f))
    seen["bottom"][0, :, 16, 16].sum().backward()
    rows = corrupted.grad.abs().sum((0, 1, 3)).nonzero().flatten()
    sees = int(rows[-1] - rows[0]) + 1
    # 5, then 3 more steps of 1, 2, 4, 8 pixels, then 2 x dilation x 16
    assert sees == 5 + 3 * (1 + 2 + 4 + 8) + 2 * 16 * (1 + 2 + 4 + 2 + 1)
    assert sees == pytest.approx(368, abs=4)


def test_an_untrained_network_with_a_first_fill_is_that_fill() -> None:
    for start, fill in (("smooth", pull_push), ("biharmonic", biharmonic)):
        network = create("unet", width=4, start=start)
        hole = (torch.rand(1, 1, 32, 32) < 0.3).float()
        corrupted = torch.rand(1, 3, 32, 32) * (1 - hole)
        assert torch.equal(network(corrupted, hole).image, fill(corrupted, hole)), start


def test_signals_keep_their_scale_through_15_layers() -> None:
    image = create("unet", width=16)(torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)).image
    assert 0.01 < image.std() < 10


def test_with_repeated_borders_a_flat_picture_has_no_places() -> None:
    """With zeros a cell of a picture of one colour knows how far the border is; repeated borders hide it."""
    spread = {}
    for padding in ("zeros", "reflect", "replicate"):
        torch.manual_seed(0)
        network = create("unet", width=4, padding=padding)
        seen: dict[str, torch.Tensor] = {}
        network(
            torch.full((1, 3, 128, 128), 0.5), torch.zeros(1, 1, 128, 128), edit=lambda s, f, m=seen: m.setdefault(s, f)
        )
        spread[padding] = {site: float(f.flatten(2).std(-1).max() / f.abs().max()) for site, f in seen.items()}
    for site in ("down3", "bottom", "up3", "up2"):
        assert spread["zeros"][site] > 0.01, site
        assert max(spread["reflect"][site], spread["replicate"][site]) < 1e-4, site  # float32


def test_reflected_borders_need_a_map_that_is_larger_than_the_widest_step() -> None:
    network = create("unet", width=2, padding="reflect")
    assert network(torch.rand(1, 3, 80, 80), torch.zeros(1, 1, 80, 80)).image.shape == (1, 3, 80, 80)
    with pytest.raises(InputError, match="80"):
        network(torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64))


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="width must be at least 1"):
        create("unet", width=0)
    # ours, or that of the shape checks that run while testing
    with pytest.raises(Exception, match=r"start must be one of hole, smooth|parameter 'start'"):
        create("unet", start="telea")


def test_a_logit_sees_70x70_pixels() -> None:
    for layers in (2, 3):
        judge = PatchDiscriminator(width=4, layers=layers).eval()
        image = torch.rand(1, 3, 160, 160, requires_grad=True)
        logits = judge(image)
        logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
        seen = image.grad.abs().sum((0, 1))
        for axis in (0, 1):
            lines = seen.sum(1 - axis).nonzero().flatten()
            assert int(lines[-1] - lines[0]) + 1 == {2: 34, 3: 70}[layers], layers


def test_a_logit_of_one_image_sees_no_other_image_and_every_weight_learns() -> None:
    judge = PatchDiscriminator(width=4)
    image = torch.rand(2, 3, 80, 80, requires_grad=True)
    judge(image)[0].square().sum().backward()
    assert image.grad[0].any()
    assert not image.grad[1].any()
    assert all(p.grad is not None and p.grad.any() for p in judge.parameters())


def test_the_discriminator_is_spectrally_normalised() -> None:
    judge = PatchDiscriminator(width=4)
    image = torch.rand(1, 3, 80, 80)
    for _ in range(40):  # power iteration, one round per training forward
        judge(image)
    judge.eval()
    for module in judge.modules():
        if isinstance(module, nn.Conv2d):
            largest = torch.linalg.matrix_norm(module.weight.flatten(1), 2)
            assert largest.item() == pytest.approx(1, abs=0.05)  # the iteration is not exact
