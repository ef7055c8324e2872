"""MI-GAN: the original's outputs in both forms, its judge, names and counts; its blurs as the definition has them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from cicm.conventions import InputError
from cicm.networks.migan import (
    MIGAN,
    MIGANDiscriminator,
    activated,
    blur,
    enlarged,
    folded,
    from_original,
    reduced,
    to_original,
)
from cicm.networks.originals import Misfit

BAR = 1e-5
"""Of the largest value: float32, sums in another order; measured 9e-7, and 1.5e-6 in the training form."""


@pytest.fixture(scope="module")
def rules(shared: Path) -> ModuleType:
    """The rules that parameters, pictures and holes of the stored outputs were made by."""
    folder = shared / "oracles"
    if not (folder / "migan.keys.json").exists():
        pytest.skip("no outputs of the original networks beside this clone")
    sys.path.insert(0, str(folder))
    try:
        module = importlib.import_module("filling")
        module.inputs = importlib.import_module("inputs")  # type: ignore[attr-defined]
    finally:
        sys.path.remove(str(folder))
    return module


def filled(rules: ModuleType, name: str) -> dict[str, Tensor]:
    return {key: torch.from_numpy(value) for key, value in rules.state(name).items()}


def case_of(rules: ModuleType, shared: Path, name: str) -> tuple[dict[str, np.ndarray], Tensor, Tensor]:
    stored = dict(np.load(shared / "oracles" / f"{name}.npz"))
    seed, shape = int(stored["seed"]), stored["shape"].tolist()
    return stored, *(torch.from_numpy(make(seed, *shape)) for make in (rules.inputs.image, rules.inputs.hole))


def away(found: Tensor, stored: np.ndarray) -> float:
    return float(np.abs(found.numpy() - stored).max() / np.abs(stored).max())


# The original ---------------------------------------------------------------------------------------------------------


@pytest.mark.shared
@pytest.mark.parametrize("name", ["migan.a", "migan.b", "migan512.a"])
@torch.no_grad()
def test_it_gives_what_the_original_gave(rules: ModuleType, shared: Path, name: str) -> None:
    state = filled(rules, name.split(".")[0])
    network = from_original(state)
    stored, image, hole = case_of(rules, shared, name)
    maps: dict[str, Tensor] = {}
    found = network(image * (1 - hole), hole, edit=lambda site, f: maps.update({site: f}) or f).image
    step = int(stored["step"])
    assert away(2 * found[..., ::step, ::step] - 1, stored["output"]) < BAR
    for side in (64, 32, 16):
        assert away(maps[f"skip{side}"].mean((2, 3)), stored[f"encoder_b{side}_mean"]) < BAR
    back = to_original(network)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())


@pytest.mark.shared
@torch.no_grad()
def test_the_training_form_and_the_judge_give_what_the_originals_gave(rules: ModuleType, shared: Path) -> None:
    state = filled(rules, "migan64_training")
    network = from_original(state)
    assert dict(network.options) == {"side": 64, "width": 512, "tensors": 9, "noise": "stored"}
    stored, image, hole = case_of(rules, shared, "migan64_training.a")
    found = network(image * (1 - hole), hole)
    assert away(2 * found.image - 1, stored["output"]) < BAR
    assert away(2 * folded(network)(image * (1 - hole), hole).image - 1, stored["output"]) < BAR
    pictures = [2 * picture - 1 for picture in found.earlier]
    for below, picture in zip([None, *pictures], pictures):
        colours = picture if below is None else picture - enlarged(below)
        assert away(colours[:1], stored[f"rgb{picture.shape[-1]}"]) < BAR
    back = to_original(network)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[key], tensor) for key, tensor in state.items())

    judge = MIGANDiscriminator(64)
    held = filled(rules, "migan64_training_d")
    judge.load_state_dict({f"blocks.{key}": t for key, t in held.items() if not key.endswith("resample_filter")})
    composite = found.image * hole + image * (1 - hole)
    assert away(judge(image, hole), stored["logit_real"]) < BAR
    assert away(judge(composite, hole), stored["logit_fake"]) < BAR
    assert away(judge(image, 1 - hole), stored["logit_real"]) > 1e-3  # so that the hole's polarity counts

    for module in network.modules():
        if getattr(module, "noise_strength", None) is not None:
            module.noise_strength.zero_()
    silent = network(image * (1 - hole), hole).image
    assert away(2 * silent[:1] - 1, stored["output_no_noise"]) < BAR
    assert away(2 * silent[:1] - 1, stored["output"][:1]) > 1e-3  # so that the noise counts


@pytest.mark.parametrize(("side", "count", "blurs"), [(256, 5_943_617, 78_112), (512, 5_973_366, 80_208)])
def test_the_counts_are_the_originals(side: int, count: int, blurs: int) -> None:
    with torch.device("meta"):
        network = MIGAN(side)
        state = to_original(network)
    kernels = sum(tensor.numel() for name, tensor in state.items() if name.endswith("filter.weight"))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert (parameters + kernels, kernels) == (count, blurs)
    assert len(state) == {256: 154, 512: 177}[side]
    with torch.device("meta"):
        judge = sum(parameter.numel() for parameter in MIGANDiscriminator(side).parameters())
    assert round(judge / 1e6, 1) == {256: 39.0, 512: 39.2}[side]


def test_what_does_not_fit_is_refused() -> None:
    state = to_original(MIGAN(16, 4))
    with pytest.raises(Misfit, match=r"missing  encoder\.b8\.conv1\.conv2\.weight"):
        from_original({key: t for key, t in state.items() if key != "encoder.b8.conv1.conv2.weight"})
    with pytest.raises(InputError, match="fixed kernel"):
        from_original({**state, "synthesis.b8.upsample.filter.weight": torch.ones(3, 1, 4, 4)})
    with pytest.raises(InputError, match="lacks 1 fixed"):
        from_original({key: t for key, t in state.items() if key != "synthesis.b8.upsample.filter_const"})
    for wrong in ({}, {"weight": torch.ones(2)}, {**state, "encoder.b8.fromrgb.bias": torch.ones(2)}):
        with pytest.raises(InputError, match="published names"):
            from_original(wrong)
    for options in ({"side": 48}, {"side": 8}, {"width": 0}, {"tensors": 1}):
        with pytest.raises(InputError, match=next(iter(options))):
            MIGAN(**options)


# Layers ---------------------------------------------------------------------------------------------------------------


def test_the_blurs_are_their_definitions() -> None:
    """Zeros between the values, or every second value; a 4x4 filter written out; odd sizes too."""
    x = torch.randn(2, 3, 6, 10, dtype=torch.float64)
    kernel = blur(x)
    padded = F.pad(x, (1, 1, 1, 1))
    half = torch.zeros(2, 3, 3, 5, dtype=torch.float64)
    for i in range(3):
        for j in range(5):
            half[..., i, j] = (padded[..., 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] * kernel).sum((-2, -1))
    assert_close(reduced(x), half)
    between = torch.zeros(2, 3, 12, 20, dtype=torch.float64)
    between[..., ::2, ::2] = x
    between = F.pad(between, (2, 1, 2, 1))
    double = torch.zeros(2, 3, 12, 20, dtype=torch.float64)
    for i in range(12):
        for j in range(20):
            double[..., i, j] = (between[..., i : i + 4, j : j + 4] * kernel).sum((-2, -1)) * 4
    assert_close(enlarged(x), double)


def test_an_activation_is_the_same_with_and_without_gradients() -> None:
    x = torch.tensor([-1e6, -3.0, 0.0, 2.0, 1e6])
    expected = torch.tensor([-256.0, -0.6 * 2**0.5, 0.0, 2 * 2**0.5, 256.0]) * 0.5
    assert_close(activated(x, 0.5), expected)
    with torch.no_grad():
        assert_close(activated(x.clone(), 0.5), expected)


def test_a_kernel_of_several_tensors_has_length_1_and_folding_changes_nothing() -> None:
    network = MIGAN(32, 8, tensors=3).eval()
    kernel = network.encoder["b32"]["conv1"].conv2.kernel()
    assert_close(kernel.square().sum((1, 2, 3)), torch.ones(8))
    hole = (torch.rand(2, 1, 32, 32) < 0.4).float()
    corrupted = torch.rand(2, 3, 32, 32) * (1 - hole)
    assert_close(folded(network)(corrupted, hole).image, network(corrupted, hole).image)


def test_fresh_noise_is_drawn_in_training_alone() -> None:
    network = MIGAN(32, 8, noise="fresh")
    with torch.no_grad():
        network.synthesis["b32"]["conv2"].noise_strength.fill_(1.0)
    arguments = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    assert not torch.equal(network(*arguments).image, network(*arguments).image)
    network.eval()
    assert torch.equal(network(*arguments).image, network(*arguments).image)


# The judge ------------------------------------------------------------------------------------------------------------


def test_the_judge_tells_groups_of_four_apart() -> None:
    """Pictures i, i + n/4, ... are one group; a picture of another group does not matter."""
    judge = MIGANDiscriminator(16, 8, tensors=2)
    images, holes = torch.rand(8, 3, 16, 16), torch.zeros(8, 1, 16, 16)
    other = images.clone()
    other[1] = torch.rand_like(other[1])
    changed = (judge(images, holes) != judge(other, holes)).flatten()
    assert changed.tolist() == [False, True] * 4
    with pytest.raises(InputError, match="multiple of 4; got 6"):
        judge(images[:6], holes[:6])
