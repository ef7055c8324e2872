"""MISF: the original's outputs, names and counts; its channel stretch; the way it trains and compiles."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
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
from cicm.networks import create
from cicm.networks.misf import MISF, STRETCH, TAPS, from_original, rename, to_original
from cicm.ops import filter_pixels


def batch(count: int = 2, height: int = 16, width: int = 24) -> tuple[Tensor, Tensor]:
    hole = (torch.rand(count, 1, height, width) < 0.3).float()
    return torch.rand(count, 3, height, width) * (1 - hole), hole


# The original ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracles(request: pytest.FixtureRequest) -> Path:
    folder = request.getfixturevalue("shared") / "oracles"
    if not folder.is_dir():
        pytest.skip("no oracles in ../shared")
    return folder


@pytest.fixture(scope="module")
def rules(oracles: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("oracle_inputs", oracles / "inputs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def published(oracles: Path, rules: ModuleType) -> dict[str, Tensor]:
    """Parameters under the original's names, filled by the rule of the oracles."""
    shapes = json.loads((oracles / "misf.keys.json").read_text())
    return {name: torch.from_numpy(rules.parameter(name, tuple(shape))) for name, shape in shapes.items()}


@pytest.mark.shared
@pytest.mark.parametrize("case", ["a", "b"])
def test_it_gives_what_the_original_gives(oracles: Path, rules: ModuleType, published: dict, case: str) -> None:
    stored = np.load(oracles / f"misf.{case}.npz")
    seed, shape = int(stored["seed"]), tuple(int(side) for side in stored["shape"])
    image, hole = torch.from_numpy(rules.image(seed, *shape)), torch.from_numpy(rules.hole(seed, *shape))
    network = from_original({"iteration": 3, "generator": published})
    with torch.inference_mode():
        output = network(image * (1 - hole), hole).image
    expected = torch.from_numpy(stored["output"])
    # the rule of the oracles; ours adds the taps up in another order
    assert (output - expected).abs().max() / expected.abs().max() < 1e-5


@pytest.mark.shared
def test_the_names_and_the_way_back_are_the_originals(published: dict[str, Tensor]) -> None:
    back = to_original(from_original(published))
    assert back.keys() == published.keys()
    assert all(torch.equal(back[name], published[name]) for name in published)


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


def test_there_and_back_is_the_same_network_of_any_width() -> None:
    network = create("misf", width=3).eval()
    names = [rename(name) for name in network.state_dict()]
    assert len(set(names)) == len(names) == 92
    state = to_original(network)
    for given in (state, {"iteration": 7, "generator": state}):
        again = from_original(given)
        assert not again.training
        arguments = batch()
        assert torch.equal(again(*arguments).image, network(*arguments).image)


def test_what_does_not_fit_is_refused_and_named() -> None:
    state = to_original(MISF(2))
    lacking = {name: tensor for name, tensor in state.items() if name != "kpn_model.core_img.bias"}
    with pytest.raises(InputError, match=r"missing  kpn_model\.core_img\.bias"):
        from_original(lacking)
    with pytest.raises(InputError, match=r"surplus  extra"):
        from_original({**state, "extra": torch.zeros(1)})
    with pytest.raises(InputError, match=r"shape    encoder1\.0\.weight"):
        from_original(state, width=3)
    with pytest.raises(InputError, match=r"encoder0\.1\.weight"):
        from_original({"discriminator": {}})
    with pytest.raises(InputError, match=r"encoder0\.1\.weight"):
        from_original({**state, "encoder1.0.bias": "text"})
    with pytest.raises(InputError, match="at least 1"):
        MISF(0)


def test_a_width_that_the_other_tensors_do_not_have_allocates_nothing() -> None:
    """The width is read from a file; a tensor of stride 0 claims any width in a few bytes."""
    state = {**to_original(MISF(2)), "encoder0.1.weight": torch.zeros(1).expand(100_000, 4, 7, 7)}
    with pytest.raises(InputError, match="does not fit MISF"):
        from_original(state)


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


