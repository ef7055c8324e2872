"""SPG-Net: the unofficial port's outputs, names and counts; what it does with labels; what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.networks.spg import ScaledDiscriminator, SPGDiscriminator, SPGNet, from_original, to_original

COUNTS = {"spg8": 96_016_715, "spg12": 96_054_351, "spg35": 96_270_758}


@pytest.mark.shared
@pytest.mark.parametrize("name", COUNTS)
@torch.no_grad()
def test_it_gives_what_the_port_gave_and_its_names_come_back(oracles, name: str) -> None:
    """1e-5 of the largest value: float32, and sums in another order; measured 6e-7."""
    state, stored = oracles.state(name), oracles.outputs(f"{name}.a")
    classes = int(stored["classes"])
    network = from_original(state)
    assert network.options == {"width": 64, "blocks": 9, "classes": classes}
    assert sum(p.numel() for p in network.parameters()) == COUNTS[name]
    back = to_original(network)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())

    seen: dict[str, Tensor] = {}
    network.labeller.bottle_neck[-1].register_forward_hook(lambda _m, _i, out: seen.update(sp_bottleneck=out))
    network.painter.bottle_neck[-1].register_forward_hook(lambda _m, _i, out: seen.update(sg_bottleneck=out))
    network.painter.up.register_forward_hook(lambda _m, _i, out: seen.update(sg_up=out))
    image, hole = oracles.picture(stored)
    numbers = oracles.layers.labels(int(stored["seed"]), *stored["shape"].tolist(), classes)
    labels = torch.from_numpy(oracles.layers.one_hot(numbers, classes))

    def edit(site: str, features: Tensor) -> Tensor:
        return seen.update({"sp_down": features}) or features if site == "labels" else features

    prediction = network(image * (1 - hole), hole, labels=labels, edit=edit)
    logits = prediction.maps["labels"]
    found = logits.softmax(1)
    ours = {"output": prediction.image * 2 - 1, "segmentation": found[..., ::2, ::2] if classes == 35 else found}
    ours |= {f"{key}_mean": tensor.mean((2, 3)) for key, tensor in (seen | {"sp_logits": logits}).items()}
    assert ours.keys() == stored.keys() - {"seed", "shape", "classes"}
    errors = {key: oracles.error(tensor, stored[key]) for key, tensor in ours.items()}
    assert max(errors.values()) < 1e-5, errors


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["seg", "img"])
@torch.no_grad()
def test_its_discriminators_give_what_the_ports_gave(oracles, kind: str) -> None:
    state, stored = oracles.state(f"spg8_d_{kind}"), oracles.outputs(f"spg8_d_{kind}.a")
    image = oracles.picture(stored)[0] * 2 - 1
    if kind == "seg":
        numbers = oracles.layers.labels(int(stored["seed"]), *stored["shape"].tolist(), 8)
        image = torch.from_numpy(oracles.layers.one_hot(numbers, 8))
    judge = ScaledDiscriminator(image.shape[1], 64).eval()

    def theirs(name: str) -> str:
        _, scale, rest = name.split(".", 2)
        layer, leaf = ("3", f"0.{rest[5:]}") if rest.startswith("last.") else rest.removeprefix("layers.").split(".", 1)
        return f"D_{kind}.discriminator_{scale}.model{layer}.{leaf}"

    judge.load_state_dict({name: state[theirs(name)] for name in judge.state_dict()})
    assert {theirs(name) for name in judge.state_dict()} == state.keys()
    found = {}
    for scale, (logits, maps) in enumerate(judge(image)):
        found[f"scale{scale}"] = logits
        found |= {f"scale{scale}_feature{i}_mean": m.mean((2, 3)) for i, m in enumerate(maps)}
    assert found.keys() == stored.keys() - {"seed", "shape"}
    errors = {key: oracles.error(tensor, stored[key]) for key, tensor in found.items()}
    assert max(errors.values()) < 1e-5, errors


def test_all_scales_of_picture_and_labels_count_alike() -> None:
    judge = SPGDiscriminator(4, classes=5).eval()
    image, labels = torch.rand(2, 3, 32, 48), torch.rand(2, 5, 32, 48)
    together = judge(torch.cat([image, labels], 1))
    (picture, _), *_ = judge.picture(image * 2 - 1)
    (said, _), *_, (coarsest, _) = judge.labels(labels)
    assert together.shape == (2, 6, *picture.shape[-2:])
    assert torch.equal(together[:, :1], picture)
    assert torch.equal(together[:, 3:4], said)
    assert set(together[:, 5].unique().tolist()) == set(coarsest.unique().tolist())


@pytest.fixture
def small() -> tuple[SPGNet, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    hole = torch.zeros(2, 1, 32, 48)
    hole[..., 8:24, 8:32] = 1
    labels = torch.eye(5)[torch.randint(5, (2, 32, 48))].permute(0, 3, 1, 2)
    return SPGNet(4, blocks=1, classes=5).eval(), torch.rand(2, 3, 32, 48) * (1 - hole), hole, labels


def test_known_labels_matter_and_those_in_the_hole_are_not_seen(small) -> None:
    network, corrupted, hole, labels = small
    told, alone = (network(corrupted, hole, labels=given) for given in (labels, None))
    assert not torch.equal(told.image, alone.image)
    assert not torch.equal(told.maps["labels"], alone.maps["labels"])
    turned = labels * (1 - hole) + labels.roll(1, 1) * hole
    assert torch.equal(network(corrupted, hole, labels=turned).image, told.image)
    assert torch.equal(network(corrupted, hole, labels=labels * 0).image, alone.image)


def test_the_picture_teaches_the_painter_alone(small) -> None:
    """As in the port: the completed labels guide without a gradient."""
    network, corrupted, hole, labels = small
    network(corrupted, hole, labels=labels).image.sum().backward()
    assert all(p.grad is None for p in network.labeller.parameters())
    assert all(p.grad is not None for p in network.painter.parameters())


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(SPGNet(2, blocks=2, classes=3))
    assert from_original(state).options == {"width": 2, "blocks": 2, "classes": 3}
    with pytest.raises(InputError, match=r"shape    SPNet\.down\.1\.weight"):
        from_original(state, classes=4)
    with pytest.raises(InputError, match=r"missing  SGNet\.up\.0\.weight"):
        from_original({name: tensor for name, tensor in state.items() if name != "SGNet.up.0.weight"})
    for wrong in ({"down.1.weight": torch.zeros(1)}, {**state, "SPNet.out.1.bias": "text"}):
        with pytest.raises(InputError, match=r"both networks of the port of SPG-Net"):
            from_original(wrong)
    for name in ("width", "blocks", "classes"):
        with pytest.raises(InputError, match=f"{name} must be at least 1"):
            SPGNet(**{"width": 2, name: 0})


def test_the_minimum_is_the_true_one() -> None:
    network = SPGNet(2, blocks=1, classes=2).eval()
    assert (network.size.multiple_of, network.size.minimum) == (16, 32)
    network(torch.rand(1, 3, 32, 48), torch.zeros(1, 1, 32, 48))
    network.size = type(network.size)(16, 16)
    with pytest.raises(RuntimeError, match=r"[Pp]adding size"):
        network(torch.rand(1, 3, 16, 48), torch.zeros(1, 1, 16, 48))
