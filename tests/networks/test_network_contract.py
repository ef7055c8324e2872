"""What every registered network promises; a new one adds a small version of itself to SMALL."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter
from cicm.conventions import InputError
from cicm.memory import ContextMemory, MemoryConfig
from cicm.networks import InpaintingNetwork, Prediction, SizeRule, create, names
from cicm.networks.inventory import facts

SMALL: dict[str, list[dict]] = {
    "gated": [{"width": 4}, {"width": 4, "attention": "port"}],
    "jpgnet": [
        {"width": 4},
        {"width": 4, "edges": "known"},
        {"width": 4, "edges": "none", "stage": "fusion"},
        {"width": 4, "stage": "generator"},
        {"width": 4, "generator": "unet"},
        {"width": 8, "generator": "rfr"},
    ],
    "migan": [
        {"side": 32, "width": 8},
        {"side": 16, "width": 8},
        {"side": 32, "width": 4, "tensors": 3},
        {"side": 32, "width": 4, "tensors": 2, "noise": "fresh"},
    ],
    "lama": [{"width": 4, "blocks": 2}, {"width": 2, "blocks": 1}],
    "misf": [{"width": 4}],
    "pen": [{"width": 4}],
    "rfr": [{"width": 8}, {"width": 8, "recurrences": 2, "kernel": 5}],
    "spg": [{"width": 4, "blocks": 2, "classes": 5}, {"width": 2, "blocks": 1}],
    "spl": [{"width": 4, "blocks": 2, "dense": 2, "teacher": 5}, {"width": 8, "blocks": 1, "dense": 1}],
    "srm": [{"width": 4}, {"width": 4, "stage": "memory"}],
    "swap": [{"width": 4, "classes": 5}],
    "tmad": [{"width": 4}],
    "unet": [
        {"width": 4},
        {"width": 4, "start": "smooth"},
        {"width": 4, "start": "biharmonic"},
        {"width": 4, "norm": "group"},
        {"width": 4, "norm": "instance", "slope": 0.0},
    ],
}


def test_every_registered_network_is_tested() -> None:
    assert sorted(SMALL) == names()


@pytest.fixture(params=[(name, options) for name in SMALL for options in SMALL[name]], ids=lambda p: f"{p[0]} {p[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, dict]:
    return request.param


def built(case: tuple[str, dict], *, stirred: bool = True) -> InpaintingNetwork:
    """A network; `stirred` replaces a head of zeros, behind which nothing would have an influence."""
    network = create(case[0], **case[1])
    if stirred:
        for parameter in network.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.05)
    return network


def batch(network: InpaintingNetwork, count: int = 2, more: tuple[int, int] = (0, 0)) -> tuple[Tensor, Tensor]:
    """The smallest pictures that fit, enlarged by `more` steps of the size rule as far as it allows."""
    step = network.size.multiple_of
    height, width = network.size.nearest(1, 1)
    size = network.size.nearest(height + more[0] * step, width + more[1] * step)
    hole = (torch.rand(count, 1, *size) < 0.3).float()
    return torch.rand(count, 3, *size) * (1 - hole), hole


def test_a_prediction_is_an_image_of_the_same_size(case: tuple[str, dict]) -> None:
    network = built(case)
    for more in ((0, 0), (0, 1), (2, 1)):
        corrupted, hole = batch(network, 2, more)
        prediction = network(corrupted, hole)
        assert isinstance(prediction, Prediction)
        assert prediction.image.shape == corrupted.shape
        assert prediction.image.dtype == torch.float32
        assert all(earlier.shape[:2] == (2, 3) for earlier in prediction.earlier)
        assert all(len(found) == 2 and torch.isfinite(found).all() for found in prediction.maps.values())
        assert torch.isfinite(prediction.image).all()


def test_another_size_is_refused_with_the_one_that_fits(case: tuple[str, dict]) -> None:
    network = built(case)
    height, width = network.size.nearest(1, 1)
    for wrong in ((height + 1, width), (height, width - 1)):
        fit = network.size.nearest(*wrong)
        if fit == wrong:
            continue
        with pytest.raises(InputError, match=f"{wrong[0]}x{wrong[1]}. Pad to {fit[0]}x{fit[1]}"):
            network(torch.rand(1, 3, *wrong), torch.zeros(1, 1, *wrong))
        pad = torch.zeros(1, 4, *fit)
        assert network(pad[:, :3], pad[:, 3:]).image.shape[2:] == fit


def test_every_parameter_has_a_gradient(case: tuple[str, dict]) -> None:
    network = built(case)
    prediction = network(*batch(network, more=(1, 1)))
    sum(p.square().sum() for p in (prediction.image, *prediction.earlier, *prediction.maps.values())).backward()
    # what an original has and never uses is kept without a gradient, for the way back
    used = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    without = [name for name, p in used if p.grad is None or not p.grad.any()]
    assert without == []


@pytest.mark.parametrize("training", [True, False])
def test_images_of_a_batch_do_not_influence_each_other(case: tuple[str, dict], training: bool) -> None:
    network = built(case).train(training)
    if training and network.batch_statistics:
        pytest.skip("declares that it normalises by statistics of the batch")
    corrupted, hole = batch(network, 3)
    corrupted.requires_grad_()
    torch.manual_seed(1)  # in training a network may draw noise
    image = network(corrupted, hole).image
    image[1].sum().backward()
    assert corrupted.grad[1].any()
    assert not corrupted.grad[0].any()
    assert not corrupted.grad[2].any()
    other = corrupted.detach().clone()
    other[0] = torch.rand_like(other[0]) * (1 - hole[0])
    torch.manual_seed(1)
    assert torch.equal(network(other, hole).image[1:], image[1:])


def test_what_lies_in_the_hole_does_not_matter(case: tuple[str, dict]) -> None:
    network = built(case).eval()
    corrupted, hole = batch(network)
    filled = corrupted + hole * torch.rand_like(corrupted)
    assert torch.equal(network(corrupted, hole).image, network(filled, hole).image)


def test_the_hole_matters(case: tuple[str, dict]) -> None:
    network = built(case).eval()
    corrupted, hole = batch(network)
    if case[0] == "spg":  # the port shows it as black and tells nothing else
        corrupted = corrupted + 0.5 * hole
    assert not torch.equal(network(corrupted, hole).image, network(corrupted, hole * 0).image)


@pytest.mark.parametrize("more", [(0, 0), (1, 2)])
def test_declared_sites_are_true_and_all_visited(case: tuple[str, dict], more: tuple[int, int]) -> None:
    network = built(case)
    corrupted, hole = batch(network, 2, more)
    height, width = corrupted.shape[2:]
    visited: dict[str, list] = {}

    def edit(site: str, features: Tensor) -> Tensor:
        visited.setdefault(site, []).append(tuple(features.shape))
        return features

    network(corrupted, hole, edit=edit)
    declared = {s.name: {(2, s.channels, height // s.stride, width // s.stride)} for s in network.sites}
    assert {name: set(shapes) for name, shapes in visited.items()} == declared
    assert len({s.name for s in network.sites}) == len(network.sites) > 0
    strides = [s.stride for s in network.sites]
    assert strides == sorted(strides)  # fine to coarse


def test_the_lowest_site_is_the_smallest_map(case: tuple[str, dict]) -> None:
    network = built(case)
    cells = []
    for name, module in network.named_modules():
        # LaMa's units also convolve spectra, which have half the columns
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not name.endswith(".unit.conv"):
            module.register_forward_hook(lambda _m, _i, out: cells.append(out.shape[-2] * out.shape[-1]))
    corrupted, hole = batch(network, 1, (2, 2))
    network(corrupted, hole)
    lowest = network.sites[-1]
    assert corrupted.shape[-2] * corrupted.shape[-1] // lowest.stride**2 == min(cells)


def test_every_edit_has_an_effect_and_gets_a_gradient(case: tuple[str, dict]) -> None:
    network = built(case).eval()
    corrupted, hole = batch(network)
    plain = network(corrupted, hole).image
    for chosen in network.sites:
        offset = torch.zeros(1, chosen.channels, 1, 1, requires_grad=True)

        def edit(site: str, features: Tensor, chosen=chosen, offset=offset) -> Tensor:
            return features + offset + 0.5 if site == chosen.name else features

        prediction = network(corrupted, hole, edit=edit)
        assert not torch.equal(prediction.image, plain), chosen.name
        sum(p.square().sum() for p in (prediction.image, *prediction.maps.values())).backward()
        assert offset.grad.ne(0).all(), chosen.name


def test_without_edits_a_network_is_itself_alone(case: tuple[str, dict]) -> None:
    network = built(case).eval()
    corrupted, hole = batch(network)
    alone = network(corrupted, hole).image
    assert torch.equal(network(corrupted, hole, edit=lambda _site, features: features).image, alone)
    unseeded = {s.name: ContextMemory(s.channels, MemoryConfig(sets=2, contexts=2)) for s in network.sites}
    for memories in ({}, unseeded):
        assert torch.equal(MemoryInpainter(network, memories).eval()(corrupted, hole).prediction.image, alone)


def test_parameter_names_are_the_same_with_and_without_an_edit(case: tuple[str, dict]) -> None:
    network = built(case)
    names_before = list(network.state_dict())
    network(*batch(network), edit=lambda _site, features: features * 2)
    assert list(network.state_dict()) == names_before
    memories = {s.name: ContextMemory(s.channels, MemoryConfig(sets=2, contexts=2)) for s in network.sites}
    held = [n for n in MemoryInpainter(network, memories).state_dict() if n.startswith("network.")]
    assert held == [f"network.{n}" for n in names_before]


def test_a_call_depends_on_its_arguments_alone_and_a_copy_is_its_own(case: tuple[str, dict]) -> None:
    """Nothing of an earlier call stays behind, as masks and scores did on the modules of an original."""
    network = built(case).train()
    first, second = batch(network), batch(network, 1, (1, 1))
    network(*first)
    network.eval()
    expected = network(*first).image
    network(*second)
    assert torch.equal(network(*first).image, expected)
    twin = copy.deepcopy(network)
    assert torch.equal(twin(*first).image, expected)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.5)
    twin.train()(*first)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert torch.equal(network(*first).image, expected)


@pytest.mark.parametrize("name", names())
def test_bfloat16_costs_little_and_its_steps_stay_finite(name: str) -> None:
    """Also for a complete picture and for one of which nearly all is missing."""
    network = create(name, width=8)
    height, width = network.size.nearest(64, 64)
    hole = torch.zeros(2, 1, height, width)
    hole[1, ..., 2:-2, 2:-2] = 1
    target = torch.rand(2, 3, height, width)
    network.eval()
    with torch.no_grad():
        exact = network(target * (1 - hole), hole).image
        with torch.autocast("cpu", dtype=torch.bfloat16):
            image = network(target * (1 - hole), hole).image
    assert (image - exact).norm() < 0.02 * exact.norm() + 1e-6  # 8 bits of mantissa
    network.train()
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-3)
    for _ in range(2):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            prediction = network(target * (1 - hole), hole)
            given = (prediction.image, *prediction.earlier)
            loss = sum((p.float() - F.interpolate(target, p.shape[2:])).square().mean() for p in given)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for key, parameter in network.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), key
            assert torch.isfinite(parameter).all(), key


LEFT = {
    "gated": 0.25,
    "migan": 0.25,
    "misf": 0.4,
    "pen": 0.35,
    "rfr": 0.15,
    "spg": 0.5,
    "spl": 0.5,
    "srm": 0.5,
    "swap": 0.5,
    "tmad": 0.25,
    "unet": 0.25,
}


@pytest.mark.parametrize(("name", "left"), LEFT.items())
def test_it_learns_two_pictures(name: str, left: float) -> None:
    """Far better, inside the hole, than the mean of what is known."""
    network = create(name, **{**SMALL[name][0], **{"rfr": {"recurrences": 2}, "gated": {"width": 8}}.get(name, {})})
    side = max(32, network.size.minimum)
    y, x = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 1, side), indexing="ij")
    image = torch.stack([torch.stack([x, y, x * y]), torch.stack([1 - y, x * x, (x + y) / 2])])
    hole = torch.zeros(2, 1, side, side)
    hole[..., 8:20, 10:24] = 1
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(60):
        loss = F.l1_loss(network(image * (1 - hole), hole).image, image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < left * losses[0]
    with torch.no_grad():
        found = network(image * (1 - hole), hole).image
    inside = hole.expand_as(image) > 0
    mean = (image * (1 - hole)).sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
    assert (found - image)[inside].abs().mean() < 0.5 * (mean - image)[inside].abs().mean()


def test_saved_and_loaded_it_predicts_the_same(case: tuple[str, dict], tmp_path: Path) -> None:
    network = built(case).eval()
    save_file(network.state_dict(), tmp_path / "network.safetensors")
    torch.manual_seed(5)
    other = create(case[0], **case[1]).eval()
    other.load_state_dict(load_file(tmp_path / "network.safetensors"))
    arguments = batch(network)
    assert torch.equal(network(*arguments).image, other(*arguments).image)


def test_an_unknown_site_lists_the_known_ones(case: tuple[str, dict]) -> None:
    network = built(case)
    with pytest.raises(InputError, match=network.sites[-1].name):
        network.site("nowhere")
    assert network.site(network.sites[0].name) is network.sites[0]


# Names, sizes, facts --------------------------------------------------------------------------------------------------


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(InputError, match="Did you mean 'unet'"):
        create("unett")
    with pytest.raises(InputError, match="no option 'widht'; it takes width"):
        create("unet", widht=3)


def test_the_nearest_size_fits_holds_and_is_the_smallest() -> None:
    for rule in (SizeRule(), SizeRule(16, 32), SizeRule(8), SizeRule(1, 33), SizeRule(16, 33)):
        for side in range(1, 80):
            fit, _ = rule.nearest(side, 40)
            expected = next(s for s in range(side, 200) if s % rule.multiple_of == 0 and s >= rule.minimum)
            assert fit == expected, rule
            rule.check(*rule.nearest(side, side))


@pytest.mark.parametrize("name", names())
def test_facts_agree_with_a_count_by_hand(name: str) -> None:
    """Parameters one by one; multiply-adds of each convolution as outputs x inputs per output."""
    options = SMALL[name][0]
    network = create(name, **options)
    total = 0

    def count(module: nn.Module, _inputs, output: Tensor) -> None:
        nonlocal total
        kernel = module.kernel_size[0] * module.kernel_size[1]
        total += output.numel() * kernel * module.in_channels // module.groups

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    found = facts(name, 64, **options)
    with torch.no_grad():
        network(torch.rand(1, 3, *found.pixels), torch.zeros(1, 1, *found.pixels))
    assert found.parameters == sum(p.numel() for p in network.parameters())
    # attention may add products that are no convolution
    assert found.multiply_adds >= total
    if name == "unet":
        assert found.multiply_adds == total
    assert found.sites == network.sites
    assert found.paper, 'the docstring of a network\'s file names its paper: "Title" (venue year)'


def test_spot_check_of_normalisation_across_the_batch() -> None:
    """The test above would notice: batch normalisation makes images influence each other."""
    layer = nn.BatchNorm2d(2).train()
    x = torch.rand(2, 2, 3, 3)
    other = torch.cat([x[:1] * 9, x[1:]])
    with pytest.raises(AssertionError):
        assert_close(layer(x)[1], layer(other)[1])
