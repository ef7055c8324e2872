"""Painted holes: shares in their band, bands filled evenly, seeds that mean something."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cicm.conventions import BANDS, InputError, band_of
from cicm.data.generators import KINDS, SMALLEST_SHARE, TOLERANCE, HoleGenerator, _fill_up, _grow, band_pixels


@settings(max_examples=150, deadline=None)
@given(
    band=st.sampled_from(list(BANDS)),
    kind=st.sampled_from(list(KINDS)),
    border=st.sampled_from([0.0, 1.0]),
    height=st.integers(8, 96),
    width=st.integers(8, 96),
    seed=st.integers(0, 2**32),
)
def test_every_hole_lies_in_its_band_whatever_its_size(band, kind, border, height, width, seed):
    hole = HoleGenerator([band], [kind], border)(height, width, np.random.default_rng(seed))
    assert hole.shape == (1, height, width)
    assert hole.dtype == torch.float32
    assert set(hole.unique().tolist()) <= {0.0, 1.0}
    assert band_of(int(hole.sum()) / (height * width)) == band


def test_shares_fill_a_band_evenly():
    """The median and quartiles of the shares are those of an even spread, for each kind."""
    for kind in list(KINDS):
        draw = HoleGenerator(["20-40"], [kind])
        shares = np.sort([draw.paint(64, 64, np.random.default_rng(i)).mean() for i in range(300)])
        # 300 even draws over 0.2 have quartiles with standard error 0.2 * sqrt(3/16/300) = 0.005: four of these, and
        # the overshoot that TOLERANCE allows.
        assert np.quantile(shares, [0.25, 0.5, 0.75]) == pytest.approx([0.25, 0.3, 0.35], abs=0.02 + TOLERANCE), kind


def test_bands_and_kinds_come_as_often_as_asked_for():
    rng = np.random.default_rng(0)
    draw = HoleGenerator(border=0.0)
    counts = dict.fromkeys(BANDS, 0)
    for _ in range(600):
        counts[band_of(draw.paint(24, 24, rng).mean())] += 1
    # Binomial(600, 1/3) has a standard deviation of 11.5: four of them.
    assert all(abs(count - 200) < 46 for count in counts.values()), counts


def test_kinds_look_like_their_names_and_weights_count():
    # Over 200 seeds, holes of boxes have 8 to 69 slanted steps, holes of strokes 165 to 649.
    for seed in range(20):
        boxes = HoleGenerator(["20-40"], {"boxes": 1.0, "strokes": 1e-12}).paint(64, 64, np.random.default_rng(seed))
        strokes = HoleGenerator(["20-40"], ["strokes"]).paint(64, 64, np.random.default_rng(seed))
        assert _slanted_steps(boxes) < 100 < _slanted_steps(strokes)


def _slanted_steps(hole: np.ndarray) -> int:
    """2x2 windows of which one or three pixels are missing: corners, and all along a slanted edge."""
    window = hole[1:, 1:].astype(int) + hole[:-1, 1:] + hole[1:, :-1] + hole[:-1, :-1]
    return int(((window == 1) | (window == 3)).sum())


def test_a_border_is_free():
    for seed in range(30):
        hole = HoleGenerator(["0-20"], border=1.0).paint(100, 100, np.random.default_rng(seed))
        assert not hole[:2].any()
        assert not hole[-2:].any()
        assert not hole[:, :2].any()
        assert not hole[:, -2:].any()


def test_a_border_never_makes_the_largest_shares_impossible():
    shares = [HoleGenerator(["40-60"], border=1.0).paint(48, 48, np.random.default_rng(i)).mean() for i in range(100)]
    assert max(shares) > 0.58


def test_the_lowest_band_has_no_specks():
    shares = [HoleGenerator(["0-20"]).paint(64, 64, np.random.default_rng(i)).mean() for i in range(200)]
    assert min(shares) >= SMALLEST_SHARE


def test_same_seed_same_hole_other_seed_other_hole():
    draw = HoleGenerator()
    first, again, other = (draw(64, 64, np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_hole_does_not_depend_on_the_holes_before_it():
    draw = HoleGenerator()
    alone = draw(64, 64, np.random.default_rng(3))
    for seed in range(3):
        draw(32, 40, np.random.default_rng(seed))
    assert torch.equal(draw(64, 64, np.random.default_rng(3)), alone)


def test_band_pixels_agree_with_band_of_at_every_count():
    """Also where a product such as 0.2 * 35 is not the whole number it should be."""
    for total in range(1, 200):
        for band in BANDS:
            counts = [n for n in range(total + 1) if band_of(n / total) == band]
            if counts:
                assert band_pixels(band, 1, total) == (counts[0], counts[-1]), total
            else:
                with pytest.raises(InputError, match="use a larger size"):
                    band_pixels(band, 1, total)


def test_a_piece_that_paints_nothing_still_ends_in_the_band():
    """What painting can't reach is grown from the hole's edge: exact, and without gaps at the rim."""
    hole = _fill_up([(1.0, lambda canvas, size: None)], 10, 12, 50, 50, np.random.default_rng(0))
    assert hole.sum() == 50


def test_growing_gives_exactly_the_pixels_asked_for_and_keeps_the_old():
    hole = np.zeros((9, 9), dtype=bool)
    hole[4, 4] = True
    grown = _grow(hole, 14, np.random.default_rng(0))
    assert grown.sum() == 14
    assert grown[4, 4]
    assert grown[3, 4]
    assert grown[5, 4]
    assert not grown[0].any(), "it grows from the edge of the hole"


def test_wrong_settings_are_named():
    for options, words in (
        ({"bands": ["0-30"]}, "0-20, 20-40, 40-60; got '0-30'"),
        ({"bands": []}, "got none"),
        ({"bands": "0-20"}, r"Write \['0-20'\]"),
        ({"kinds": ["stars"]}, "strokes, blobs, boxes, mixed; got 'stars'"),
        ({"kinds": {}}, "got none"),
        ({"kinds": {"boxes": 0.0}}, "above 0"),
        ({"kinds": {"boxes": float("nan")}}, "above 0"),
        ({"border": 1.5}, "in \\[0, 1\\]; got 1.5"),
    ):
        with pytest.raises(InputError, match=words):
            HoleGenerator(**options)


def test_it_is_fast_enough_for_training():
    draw, rng = HoleGenerator(), np.random.default_rng(0)
    seconds = []
    for _ in range(200):
        start = time.process_time()
        draw(128, 128, rng)
        seconds.append(time.process_time() - start)
    # 0.8 ms where it was measured; a training step takes far more than 20 ms per image on such a machine.
    assert float(np.median(seconds)) < 0.006