def test_a_step_in_half_precision_is_finite_and_close() -> None:
    network = MISF(8)
    arguments = batch(2, 32, 32)
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 1e-3)
    exact = network(*arguments).image
    with torch.autocast("cpu", dtype=torch.bfloat16):
        image = network(*arguments).image
    assert image.dtype == torch.bfloat16
    # bfloat16 has 8 bits; some twenty layers between
    assert (image.float() - exact).abs().mean() < 0.02
    image.float().square().mean().backward()
    optimizer.step()
    assert all(p.isfinite().all() for p in network.parameters())
    assert network(*arguments).image.isfinite().all()


def test_it_learns_two_pictures() -> None:
    network = MISF(4)
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 32), indexing="ij")
    image = torch.stack([torch.stack([x, y, x * y]), torch.stack([1 - y, x * x, (x + y) / 2])])
    hole = torch.zeros(2, 1, 32, 32)
    hole[..., 8:20, 10:24] = 1
    optimizer = torch.optim.Adam([p for p in network.parameters() if p.requires_grad], 3e-3)
    inside = hole.expand_as(image) > 0
    for _ in range(60):
        loss = F.l1_loss(network(image * (1 - hole), hole).image, image)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        found = network(image * (1 - hole), hole).image
    mean = (image * (1 - hole)).sum((2, 3), keepdim=True) / (1 - hole).sum((2, 3), keepdim=True)
    ours, constant = (found - image)[inside].abs().mean(), (mean - image)[inside].abs().mean()
    assert ours < 0.5 * constant


# Compilers ------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compile", "export"])
def test_compiled_and_exported_it_gives_the_same(what: str) -> None:
    """In a process of its own, without the checks of shape annotations."""
    found = subprocess.run(
        [sys.executable, __file__, what],
        capture_output=True,
        text=True,
        env={**os.environ, "CICM_NO_SHAPE_CHECKS": "1"},
    )
    assert found.returncode == 0, found.stderr[-3000:]
    assert found.stdout.endswith("equal\n")


class Image(torch.nn.Module):
    def __init__(self, network: MISF) -> None:
        super().__init__()
        self.network = network

    def forward(self, corrupted: Tensor, hole: Tensor) -> Tensor:
        return self.network(corrupted, hole).image


# float32; fused and reordered sums through some twenty layers with instance norms
CLOSE = {"rtol": 1e-3, "atol": 1e-4}


def check_compile() -> None:
    """A whole graph: the values from the compiler that runs, the gradients from the graph that it is given."""
    model, arguments = Image(MISF(4)), batch()
    results = []
    for called in (model, torch.compile(model, fullgraph=True, backend="aot_eager")):
        model.zero_grad()
        image = called(*arguments)
        image.square().mean().backward()
        results.append([image.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    for a, b in zip(*results, strict=True):
        assert_close(a, b, **CLOSE)
    if shutil.which("g++") or shutil.which("c++"):
        with torch.no_grad():
            assert_close(torch.compile(model, fullgraph=True)(*arguments), results[0][0], **CLOSE)


def check_export() -> None:
    """With dynamic sizes, as a network that is given to others."""
    from torch.export import Dim, export

    model = Image(MISF(4)).eval()
    sides = {2: 4 * Dim("h4", min=3, max=64), 3: 4 * Dim("w4", min=3, max=64)}
    dynamic = {0: Dim("batch", min=1, max=16), **sides}
    program = export(model, batch(2, 16, 24), dynamic_shapes=({**dynamic}, {**dynamic})).module()
    for size in ((2, 16, 24), (1, 12, 12), (3, 32, 20)):
        arguments = batch(*size)
        assert_close(program(*arguments), model(*arguments), **CLOSE)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    {"compile": check_compile, "export": check_export}[sys.argv[1]]()
    print("equal")
