"""JPGNet: the original's outputs, its parts by hand, its stages, and its files."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks import create
from cicm.networks.edgeconnect import EdgeGenerator, ImageGenerator, gray, known_edges
from cicm.networks.inventory import facts
from cicm.networks.jpgnet import (
    PARTS,
    JPGNet,
    PredictiveFilter,
    from_original,
    parts_of,
    recognise_part,
    to_original,
    uncertainty,
)
from cicm.ops import canny


def pictures(count: int = 2, height: int = 32, width: int = 48) -> tuple[Tensor, Tensor]:
    hole = torch.zeros(count, 1, height, width)
    for one in range(count):
        hole[one, :, 6 + one : 20 + one, 9 : 26 + 2 * one] = 1
    return torch.rand(count, 3, height, width) * (1 - hole), hole


def stirred(network: nn.Module) -> nn.Module:
    """All parameters a little off their beginning, so that nothing is equal because it is 0."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.03)
    return network


def test_counts_are_the_originals() -> None:
    with torch.device("meta"):
        network = create("jpgnet")
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in network.named_children()}
    assert counts == {"filter": 27_395_427, "fusion": 27_548_256, "generator": 10_774_595, "edge_generator": 10_761_089}
    found = facts("jpgnet")
    assert found.parameters == 76_479_367
    assert found.multiply_adds / 1e9 == pytest.approx(197.1, abs=0.1)
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ["filter.blend.weight", "filter.blend.bias"]


# Its parts, by hand ---------------------------------------------------------------------------------------------------


def filtered_by_loop(part: PredictiveFilter, kernels: Tensor, picture: Tensor) -> Tensor:
    """Kernel of channel c, tap 3i + j, on the neighbour (i - 1, j - 1) steps of d away; d from 1 to 4; then merged."""
    channels, height, width = picture.shape[1:]
    results = []
    for d in (1, 2, 3, 4):
        out = torch.zeros(1, channels, height, width, dtype=picture.dtype)
        for c in range(channels):
            for y in range(height):
                for x in range(width):
                    for i in range(3):
                        for j in range(3):
                            v, u = y + (i - 1) * d, x + (j - 1) * d
                            if 0 <= v < height and 0 <= u < width:
                                out[0, c, y, x] += kernels[0, 9 * c + 3 * i + j, y, x] * picture[0, c, v, u]
        results.append(part.blend(out) if channels == 6 else out)
    return part.merge(torch.cat(results, 1))


@pytest.mark.parametrize(("inputs", "channels"), [(3, 3), (34, 6)])
@torch.no_grad()
def test_a_filter_is_the_loop_over_its_kernels(inputs: int, channels: int) -> None:
    part = stirred(PredictiveFilter(inputs, channels, 1, fuses=channels == 6)).double()
    seen, picture = torch.rand(1, inputs, 16, 16).double(), torch.rand(1, channels, 16, 16).double()
    found, kernels = part(seen, picture)
    assert kernels.shape == (1, 9 * channels, 16, 16)
    assert_close(found, filtered_by_loop(part, kernels, picture))


@torch.no_grad()
def test_deep_in_a_hole_the_filter_alone_is_a_constant() -> None:
    """Six pixels from anything known: 4 by the widest kernel, 1 by the merge."""
    network = stirred(create("jpgnet", width=4, stage="filter")).eval()
    hole = torch.zeros(1, 1, 48, 48)
    hole[..., 8:40, 8:40] = 1
    image = network(torch.rand(1, 3, 48, 48) * (1 - hole), hole).image
    inside, rim = image[..., 13:35, 13:35], image[..., 12, 12]
    assert_close(inside, network.filter.merge.bias.view(1, 3, 1, 1).expand_as(inside))
    assert not torch.allclose(rim, network.filter.merge.bias[None])


@torch.no_grad()
def test_at_the_beginning_it_copies_and_takes_the_mean() -> None:
    """Up to the small random part of the kernels, whose deviation of 0.01 is what the tolerance stands for."""
    network = create("jpgnet", width=8, edges="none").eval()
    corrupted, hole = pictures(1)
    fused, (generated, filtered), *_ = network(corrupted, hole)
    assert (filtered - corrupted).abs().mean() < 0.1
    assert (fused - (generated * hole + corrupted + filtered * hole + corrupted) / 2).abs().mean() < 0.1


def test_uncertainty_is_stretched_over_a_picture_or_over_all() -> None:
    planes = torch.zeros(2, 27, 1, 2)
    planes[0, :, 0, 0], planes[0, :, 0, 1] = 1, 3
    planes[1, :9, 0, 1] = 3  # one colour of three: its mean is 1
    assert uncertainty(planes).flatten().tolist() == [0, 1, 0, 1]
    assert_close(uncertainty(planes, "batch").flatten(), torch.tensor([1, 3, 0, 1]) / 3)
    assert not uncertainty(torch.ones(1, 27, 4, 4)).any()
    assert uncertainty(torch.rand(1, 27, 4, 4).bfloat16()).dtype == torch.float32


