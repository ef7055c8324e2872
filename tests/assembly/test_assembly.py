"""A network with its memories: what meets where, and what comes out."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.testing import assert_close

from cicm.assembly import MemoryInpainter, ModelConfig, build
from cicm.conventions import InputError
from cicm.memory import ContextMemory, ConvolutionControl, MemoryConfig, pixel_ratio
from cicm.networks import FeatureSite, InpaintingNetwork, Prediction, SizeRule, create
from cicm.ops import complete_cells, missing_share

SMALL = MemoryConfig(sets=2, contexts=3)


def model(*sites: str, **changes) -> MemoryInpainter:
    config = MemoryConfig(**{"sets": 2, "contexts": 3, **changes})
    made = build(ModelConfig("unet", {"width": 4}, dict.fromkeys(sites or ("bottom",), config)))
    for memory in made.memories.values():
        memory.seed_(torch.rand(40, memory.channels), torch.Generator().manual_seed(0))
    return made


def batch(height: int = 32, width: int = 48, count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    hole = torch.zeros(count, 1, height, width)
    hole[..., 3:20, 5:29] = 1
    return torch.rand(count, 3, height, width) * (1 - hole), hole


@pytest.mark.parametrize("sites", [(), ("bottom",), ("down1", "down2", "down3", "bottom")])
@pytest.mark.parametrize("autocast", [False, True])
def test_the_composite_is_the_input_outside_the_hole_bit_for_bit(sites: tuple[str, ...], autocast: bool) -> None:
    corrupted, hole = batch()
    made = model(*sites)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        result = made(corrupted, hole)
    inside = (hole > 0).expand_as(corrupted)
    assert torch.equal(result.composite[~inside], corrupted[~inside])
    assert torch.equal(result.composite[inside], result.prediction.image.float()[inside])
    assert result.composite.dtype == corrupted.dtype


def test_each_memory_reads_its_own_site_once() -> None:
    for sites in (("bottom",), ("down2", "bottom")):
        made = model(*sites)
        result = made(*batch())
        assert list(result.reads) == list(sites), sites
        for name, reads in result.reads.items():
            site = made.network.site(name)
            assert [r.features.shape for r in reads] == [(2, site.channels, 32 // site.stride, 48 // site.stride)], (
                sites
            )
            assert len(reads[0].regions) == 2 * 32 * 48 // site.stride**2, sites


def test_a_memory_changes_the_prediction_and_gets_a_gradient_back() -> None:
    made = model(ratio="full")
    corrupted, hole = batch()
    result = made(corrupted, hole)
    assert not torch.equal(result.prediction.image, made.network(corrupted, hole).image)
    # behind a full ratio only the context goes on, and its weights depend on the features
    result.composite.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in made.network.bottom.parameters())


def test_forwards_leave_every_bit_of_the_model() -> None:
    made = model("down3", "bottom")
    before = {name: tensor.clone() for name, tensor in made.state_dict().items()}
    for mode in (True, False):
        made.train(mode)(*batch())
    assert all(torch.equal(before[name], tensor) for name, tensor in made.state_dict().items())


def test_the_memory_of_a_copy_is_its_own() -> None:
    made = model()
    twin = copy.deepcopy(made)
    corrupted, hole = batch()
    read = twin(corrupted, hole).reads["bottom"]
    complete = complete_cells(missing_share(hole, (2, 3)))
    memory = twin.memories["bottom"]
    assert complete.any()
    memory.commit(memory.pending(read, [complete]))
    assert not torch.equal(twin.memories["bottom"].contexts, made.memories["bottom"].contexts)
    assert_close(made(corrupted, hole).composite, model_like(made)(corrupted, hole).composite, rtol=0, atol=0)


def model_like(made: MemoryInpainter) -> MemoryInpainter:
    other = model()
    other.load_state_dict(made.state_dict())
    return other


def test_the_true_ratio_comes_from_the_hole() -> None:
    corrupted, hole = batch()
    (read,) = model(ratio="true")(corrupted, hole).reads["bottom"]
    assert torch.equal(read.ratio, missing_share(hole, (2, 3)).reshape(-1))
    complete = read.ratio == 0
    assert complete.any()
    assert not complete.all()
    ours = read.features.permute(0, 2, 3, 1).reshape(len(read.ratio), -1)
    assert torch.equal(ours[complete], read.regions[complete])
    assert not torch.equal(ours[~complete], read.regions[~complete])


def test_pixel_ratio_is_zero_exactly_where_nothing_is_missing() -> None:
    image = 0.2 + 0.8 * torch.rand(2, 3, 32, 48)
    _, hole = batch()
    cells = pixel_ratio(image * (1 - hole), image, (2, 3))
    assert torch.equal(cells == 0, complete_cells(missing_share(hole, (2, 3))))
    assert cells.view(2, -1).amax(1).tolist() == [1, 1]


class Recurrent(InpaintingNetwork):
    """Visits its only site three times, as RFR does."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.head = torch.nn.Conv2d(4, 8, 4, 4), torch.nn.Conv2d(8, 48, 1)
        self.sites, self.size = (FeatureSite("map", 8, 4),), SizeRule(4)

    def forward(self, corrupted, hole, *, edit=lambda _site, features: features) -> Prediction:
        features = self.down(torch.cat([corrupted, hole], 1))
        for _ in range(3):
            features = edit("map", features)
        return Prediction(torch.nn.functional.pixel_shuffle(self.head(features), 4))


