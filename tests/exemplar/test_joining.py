"""The network that joins two fills: against torch, its promises, and what the shipped one does."""

import numpy as np
import pytest
import torch

from cicm.conventions import InputError
from cicm.exemplar import joining
from cicm.exemplar.joining import Joiner, join, shipped


def disc(size=64, radius=24):
    y, x = np.mgrid[:size, :size] - size // 2
    return y**2 + x**2 < radius**2


def fills(hole, seed=0):
    rng = np.random.default_rng(seed)
    picture, network, patches = rng.random((3, *hole.shape, 3), dtype=np.float32)
    return tuple(np.where(hole[..., None], fill, picture).astype(np.float32) for fill in (network, patches))


def drawn(scale=0.3, seed=0):
    """Parameters of the shipped shapes, drawn at random."""
    rng = np.random.default_rng(seed)
    shapes = {}
    for name, (kernel, bias) in shipped()._layers.items():
        shapes[f"{name}.weight"] = kernel.transpose(3, 2, 0, 1).shape
        shapes[f"{name}.bias"] = bias.shape
    return {name: rng.normal(0, scale, shape).astype(np.float32) for name, shape in shapes.items()}


def in_torch(weights, network, patches, hole):
    """The same network from torch's own convolutions."""
    from scipy.ndimage import distance_transform_edt
    from torch.nn import functional as F

    def conv(name, x, stride=1):
        kernel, bias = (torch.from_numpy(weights[f"{name}.{part}"]).double() for part in ("weight", "bias"))
        return F.conv2d(x, kernel, bias, stride, 1)

    def block(name, x, stride=1):
        return F.leaky_relu(conv(f"{name}.2", F.leaky_relu(conv(f"{name}.0", x, stride), 0.1)), 0.1)

    def twice(x):
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    def blur(x, sigma):
        reach = int(3 * sigma + 0.5)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1).double() / sigma) ** 2)
        both = torch.outer(kernel / kernel.sum(), kernel / kernel.sum()).expand(3, 1, -1, -1)
        return F.conv2d(F.pad(x, [reach] * 4, mode="replicate"), both, groups=3)

    first, second = (torch.from_numpy(fill).double().permute(2, 0, 1)[None] for fill in (network, patches))
    gone = torch.from_numpy(hole).double()[None, None]
    depth = torch.from_numpy(distance_transform_edt(hole))[None, None]
    seen = torch.cat([gone, (depth / 32).clamp(max=1), first - 0.5, second - 0.5], 1)
    height, width = hole.shape
    seen = F.pixel_unshuffle(F.pad(seen, (0, -width % 8, 0, -height % 8), mode="replicate"), 2)
    one = block("down1", seen)
    two = block("down2", one, 2)
    low = block("bottom", block("down3", two, 2))
    two = block("up2", torch.cat([twice(low), two], 1))
    one = block("up1", torch.cat([twice(two), one], 1))
    given = F.pixel_shuffle(conv("head", one), 2)[..., :height, :width]
    share, apart = blur(given[:, :3].sigmoid(), 1.5), second - first
    middle, base = blur(apart, 1.0), blur(apart, 4.0)
    change = blur(0.25 * torch.tanh(given[:, 3:]), 4.0) + share[:, :1] * (apart - middle)
    change = change + share[:, 1:2] * (middle - base) + share[:, 2:] * base
    return (first + gone * change).clamp(0, 1)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(64, 64), (45, 70)])
def test_it_computes_what_torch_computes(size):
    hole = np.zeros(size, bool)
    hole[4:40, 10:44] = True
    network, patches = fills(hole)
    weights = drawn()
    assert np.abs(Joiner(weights)(network, patches, hole) - in_torch(weights, network, patches, hole)).max() < 2e-5


def test_known_pixels_stay_bit_for_bit_and_nothing_missing_changes_nothing():
    hole = disc()
    network, patches = fills(hole)
    joined = join(network, patches, hole)
    assert joined.dtype == np.float32
    assert joined.min() >= 0
    assert joined.max() <= 1
    assert (joined[~hole] == network[~hole]).all()
    assert np.abs(joined - network)[hole].mean() > 0.05
    nothing = np.zeros_like(hole)
    assert (join(*fills(nothing), nothing) == fills(nothing)[0]).all()


def test_tiles_of_a_large_hole_show_no_seam(monkeypatch):
    hole = np.zeros((200, 240), bool)
    hole[20:180, 30:220] = True
    network, patches = fills(hole)
    network, patches = (joining.blur(fill, 3.0) for fill in (network, patches))
    whole = join(network, patches, hole)
    monkeypatch.setattr(joining, "SIDE", 64)
    assert np.abs(join(network, patches, hole) - whole).max() < 2e-3


def test_texture_comes_back_into_a_fog_that_agrees():
    rng = np.random.default_rng(0)
    x = np.arange(128)
    photo = (0.5 + 0.1 * np.sin(x / 9)[:, None] + rng.normal(0, 0.06, (128, 128, 3))).clip(0, 1).astype(np.float32)
    hole = disc(128, 36)
    network = np.where(hole[..., None], joining.blur(photo, 4.0), photo)
    patches = np.where(hole[..., None], np.roll(photo, 57, 1), photo)  # one period of the wave
    joined, deep = join(network, patches, hole), disc(128, 28)
    fog, made, true = ((p - joining.blur(p, 1.0))[deep].std() for p in (network, joined, photo))
    assert fog < 0.1 * true
    assert 0.7 * true < made < 1.2 * true


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="two fills"):
        join(np.zeros((4, 4, 3)), np.zeros((4, 5, 3)), np.zeros((4, 4), bool))


def test_weights_are_checked():
    good = drawn()
    with pytest.raises(InputError, match=r"head\.bias"):
        Joiner({name: value for name, value in good.items() if name != "head.bias"})
    with pytest.raises(InputError, match="3x3"):
        Joiner(good | {"head.weight": good["head.weight"][..., :1]})
    with pytest.raises(InputError, match="not finite"):
        Joiner(good | {"head.bias": good["head.bias"] * np.nan})


def test_without_its_weights_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(joining, "WEIGHTS", tmp_path / "joiner.safetensors")
    with pytest.raises(InputError, match=r"joiner\.safetensors\. Reinstall"):
        shipped.__wrapped__()