@torch.no_grad()
def test_only_a_stretch_over_the_batch_lets_pictures_influence_each_other() -> None:
    corrupted, hole = pictures(2)
    for over, same in (("image", True), ("batch", False)):
        network = stirred(create("jpgnet", width=4, edges="none", uncertainty=over)).eval()
        both = network(corrupted, hole).image
        alone = torch.cat([network(corrupted[i : i + 1], hole[i : i + 1]).image for i in range(2)])
        assert torch.allclose(both, alone, atol=1e-6) == same
        assert network.batch_statistics != same


# Edges ----------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_where_the_edges_come_from() -> None:
    corrupted, hole = pictures()
    networks = {edges: stirred(create("jpgnet", width=4, edges=edges)).eval() for edges in ("predicted", "known")}
    networks["none"] = create("jpgnet", width=4, edges="none").eval()
    known = canny(gray(corrupted), 1 - hole, 2.0)
    given = {
        "predicted": networks["predicted"].edge_generator(corrupted, hole),
        "known": known,
        "none": torch.zeros_like(hole),
    }
    assert known.any()
    assert not (known * hole).any()
    for edges, network in networks.items():
        image = network(corrupted, hole).image
        assert torch.equal(network(corrupted, hole, edges=given[edges]).image, image), edges
        assert not torch.equal(network(corrupted, hole, edges=1 - given[edges]).image, image), edges
        assert (network.edge_generator is not None) == (edges == "predicted")


def test_what_the_generators_are_given() -> None:
    """Hole pixels white; the edge generator also gets Canny's edges of the known part, and the hole."""
    corrupted, hole = pictures()
    edges, seen = torch.rand_like(hole), []
    for part, more in ((ImageGenerator(4), (edges,)), (EdgeGenerator(4), ())):
        part.encoder[0].register_forward_pre_hook(lambda _m, given: seen.append(given[0][..., 3:-3, 3:-3]))
        part(corrupted, hole, *more)
    image, edge = seen
    assert torch.equal(image, torch.cat([corrupted * (1 - hole) + hole, edges], 1))
    red, green, blue = corrupted.split(1, 1)
    assert_close(edge[:, :1], (0.2125 * red + 0.7154 * green + 0.0721 * blue) * (1 - hole) + hole)
    assert torch.equal(edge[:, 1:], torch.cat([known_edges(corrupted, hole), hole], 1))


