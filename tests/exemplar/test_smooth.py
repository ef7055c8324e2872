"""A constant comes back as that constant, a ramp as that ramp; what is neither is left alone."""

import numpy as np

from cicm.exemplar.shapes import components, grown
from cicm.exemplar.smooth import smooth_fill


def ramp(height=60, width=80):
    y, x = np.mgrid[:height, :width]
    return np.stack([0.2 + 0.005 * x, 0.8 - 0.004 * y, 0.1 + 0.003 * x + 0.004 * y], -1).astype(np.float32)


def lump(height=60, width=80):
    y, x = np.mgrid[:height, :width]
    return (y - 28) ** 2 + (x - 40) ** 2 < 20**2 + 60 * np.sin(x)


def test_constant_and_ramp():
    for levels in (255, 65535, None):
        hole = lump()
        constant = np.full((60, 80, 3), (0.1, 0.5, 0.9), np.float32)
        for truth, error in ((constant, 0.0), (ramp(), 1.0)):
            stored = truth if levels is None else (np.rint(truth * levels) / levels).astype(np.float32)
            filled, done = smooth_fill(np.where(hole[..., None], np.float32(0.3), stored), hole)
            assert (done == hole).all(), levels
            assert (filled[~hole] == stored[~hole]).all(), levels
            assert np.abs(filled - stored).max() <= error / 255, levels


def test_holes_at_the_border_of_the_picture():
    truth, hole = ramp(), np.zeros((60, 80), bool)
    hole[:20, 60:] = True
    filled, done = smooth_fill(truth * ~hole[..., None], hole)
    assert done[hole].all()
    assert np.abs(filled - truth).max() <= 1 / 255


def test_texture_and_edges_are_left_alone_each_hole_for_itself():
    truth = ramp()
    truth[:, :30] += np.random.default_rng(0).normal(0, 0.02, (60, 30, 3)).astype(np.float32)
    hole = np.zeros((60, 80), bool)
    hole[10:20, 8:18] = hole[20:30, 50:60] = True
    hole[21:23, 60:62] = True  # touches the second
    filled, done = smooth_fill(truth, hole)
    assert not done[:, :30].any()
    assert done[:, 40:].sum() == hole[:, 40:].sum()
    assert (filled[:, :30] == truth[:, :30]).all()
    step = np.zeros((40, 40, 3), np.float32)
    step[:, 20:] = 1
    hole = np.zeros((40, 40), bool)
    hole[15:25, 15:25] = True
    assert not smooth_fill(step, hole)[1].any()


def test_too_little_known_is_left_alone():
    hole = np.ones((20, 20), bool)
    assert not smooth_fill(np.zeros((20, 20, 3), np.float32), hole)[1].any()
    hole[0] = False
    line = np.linspace(0, 1, 20, dtype=np.float32)[None, :, None] * np.ones((20, 1, 3), np.float32)
    assert not smooth_fill(line, hole)[1].any()
    assert smooth_fill(line * 0 + 0.5, hole)[1].sum() == 380
    assert not smooth_fill(line, np.zeros((20, 20), bool))[1].any()


def test_components_and_growing_equal_scipy():
    from scipy import ndimage

    rng = np.random.default_rng(0)
    for size in ((1, 9), (9, 1), (30, 40), (64, 64)):
        for share in (0.1, 0.4, 0.6):
            hole = rng.random(size) < share
            labels, count = ndimage.label(hole, np.ones((3, 3)))
            found = components(hole)
            assert len(found) == count
            for rows, columns in found:
                name = labels[rows[0], columns[0]]
                assert ((labels == name).sum(), set(labels[rows, columns])) == (len(rows), {name})
            wide = ndimage.binary_dilation(hole, np.ones((5, 5)))
            assert (grown(hole, 2) == wide).all()
