"""Trunks and Inception: parameter counts, names and shapes of the published files; what sets FID's network apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cicm.conventions import InputError
from cicm.metrics.inception import DESIGN, FidInception, average_pool, max_pool
from cicm.metrics.published import PUBLISHED
from cicm.metrics.trunks import Design, Trunk, alexnet, fill, squeezenet, vgg16, vgg19

# (builder, parameters of torchvision's whole classifier, parameters of its classifier layers, indices with parameters)
OFFICIAL = [
    (alexnet, 61_100_840, [(9216, 4096), (4096, 4096), (4096, 1000)], [0, 3, 6, 8, 10]),
    (vgg16, 138_357_544, [(25088, 4096), (4096, 4096), (4096, 1000)], [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]),
    (
        vgg19,
        143_667_240,
        [(25088, 4096), (4096, 4096), (4096, 1000)],
        [0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34],
    ),
]


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights that keep the size of the features near 1, in place."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = parameter[0].numel() if parameter.ndim > 1 else 1
            scale = (2 / fan_in) ** 0.5 if parameter.ndim > 1 else 0.05
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return network.eval()


def test_trunk_is_the_official_classifier_without_its_head() -> None:
    for build, whole, linear, indices in OFFICIAL:
        with torch.device("meta"):
            trunk = build()
        assert count(trunk) + sum(rows * columns + columns for rows, columns in linear) == whole, build
        assert list(trunk.state_dict()) == [f"features.{i}.{kind}" for i in indices for kind in ("weight", "bias")], (
            build
        )


def test_squeezenet_is_the_official_one_without_its_head() -> None:
    with torch.device("meta"):
        trunk = squeezenet()
    assert count(trunk) + 512 * 1000 + 1000 == 1_235_496
    fires = [
        f"features.{i}.{part}.{kind}"
        for i in (3, 4, 6, 7, 9, 10, 11, 12)
        for part in ("squeeze", "expand1x1", "expand3x3")
        for kind in ("weight", "bias")
    ]
    assert list(trunk.state_dict()) == ["features.0.weight", "features.0.bias", *fires]


@pytest.mark.parametrize(
    ("build", "sides"),
    [
        # by hand, for 64x64: AlexNet (64 + 4 - 11) // 4 + 1 = 15, pools of 3 with stride 2: 7, 3
        pytest.param(alexnet, [15, 7, 3, 3, 3], id="alexnet"),
        pytest.param(vgg16, [64, 32, 16, 8, 4], id="vgg16"),
        pytest.param(vgg19, [64, 32, 16, 8, 4], id="vgg19"),
        # (64 - 3) // 2 + 1 = 31, then pools rounded up: 15, 7, 3
        pytest.param(squeezenet, [31, 15, 7, 3, 3, 3, 3], id="squeezenet"),
    ],
)
def test_taps_have_the_stated_channels_and_sizes(build: Callable[[], Trunk], sides: list[int]) -> None:
    trunk = randomised(build())
    assert isinstance(trunk, Trunk)
    maps = trunk(torch.randn(2, 3, 64, 64))
    assert [tuple(x.shape) for x in maps] == [(2, c, s, s) for c, s in zip(trunk.channels, sides, strict=True)]
    assert all((x >= 0).all() for x in maps), "taps lie behind a ReLU"
    trunk(torch.randn(1, 3, trunk.minimum, trunk.minimum))
    with pytest.raises(InputError, match=f"at least {trunk.minimum}x"):
        trunk(torch.randn(1, 3, trunk.minimum - 1, 80))


def test_fill_takes_every_tensor_and_refuses_what_does_not_fit() -> None:
    design = Design(squeezenet, unused=("classifier.",))
    tensors = {name: value.clone() for name, value in randomised(squeezenet()).state_dict().items()}
    whole = {**tensors, "classifier.1.weight": torch.zeros(1000, 512, 1, 1)}
    network = fill(design, whole, "file")
    assert all(torch.equal(network.state_dict()[name], value) for name, value in tensors.items())
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    with pytest.raises(InputError, match="1 names differ, such as surplus"):
        fill(design, {**tensors, "surplus": torch.zeros(1)}, "file")
    with pytest.raises(InputError, match=r"1 names differ, such as features\.0\.bias"):
        fill(design, {name: value for name, value in tensors.items() if name != "features.0.bias"}, "file")
    with pytest.raises(InputError, match=r"features\.0\.bias must be \(64,\); got \(63,\)"):
        fill(design, {**tensors, "features.0.bias": torch.zeros(63)}, "file")


# -- Inception -------------------------------------------------------------------------------------------------------

BRANCHES = {
    "A": "branch1x1 branch5x5_1 branch5x5_2 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3 branch_pool",
    "B": "branch3x3 branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3",
    "C": "branch1x1 branch7x7_1 branch7x7_2 branch7x7_3 branch7x7dbl_1 branch7x7dbl_2 branch7x7dbl_3 branch7x7dbl_4 "
    "branch7x7dbl_5 branch_pool",
    "D": "branch3x3_1 branch3x3_2 branch7x7x3_1 branch7x7x3_2 branch7x7x3_3 branch7x7x3_4",
    "E": "branch1x1 branch3x3_1 branch3x3_2a branch3x3_2b branch3x3dbl_1 branch3x3dbl_2 branch3x3dbl_3a "
    "branch3x3dbl_3b branch_pool",
}
BLOCKS = {"5b": "A", "5c": "A", "5d": "A", "6a": "B", "6b": "C", "6c": "C", "6d": "C", "6e": "C", "7a": "D"} | {
    "7b": "E",
    "7c": "E",
}
STEM = ["Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3"]


@pytest.fixture(scope="module")
def inception() -> FidInception:
    made = randomised(FidInception())
    assert isinstance(made, FidInception)
    return made


def test_inception_has_the_official_names_and_parameters() -> None:
    with torch.device("meta"):
        network = FidInception()
    layers = [*STEM, *(f"Mixed_{block}.{name}" for block, kind in BLOCKS.items() for name in BRANCHES[kind].split())]
    assert len(layers) == 94
    parts = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"]
    assert list(network.state_dict()) == [
        *(f"{layer}.{part}" for layer in layers for part in parts),
        "fc.weight",
        "fc.bias",
    ]

    auxiliary = (768 * 128 + 2 * 128) + (128 * 768 * 25 + 2 * 768) + (768 * 1000 + 1000)
    more_classes = 8 * (2048 + 1)
    assert count(network) == 27_161_264 - auxiliary + more_classes  # torchvision's inception_v3, all parameters
    numbers = count(network) + sum(b.numel() for name, b in network.named_buffers() if "running" in name)
    overhead = PUBLISHED["fid-inception"].num_bytes - 4 * numbers
    assert 0 < overhead < 0.01 * 4 * numbers  # names and counters: the published file has room for just these numbers


def test_inception_maps_and_pools(inception: FidInception) -> None:
    image = torch.rand(1, 3, 96, 64)
    maps = inception.maps(image)
    assert maps.shape == (1, 2048, 8, 8)
    torch.testing.assert_close(inception(image), maps.mean(dim=(2, 3)))
    assert torch.isfinite(maps).all()
    assert maps.std() > 0


def test_inception_blocks_have_the_published_channels_and_sizes(inception: FidInception) -> None:
    """299 -> 149 -> 147 -> 147, pool 73 -> 73 -> 71, pool 35: Table 1 of the Inception v3 paper, and its blocks."""
    sides = {"Conv2d_1a_3x3": (32, 149), "Conv2d_2a_3x3": (32, 147), "Conv2d_2b_3x3": (64, 147)}
    sides |= {"Conv2d_3b_1x1": (80, 73), "Conv2d_4a_3x3": (192, 71)}
    sides |= {"Mixed_5b": (256, 35), "Mixed_5c": (288, 35), "Mixed_5d": (288, 35)}
    sides |= {f"Mixed_6{letter}": (768, 17) for letter in "abcde"}
    sides |= {"Mixed_7a": (1280, 8), "Mixed_7b": (2048, 8), "Mixed_7c": (2048, 8)}
    seen: dict[str, tuple[int, int]] = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, at=name: seen.update({at: (out.shape[1], out.shape[2])}))
        for name, module in inception.named_children()
        if name != "fc"
    ]
    inception(torch.rand(1, 3, 64, 64))
    for handle in handles:
        handle.remove()
    assert seen == sides


def test_inception_input_is_resized_and_scaled(inception: FidInception) -> None:
    seen: list[Tensor] = []
    handle = inception.Conv2d_1a_3x3.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    ramp = torch.arange(8).float().view(1, 1, 1, 8).expand(1, 3, 8, 8) / 7
    inception(ramp)
    handle.remove()
    assert seen[0].shape == (1, 3, 299, 299)
    # bilinear by hand, pixel centres: output i looks at (i + 0.5) * 8 / 299 - 0.5, held at the border
    position = ((torch.arange(299) + 0.5) * 8 / 299 - 0.5).clamp(0, 7)
    torch.testing.assert_close(seen[0][0, 1, 150], 2 * position / 7 - 1, rtol=0, atol=1e-5)  # float32 positions


def test_the_pools_that_set_fids_network_apart(inception: FidInception) -> None:
    ones = torch.ones(1, 1, 4, 4)
    assert torch.equal(average_pool(ones), ones), "the padding is not counted: corners stay 1, torchvision has 4/9"
    assert F.avg_pool2d(ones, 3, 1, 1)[0, 0, 0, 0].item() == pytest.approx(4 / 9)
    x = torch.rand(1, 1280, 8, 8)
    seen: dict[str, Tensor] = {}
    for name, channels, pool in (("7b", 1280, average_pool), ("7c", 2048, max_pool)):
        block = inception.get_submodule(f"Mixed_{name}")
        conv = block.get_submodule("branch_pool")
        handle = conv.register_forward_pre_hook(lambda _, arguments, at=name: seen.update({at: arguments[0]}))
        x = torch.rand(1, channels, 8, 8)
        block(x)
        handle.remove()
        assert torch.equal(seen[name], pool(x))
    assert torch.equal(max_pool(torch.arange(9.0).view(1, 1, 3, 3))[0, 0, 1], torch.tensor([7.0, 8.0, 8.0]))


def test_inception_loads_files_without_batch_counters(inception: FidInception) -> None:
    tensors = {name: value for name, value in inception.state_dict().items() if "num_batches" not in name}
    image = torch.rand(1, 3, 32, 32)
    assert torch.equal(fill(DESIGN, tensors, "file")(image), inception(image))
    with pytest.raises(InputError, match="names differ"):
        fill(DESIGN, {name: value for name, value in tensors.items() if name != "fc.bias"}, "file")