class Block(nn.Module):
    """Of the original's edge generator, from its description: spectral norm of the kind that PyTorch had then."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        convs = [nn.Conv2d(channels, channels, 3, dilation=d, bias=False) for d in (2, 1)]
        first, second = map(old_spectral_norm, convs)
        norm = nn.InstanceNorm2d(channels)
        self.conv_block = nn.Sequential(nn.ReflectionPad2d(2), first, norm, nn.ReLU(), nn.ReflectionPad2d(1), second)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv_block(x))


class TheirEdges(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        sn, norm, relu, pad = old_spectral_norm, nn.InstanceNorm2d, nn.ReLU(), nn.ReflectionPad2d(3)
        down = [sn(nn.Conv2d(w, 2 * w, 4, 2, 1)), sn(nn.Conv2d(2 * w, 4 * w, 4, 2, 1))]
        up = [sn(nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1)), sn(nn.ConvTranspose2d(2 * w, w, 4, 2, 1))]
        self.encoder = nn.Sequential(
            pad, sn(nn.Conv2d(3, w, 7)), norm(w), relu, down[0], norm(2 * w), relu, down[1], norm(4 * w), relu
        )
        self.middle = nn.Sequential(*(Block(4 * w) for _ in range(8)))
        self.decoder = nn.Sequential(up[0], norm(2 * w), relu, up[1], norm(w), relu, pad, nn.Conv2d(w, 1, 7))

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.decoder(self.middle(self.encoder(x))))


def test_an_edge_generator_under_the_old_spectral_norm_gives_the_same_and_comes_back() -> None:
    theirs = TheirEdges(4)
    corrupted, hole = pictures()
    x = torch.cat([gray(corrupted) + hole, known_edges(corrupted, hole), hole], 1)
    for _ in range(3):
        theirs(x)  # in training mode: moves its estimates
    theirs.eval()
    state = parts_of(to_original(create("jpgnet", width=4)))
    assert {n: t.shape for n, t in theirs.state_dict().items()} == {n: t.shape for n, t in state["edges"].items()}
    state["edges"] = theirs.state_dict()
    ours = from_original(state)
    with torch.no_grad():
        assert_close(ours.edge_generator(corrupted, hole), theirs(x))
    assert ours.edges == "predicted"
    back = parts_of(to_original(ours))["edges"]
    assert all(torch.equal(back[name], tensor) for name, tensor in theirs.state_dict().items())


def test_the_singular_values_are_estimated_once_for_the_same_weights() -> None:
    edges = EdgeGenerator(4).train()
    arguments = pictures()

    def estimates() -> list[Tensor]:
        return [b.clone() for b in edges.buffers()]

    def moved(before: list[Tensor]) -> bool:
        return not all(map(torch.equal, before, estimates()))

    before = estimates()
    first = edges(*arguments)
    assert moved(before)
    before = estimates()
    assert torch.equal(edges(*arguments), first)
    assert not moved(before)
    first.sum().backward()
    with torch.no_grad():
        for parameter in edges.parameters():
            parameter -= 0.1 * parameter.grad.sign() * parameter.abs().mean()
    edges(*arguments)
    assert moved(before)
    before = estimates()
    edges.eval()
    edges(*arguments)
    assert not moved(before)
    for conv in edges.convolutions()[:-1]:
        rows = conv.weight.transpose(0, 1) if isinstance(conv, nn.ConvTranspose2d) else conv.weight
        # u W v of unit vectors is at most the singular value, and near it: one step behind weights that moved by 10 %
        assert 1 - 1e-5 < torch.linalg.matrix_norm(rows.flatten(1), 2) < 1.3
        assert not conv.parametrizations.weight[0].training
    edges.train()
    edges(*arguments)
    edges(*arguments)
    assert all(conv.parametrizations.weight[0].training for conv in edges.convolutions()[:-1])


def test_an_optimizers_step_is_noticed() -> None:
    for how in ({}, {"foreach": True}, {"fused": True}):
        edges = EdgeGenerator(2).train()
        optimizer = torch.optim.Adam(edges.parameters(), 1e-2, **how)
        arguments = pictures(1)
        edges(*arguments).sum().backward()
        before = [b.clone() for b in edges.buffers()]
        optimizer.step()
        edges(*arguments)
        assert not any(map(torch.equal, before[::2], list(edges.buffers())[::2])), how


# Stages ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("generator", ["edgeconnect", "rfr"])
@torch.no_grad()
def test_stages_are_parts_of_one_network(generator: str) -> None:
    options = {"width": 8, "generator": generator}
    corrupted, hole = pictures()
    whole = stirred(create("jpgnet", **options)).eval()
    fused, (generated, filtered), *_ = whole(corrupted, hole)
    learning = {}
    for stage, expected in (("generator", generated), ("filter", filtered), ("fusion", fused)):
        network = create("jpgnet", **options, stage=stage).eval()
        assert list(network.state_dict()) == list(whole.state_dict())
        network.load_state_dict(whole.state_dict())
        prediction = network(corrupted, hole)
        assert torch.equal(prediction.image, expected), stage
        assert len(prediction.earlier) == (2 if stage == "fusion" else 0)
        learning[stage] = {name for name, p in network.named_parameters() if p.requires_grad}
        visited = []
        network(corrupted, hole, edit=lambda site, features, seen=visited: seen.append(site) or features)
        assert set(visited) == {site.name for site in network.sites}
        assert network.sites == tuple(s for s in whole.sites if s.name in visited)
    assert not learning["generator"] & learning["filter"]
    assert not (learning["generator"] | learning["filter"]) & learning["fusion"]
    everything = {name for name, p in whole.named_parameters() if p.requires_grad}
    assert learning["generator"] | learning["filter"] | learning["fusion"] == everything


def test_what_a_stage_freezes_stays_as_it_is() -> None:
    """Weights, and in training mode also running statistics and estimates of singular values."""
    for generator in ("edgeconnect", "rfr"):
        network = create("jpgnet", width=8, generator=generator, stage="fusion").train()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-2)
        prediction = network(*pictures())
        prediction.image.square().mean().backward()
        optimizer.step()
        assert not any(earlier.requires_grad for earlier in prediction.earlier)
        changed = {n.split(".")[0] for n, t in network.state_dict().items() if not torch.equal(t, before[n])}
        assert changed == {"fusion"}
        assert [m.training for _, m in network.named_children()].count(True) == 1


# Generators, sizes, memories ------------------------------------------------------------------------------------------


def test_any_generator_will_do() -> None:
    corrupted, hole = pictures()
    for generator, size, visits in (("unet", 32, 1), ("rfr", 32, 6)):
        network = create("jpgnet", width=8, generator=generator).eval()
        assert [(s.name, s.channels, s.stride) for s in network.sites] == [
            ("generator", 64, 16),
            ("filter", 64, 16),
            ("bottom", 64, 16),
        ]
        assert (network.size.multiple_of, network.size.minimum) == (16, size)
        seen = []
        generated = network(corrupted, hole, edit=lambda site, f, seen=seen: seen.append(site) or f).earlier[0]
        assert seen == ["generator"] * visits + ["filter", "bottom"]
        assert torch.equal(generated, network.generator(corrupted, hole).image)
        with pytest.raises(InputError, match="takes no edges"):
            network(corrupted, hole, edges=hole)
        with pytest.raises(InputError, match="takes none"):
            create("jpgnet", width=8, generator=generator, edges="known")


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="width must be at least 1"):
        create("jpgnet", width=0)
    for name in ("generator", "edges", "uncertainty", "stage"):
        # ours, or that of the shape checks that run while testing
        with pytest.raises(Exception, match=f"{name} must be one of|parameter '{name}'"):
            create("jpgnet", **{name: "telea"})


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small() -> JPGNet:
    torch.manual_seed(1)
    return stirred(create("jpgnet", width=4)).eval()


def test_parts_are_recognised(small: JPGNet) -> None:
    parts = parts_of(to_original(small))
    assert tuple(parts) == PARTS
    for part, state in parts.items():
        assert recognise_part(state) == part
        assert recognise_part({"iteration": 3, "generator": state}) == part
    rfr = parts_of(to_original(create("jpgnet", width=8, generator="rfr")))["generator"]
    assert recognise_part({"n_iter": 1, "generator": rfr, "optimizer_G": {}}) == "generator"
    for other in ({}, {"encoder0.1.weight": torch.zeros(4, 4, 7, 7)}, {"conv1.weight": torch.zeros(64, 3, 4, 4)}):
        with pytest.raises(InputError, match="one of JPGNet's parts"):
            recognise_part(other)
    with pytest.raises(InputError, match="one of JPGNet's parts"):
        recognise_part(parts)


def test_every_form_of_a_checkpoint_gives_the_same_network(small: JPGNet) -> None:
    flat = to_original(small)
    parts = parts_of(flat)
    forms = {
        "flat": flat,
        "nested": parts,
        "nested, names with their part": {p: {f"{p}.{n}": t for n, t in s.items()} for p, s in parts.items()},
        "containers": {p: {"iteration": 7, "generator": s} for p, s in parts.items()},
    }
    arguments = pictures(1)
    expected = small(*arguments).image
    for form, state in forms.items():
        network = from_original(state)
        assert not network.training
        assert torch.equal(network(*arguments).image, expected), form
        assert (network.edges, network.uncertainty) == ("predicted", "batch")
        assert to_original(network).keys() == flat.keys()


def test_options_and_what_is_left_out(small: JPGNet) -> None:
    parts = parts_of(to_original(small))
    assert from_original(parts, edges="none", uncertainty="image", stage="fusion").options == {
        "width": 4,
        "generator": "edgeconnect",
        "edges": "none",
        "uncertainty": "image",
        "stage": "fusion",
    }
    del parts["edges"]
    assert from_original(parts).edges == "known"
    with pytest.raises(InputError, match=r"missing  edges\.encoder\.1\.weight_orig"):
        from_original(parts, edges="predicted")


def test_what_does_not_fit_is_refused(small: JPGNet) -> None:
    flat = to_original(small)
    with pytest.raises(InputError, match="filter, fusion missing"):
        from_original({n: t for n, t in flat.items() if n.startswith("generator.")})
    strange = {**flat, "fusion.extra": torch.zeros(1), "fusion.outc.bias": torch.zeros(3)}
    del strange["filter.outc.bias"]
    with pytest.raises(InputError, match="1 missing, 1 surplus, 1 of another shape"):
        from_original(strange)
    with pytest.raises(InputError, match=r"got discriminator, fusion\.outc\.bias\. Give"):
        from_original({**flat, "discriminator": {}, "fusion.outc.bias": [1.0]})
    with pytest.raises(InputError, match="no JPGNet with our 'unet'"):
        to_original(create("jpgnet", width=4, generator="unet"))


def test_the_smallest_picture_is_of_16_pixels() -> None:
    network = create("jpgnet", width=4)
    assert [(s.name, s.channels, s.stride) for s in network.sites] == [
        ("generator", 16, 4),
        ("filter", 32, 16),
        ("bottom", 32, 16),
    ]
    assert network.size.minimum == 16
    corrupted = torch.rand(1, 3, 16, 16)
    assert torch.isfinite(network(corrupted, F.pad(torch.ones(1, 1, 8, 8), (4, 4, 4, 4))).image).all()
