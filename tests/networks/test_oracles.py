"""What the original code gave is what ours gives, under the parameters and for the pictures that it was given."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from cicm.networks import InpaintingNetwork
from cicm.networks.originals import original_code, original_shapes

pytestmark = pytest.mark.shared
NAMES = ["jpgnet", "misf", "rfr"]
CASES = ["a", "b"]


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    if not (shared / "oracles" / "inputs.py").exists():
        pytest.skip("no outputs of the original networks beside this clone")
    return shared / "oracles"


@pytest.fixture(scope="module")
def rules(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle_inputs", folder / "inputs.py")
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


@pytest.fixture(scope="module", params=NAMES)
def original(request: pytest.FixtureRequest, folder: Path, rules: ModuleType) -> tuple[str, dict, InpaintingNetwork]:
    """A network of the original's size, with parameters under its original names."""

    def parameter(name: str, shape: list[int]) -> Tensor:
        if name.endswith("num_batches_tracked"):
            return torch.tensor(0)
        return torch.from_numpy(rules.parameter(name, tuple(shape)))

    keys = json.loads((folder / f"{request.param}.keys.json").read_text())
    state = {
        key: {n: parameter(n, shape) for n, shape in value.items()}
        if isinstance(value, dict)
        else parameter(key, value)
        for key, value in keys.items()
    }
    return request.param, state, original_code(request.param).from_original(state)


def outputs(name: str, network: InpaintingNetwork, corrupted: Tensor, hole: Tensor, edges: Tensor) -> dict[str, Tensor]:
    """Under the names that the original's outputs are stored with."""
    if name != "jpgnet":
        last: dict[str, Tensor] = {}
        image = network(corrupted, hole, edit=lambda site, f: last.update({site: f}) or f).image
        return {"output": image} | ({"enc_6": last["bottom"], "dec_4": last["dec_4"]} if name == "rfr" else {})
    whole = network(corrupted, hole, edges=edges)
    # and put together from its parts, composites and uncertainty written out
    generated = network.generator(corrupted, hole, edges)
    filtered, kernels = network.filter(corrupted, corrupted)
    both = torch.cat([generated * hole + corrupted, filtered * hole + corrupted], 1)
    mean = kernels.mean(1, keepdim=True)
    stretched = (mean - mean.min()) / (mean.max() - mean.min())
    return {
        "generator": whole.earlier[0],
        "filtered": whole.earlier[1],
        "fused": whole.image,
        "kernels_mean": kernels.mean((2, 3)),
        "fused, by its parts": network.fusion(torch.cat([both, kernels, stretched], 1), both)[0],
    }


@torch.no_grad()
def test_it_gives_what_the_original_gave(
    folder: Path, rules: ModuleType, original: tuple[str, dict, InpaintingNetwork]
) -> None:
    """1e-5 of the largest value: float32, and the order of sums is another one; measured 6e-7."""
    name, _, network = original
    for case in CASES:
        stored = np.load(folder / f"{name}.{case}.npz")
        seed, shape = int(stored["seed"]), stored["shape"].tolist()
        hole = torch.from_numpy(rules.hole(seed, *shape))
        corrupted = torch.from_numpy(rules.image(seed, *shape)) * (1 - hole)
        edges = (torch.from_numpy(rules.image(seed + 500, *shape))[:, :1] > 0.6).float()
        found = outputs(name, network, corrupted, hole, edges)
        assert {key.split(",")[0] for key in found} == set(stored.files) - {"seed", "shape"}
        for key, tensor in found.items():
            expected = torch.from_numpy(stored[key.split(",")[0]])
            assert (tensor - expected).abs().max() < 1e-5 * expected.abs().max(), f"{key} of case {case}"


def test_names_shapes_and_values_come_back(original: tuple[str, dict, InpaintingNetwork]) -> None:
    name, state, network = original
    parts = state if name == "jpgnet" else {"": state}
    shapes = original_shapes(name)
    back = original_code(name).to_original(network)
    assert back.keys() == {key for part in parts.values() for key in part}
    for part, tensors in parts.items():
        bare = {key.removeprefix(f"{part}."): tensor for key, tensor in tensors.items()}
        assert {key: tuple(tensor.shape) for key, tensor in bare.items()} == shapes[part]
        assert all(torch.equal(back[key], tensor) for key, tensor in tensors.items())
    if name == "jpgnet":
        assert (network.edges, network.uncertainty, network.options["width"]) == ("known", "batch", 64)
