"""The SqueezeNet that ships: its weights, its layers, and the distance on it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics.published import published
from cicm.metrics.squeeze import SqueezeFeatures, load_squeeze_features, squeeze_pooled
from cicm.metrics.sqz_distance import sqz_distance
from cicm.metrics.state import Batch
from cicm.metrics.trunks import read_tensors
from cicm.published import locate

CHANNELS = [64, 128, 256, 384, 384, 512, 512]


@pytest.fixture(scope="module")
def network() -> SqueezeFeatures:
    return load_squeeze_features()


def layers_by_hand(image: Tensor) -> list[Tensor]:
    """The seven maps, written with functions from the table in the paper of SqueezeNet (v1.1's pools)."""
    weights = read_tensors(locate(published("sqz-features")))

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        return F.relu(F.conv2d(x, weights[f"features.{name}.weight"], weights[f"features.{name}.bias"], **options))

    def fire(x: Tensor, index: int) -> Tensor:
        x = conv(x, f"{index}.squeeze")
        return torch.cat([conv(x, f"{index}.expand1x1"), conv(x, f"{index}.expand3x3", padding=1)], 1)

    def pool(x: Tensor) -> Tensor:  # ceil_mode by hand: the last window may hang over the border
        height, width = (2 * math.ceil((side - 3) / 2) + 3 for side in x.shape[2:])
        return F.max_pool2d(F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]), value=-math.inf), 3, 2)

    mean, deviation = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    x = torch.stack([(image[:, c] - mean[c]) / deviation[c] for c in range(3)], 1)
    maps = [conv(x, "0", stride=2)]
    maps.append(fire(fire(pool(maps[-1]), 3), 4))
    maps.append(fire(fire(pool(maps[-1]), 6), 7))
    maps.append(fire(pool(maps[-1]), 9))
    for index in (10, 11, 12):
        maps.append(fire(maps[-1], index))
    return maps


@pytest.mark.parametrize("size", [(17, 17), (40, 48), (63, 70)])
def test_the_maps_are_those_of_squeezenet(network: SqueezeFeatures, size: tuple[int, int]) -> None:
    image = torch.rand(2, 3, *size)
    maps = network(image)
    assert [x.shape[1] for x in maps] == CHANNELS
    for ours, expected in zip(maps, layers_by_hand(image), strict=True):
        # the same float32 convolutions, perhaps by another kernel; features reach some thousand
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-3 * expected.abs().max().item())
    torch.testing.assert_close(
        squeeze_pooled(None, Batch(image, image))[0], maps[-1].flatten(2).mean(-1), rtol=1e-5, atol=1e-5
    )


def test_distance_equals_a_loop_over_layers_and_cells(
    network: SqueezeFeatures, pictures: tuple[Tensor, Tensor]
) -> None:
    composite, image = pictures[0][:1], pictures[1][:1]
    total = 0.0
    for a, b in zip(layers_by_hand(composite), layers_by_hand(image), strict=True):
        cells = []
        for i in range(a.shape[2]):
            for j in range(a.shape[3]):
                u, v = a[0, :, i, j].double(), b[0, :, i, j].double()
                u, v = u / u.norm().clamp(min=1e-10), v / v.norm().clamp(min=1e-10)
                cells.append(((u - v) ** 2).sum().item())
        total += sum(cells) / len(cells) / 7
    # 1e-4: float32 features against float64 arithmetic
    assert sqz_distance(composite, image, network).item() == pytest.approx(total, rel=1e-4)


def test_laws_of_the_distance(network: SqueezeFeatures, pictures: tuple[Tensor, Tensor]) -> None:
    composite, image = pictures
    distance = sqz_distance(composite, image, network)
    assert sqz_distance(image, image, network).tolist() == [0.0] * 4
    assert torch.equal(distance, sqz_distance(image, composite, network))
    assert ((distance > 0) & (distance < 2)).all()
    alone = [sqz_distance(composite[i : i + 1], image[i : i + 1], network).item() for i in range(4)]
    # 1e-5: float32 convolutions of another batch size may take another kernel
    assert distance.tolist() == pytest.approx(alone, rel=1e-5)
    # a black picture against a white one: no division by the length of a zero vector
    flat = sqz_distance(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32), network)
    assert 0 < flat.item() < 2


def test_more_damage_is_a_larger_distance(network: SqueezeFeatures, pictures: tuple[Tensor, Tensor]) -> None:
    image = pictures[1]
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    distances = torch.stack([sqz_distance((image + s * noise).clamp(0, 1), image, network) for s in (0.02, 0.08, 0.3)])
    assert (distances.diff(dim=0) > 0).all()


def test_gradients_reach_the_composite_and_not_the_network(network: SqueezeFeatures) -> None:
    composite = torch.rand(1, 3, 32, 32, requires_grad=True)
    sqz_distance(composite, torch.rand(1, 3, 32, 32), network).sum().backward()
    assert composite.grad is not None
    assert composite.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_images_below_the_minimum_are_refused(network: SqueezeFeatures) -> None:
    with pytest.raises(InputError, match="at least 17x17"):
        network(torch.rand(1, 3, 16, 40))


def test_the_file_holds_the_original_weights(shared: Path) -> None:
    original = torch.load(
        shared / "data/weights/squeezenet1_1_caffe_features.pth", weights_only=True, map_location="cpu"
    )
    ours = read_tensors(locate(published("sqz-features")))
    assert ours.keys() == original.keys()
    assert all(torch.equal(ours[name], original[name]) for name in ours)


def test_it_knows_photos(shared: Path, network: SqueezeFeatures) -> None:
    """A blurred photo is nearer to itself than any other photo of the folder is: the weights are trained ones."""
    from cicm.photos import read_image

    paths = sorted((shared / "data/scenes/test").glob("places-*"))[::40][:6]
    photos = torch.stack([torch.from_numpy(read_image(path)).permute(2, 0, 1) / 255 for path in paths])
    blurred = F.avg_pool2d(photos, 3, stride=1, padding=1, count_include_pad=False)
    count = len(photos)
    for index in range(count):
        distances = sqz_distance(blurred[index].expand_as(photos), photos, network)
        assert distances.argmin().item() == index
        assert distances[index] < 0.6 * distances[[i for i in range(count) if i != index]].min()