def test_a_network_may_visit_a_site_several_times() -> None:
    memory = ContextMemory(8, MemoryConfig(sets=2, contexts=3, ratio="full"))
    memory.seed_(torch.randn(40, 8), torch.Generator().manual_seed(0))
    corrupted, hole = batch(8, 8)
    reads = MemoryInpainter(Recurrent(), {"map": memory})(corrupted, hole).reads["map"]
    assert len(reads) == 3
    assert torch.equal(reads[1].regions, reads[0].context)  # each visit reads what the one before gave


# Building -------------------------------------------------------------------------------------------------------------


def test_sites_and_channels_must_fit() -> None:
    unet = create("unet", width=4)
    with pytest.raises(InputError, match="no site 'botom'; it has down1, down2, up2, down3, up3, bottom"):
        MemoryInpainter(unet, {"botom": ContextMemory(32, SMALL)})
    with pytest.raises(InputError, match=r"'bottom' has 32 channels; got a memory for 16.*ContextMemory\(32"):
        MemoryInpainter(unet, {"bottom": ContextMemory(16, SMALL)})


def test_build_gives_the_channels_of_each_site_and_the_control_that_is_asked_for() -> None:
    config = ModelConfig(
        "unet", {"width": 4}, {"down1": SMALL, "bottom": MemoryConfig(sets=2, contexts=3, kind="convolution")}
    )
    made = build(config)
    assert {name: memory.channels for name, memory in made.memories.items()} == {"down1": 8, "bottom": 32}
    assert isinstance(made.memories["bottom"], ConvolutionControl)
    assert not isinstance(made.memories["down1"], ConvolutionControl)
    torch.manual_seed(3)
    one = build(config)
    torch.manual_seed(3)
    other = build(config)
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_configuration_survives_plain_data() -> None:
    config = ModelConfig(
        "unet", {"width": 4, "start": "smooth"}, {"bottom": SMALL, "down2": MemoryConfig(blend="paper")}
    )
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert ModelConfig.from_dict({}) == ModelConfig()


def test_unknown_keys_name_the_nearest_known_one() -> None:
    for data, words in (
        ({"netwrok": "unet"}, "unknown key 'netwrok'; did you mean 'network'"),
        ({"memories": {"bottom": {"set": 3}}}, "'memories.bottom.set'; did you mean 'memories.bottom.sets'"),
        ({"memories": {"bottom": {"zzz": 3}}}, "unknown key 'memories.bottom.zzz'"),
    ):
        with pytest.raises(InputError, match=words):
            ModelConfig.from_dict(data)
