"""LaMa: the original's outputs, names and counts; its sites; what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cicm.assembly import ModelConfig, build
from cicm.conventions import InputError
from cicm.memory import MemoryConfig
from cicm.networks import create
from cicm.networks.lama import LaMa, from_original, to_original

COUNTS = {"lama_fourier": (9, 27_048_835, 521), "lama_big": (18, 50_975_875, 989)}


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
@torch.no_grad()
def test_it_gives_what_the_original_gave_and_its_names_come_back(oracles, name: str) -> None:
    """1e-5 of the largest value: float32, and sums in another order; measured 2e-6."""
    state = oracles.state(name)
    network = from_original(state)
    blocks, parameters, entries = COUNTS[name]
    assert network.options == {"width": 64, "blocks": blocks}
    assert sum(p.numel() for p in network.parameters()) == parameters
    back = to_original(network)
    assert back.keys() == state.keys()
    assert len(back) == entries
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())
    for case in ("a", "b"):
        stored = oracles.outputs(f"{name}.{case}")
        image, hole = oracles.picture(stored)
        seen: dict[str, Tensor] = {}
        output = network(image * (1 - hole), hole, edit=lambda site, f, seen=seen: seen.update({site: f}) or f).image
        assert oracles.error(output, stored["output"]) < 1e-5
        for site, place in (("bottom", "down"), ("blocks", "block_last")):
            near, far = seen[site].mean((2, 3)).split((128, 384), 1)
            assert oracles.error(near, stored[f"{place}_local_mean"]) < 1e-5
            assert oracles.error(far, stored[f"{place}_global_mean"]) < 1e-5


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(LaMa(2, blocks=2))
    assert from_original(state).options == {"width": 2, "blocks": 2}
    with pytest.raises(InputError, match=r"shape    model\.2\.ffc\.convl2l\.weight"):
        from_original(state, width=3)
    fewer = {name: tensor for name, tensor in state.items() if not name.startswith("model.6.conv1.ffc.convg2g")}
    with pytest.raises(InputError, match=r"missing  model\.6\.conv1\.ffc\.convg2g\.fu\.conv_layer\.weight"):
        from_original(fewer)
    for wrong in ({"model.1.weight": torch.zeros(1)}, {**state, "model.1.bn_l.bias": "text"}):
        with pytest.raises(InputError, match=r"model\.1\.ffc\.convl2l\.weight.*lama-regular"):
            from_original(wrong)
    for bad in ({"width": 0}, {"blocks": 0}):
        with pytest.raises(InputError, match="at least 1"):
            LaMa(**bad)


def test_the_minimum_is_the_true_one() -> None:
    network = LaMa(2, blocks=1).eval()
    assert (network.size.multiple_of, network.size.minimum) == (8, 16)
    network(torch.rand(1, 3, 16, 24), torch.zeros(1, 1, 16, 24))
    network.size = type(network.size)(8, 8)
    with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
        network(torch.rand(1, 3, 8, 24), torch.zeros(1, 1, 8, 24))


@torch.no_grad()
def test_a_memory_of_both_halves_changes_nothing_until_it_is_seeded() -> None:
    """A released network can be given one; afterwards what it reads reaches the picture."""
    torch.manual_seed(2)
    alone = create("lama", width=4, blocks=2).eval()
    for site in ("bottom", "blocks"):
        model = build(ModelConfig("lama", {"width": 4, "blocks": 2}, {site: MemoryConfig(sets=2, contexts=3)})).eval()
        model.network.load_state_dict(alone.state_dict())
        hole = torch.zeros(1, 1, 32, 48)
        hole[..., 8:24, 8:32] = 1
        corrupted = torch.rand(1, 3, 32, 48) * (1 - hole)
        before = alone(corrupted, hole).image
        assert torch.equal(model(corrupted, hole).prediction.image, before)
        memory = model.memories[site]
        assert memory.channels == 32
        memory.seed_(torch.rand(40, 32), torch.Generator().manual_seed(1))
        assert not torch.equal(model(corrupted, hole).prediction.image, before)


def test_it_learns_two_pictures() -> None:
    """Its batch norms see both pictures. Far better, inside the hole, than the mean of what is known."""
    network = create("lama", width=6, blocks=2)
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    image = torch.stack([torch.stack([x, y, x * y]), torch.stack([1 - y, x * x, (x + y) / 2])])
    hole = torch.zeros(2, 1, 32, 32)
    hole[..., 8:20, 10:24] = 1
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(80):
        loss = F.l1_loss(network(image * (1 - hole), hole).image, image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = network(image * (1 - hole), hole).image
    inside = hole.expand_as(image) > 0
    mean = (image * (1 - hole)).sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
    assert (found - image)[inside].abs().mean() < 0.5 * (mean - image)[inside].abs().mean()
