"""Joining two fills, the soap film and the depth of a hole."""

import numpy as np
import pytest

from cicm.exemplar.joining import join
from cicm.exemplar.shapes import depth, membrane


def disc(size=64, radius=24):
    y, x = np.mgrid[:size, :size] - size // 2
    return y**2 + x**2 < radius**2


def strip():
    hole = np.zeros((64, 200), bool)
    hole[20:44] = True
    return hole


def fills(hole, seed=0):
    rng = np.random.default_rng(seed)
    picture, network, patches = rng.random((3, *hole.shape, 3), dtype=np.float32)
    return tuple(np.where(hole[..., None], fill, picture).astype(np.float32) for fill in (network, patches))


def test_known_pixels_stay_and_the_rim_is_the_networks():
    hole = strip()
    network, patches = fills(hole)
    joined = join(network, patches, hole)
    assert joined.dtype == np.float32
    assert joined.min() >= 0
    assert joined.max() <= 1
    assert (joined[~hole] == network[~hole]).all()
    rim, inside = hole & (depth(hole) <= 1), depth(hole) > 8
    assert np.abs(joined - network)[rim].mean() < 0.03
    assert np.abs(joined - network)[inside].mean() > 0.1


def test_equal_fills_are_kept():
    hole = disc()
    network, _ = fills(hole)
    assert np.abs(join(network, network, hole) - network).max() < 1e-6
    assert (join(*fills(np.zeros_like(hole)), np.zeros_like(hole)) == fills(np.zeros_like(hole))[0]).all()


def test_thin_holes_are_the_networks():
    hole = np.zeros((40, 40), bool)
    hole[20:22] = True
    network, patches = fills(hole)
    assert np.abs(join(network, patches, hole) - network).max() < 0.1 * np.abs(patches - network).max()


def test_tone_and_detail_of_patches_that_agree_and_that_contradict():
    noise = np.random.default_rng(0).normal(0, 0.03, (64, 200, 1)).astype(np.float32)
    network = np.full((64, 200, 3), 0.4, np.float32)
    wide = np.pad(disc(), ((0, 0), (0, 136)))
    for hole, tones, details in ((strip(), (0.0, 0.6), (0.4, 0.75)), (wide, (0.75, 1.0), (0.9, 1.0))):
        deep = depth(hole) > 10
        for tone, share, detail in zip((0.9, 0.45), tones, details, strict=True):
            patches = np.where(hole[..., None], tone + noise, network).astype(np.float32)
            joined = join(network, patches, hole)[deep]
            assert abs(joined.mean() - (0.4 + share * (tone - 0.4))) < 0.02
            assert abs(joined.std() / patches[deep].std() - detail) < 0.1


def test_each_hole_by_its_own_shape():
    from cicm.exemplar.joining import _compactness

    hole = np.zeros((200, 200), bool)
    hole[:64, :64], hole[100:120], hole[150:158, 150:158] = disc(), True, True
    compact = _compactness(hole, depth(hole))
    assert (compact[:64, :64][disc()] == 1).all()
    assert not compact[100:].any()


def test_a_wide_bar_is_as_compact_as_a_disc_and_a_thin_one_is_not():
    from cicm.exemplar.joining import _compactness

    hole = np.zeros((300, 300), bool)
    hole[20:80, 20:280], hole[150:170, 20:280] = True, True
    compact = _compactness(hole, depth(hole))
    assert compact[50, 60:240].min() > 0.9
    assert not compact[150:170].any()


def test_shapes_are_checked():
    with pytest.raises(ValueError, match="two fills"):
        join(np.zeros((4, 4, 3)), np.zeros((4, 5, 3)), np.zeros((4, 4), bool))


def test_membrane_keeps_what_is_known_and_is_harmonic():
    hole = disc()
    y, x = np.mgrid[:64, :64] / 32 - 1
    values = np.stack([x * y, x**2 - y**2, np.exp(x) * np.cos(y)], -1).astype(np.float32)
    film = membrane(np.where(hole[..., None], 9, values), ~hole)
    assert (film[~hole] == values[~hole]).all()
    assert np.abs(film - values).max() < 0.04  # a hundredth of the range: a few sweeps on each level
    assert film[hole].max() <= values[~hole].max() + 1e-6
    assert not membrane(values, np.zeros_like(hole)).any()
    assert membrane(values[:1, :1], np.ones((1, 1), bool)).tolist() == values[:1, :1].tolist()


def test_depth_is_near_the_true_distance():
    from scipy import ndimage

    for hole in (disc(), np.random.default_rng(0).random((30, 50)) < 0.9, disc()[:, :30]):
        true = ndimage.distance_transform_edt(hole)
        assert (depth(hole)[~hole] == 0).all()
        assert np.abs(depth(hole) - true).max() <= 0.09 * true.max() + 0.1
    assert (depth(np.ones((3, 4), bool)) == 7).all()
