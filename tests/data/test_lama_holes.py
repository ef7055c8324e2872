"""LaMa's holes: the shares that the original's generator was measured to have, and what each kind looks like."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from cicm.conventions import band_of
from cicm.data.lama_holes import LaMaHoles


@pytest.mark.parametrize("side", [256, 64])
def test_shares_are_those_of_the_original(side: int) -> None:
    """600 holes: the standard error of the mean is 0.01, of a band's part at most 0.02; three of each are allowed."""
    rng = np.random.default_rng(0)
    shares = np.array([LaMaHoles()(side, side, rng).mean().item() for _ in range(600)])
    assert abs(shares.mean() - 0.354) < 0.03
    bands = [band_of(share) for share in shares]
    for band, part in (("0-20", 0.26), ("20-40", 0.39), ("40-60", 0.20), (None, 0.15)):
        assert abs(bands.count(band) / 600 - part) < 0.06, band
    assert shares.min() > 0
    assert shares.max() < 1


def test_the_same_state_gives_the_same_hole_and_any_shape_is_drawn() -> None:
    first, second = (LaMaHoles()(48, 80, np.random.default_rng(7)) for _ in range(2))
    assert torch.equal(first, second)
    assert first.shape == (1, 48, 80)
    assert set(first.unique().tolist()) == {0.0, 1.0}


def test_boxes_have_the_sides_that_are_asked_for_and_stay_inside() -> None:
    holes = LaMaHoles(boxes=(1, 1))
    rng = np.random.default_rng(1)
    sides, boxes = [], 0
    for _ in range(200):
        hole = holes(256, 256, rng)[0].numpy() > 0
        rows, columns = ndimage.find_objects(hole.astype(int))[0]
        tall, wide = rows.stop - rows.start, columns.stop - columns.start
        if hole.sum() != tall * wide:
            continue  # lines
        boxes += 1
        sides += [tall, wide]
        assert min(rows.start, columns.start) >= 10
        assert max(rows.stop, columns.stop) <= 246
    assert 70 < boxes < 130  # half of them; 200 throws of a coin have a standard deviation of 7
    assert (min(sides), max(sides)) >= (30, 140)
    assert max(sides) <= 150


def test_lines_have_round_ends() -> None:
    """A piece of length 10 and up to 204 pixels thick is nearly a disc; without its ends it would be a slab."""
    short = LaMaHoles(lines=(1, 1), length=1, width=200, boxes=(1, 1))
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(100):
        hole = short(512, 512, rng)[0].numpy() > 0
        rows, columns = ndimage.find_objects(hole.astype(int))[0]
        if hole[0].any() or hole[-1].any() or hole[:, 0].any() or hole[:, -1].any():
            continue  # cut off at the border
        shares.append(hole.sum() / ((rows.stop - rows.start) * (columns.stop - columns.start)))
    round_ones = [share for share in shares if share < 1]
    assert len(round_ones) >= 5
    assert all(0.7 < share < 0.97 for share in round_ones)  # a disc fills 0.785 of its box
