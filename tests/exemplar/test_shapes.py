"""The soap film and the depth of a hole."""

import numpy as np

from cicm.exemplar.shapes import depth, membrane


def disc(size=64, radius=24):
    y, x = np.mgrid[:size, :size] - size // 2
    return y**2 + x**2 < radius**2


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
