"""Aligned copies: a photo shifted and scaled by a known homography gives the true content; another place is refused."""

import sys

import numpy as np
import pytest

from cicm.exemplar import align
from cicm.exemplar.align import AlignmentUnavailable, aligned_copies
from cicm.exemplar.shapes import depth

cv = pytest.importorskip("cv2")


def scene(seed=0, height=240, width=320):
    """Blocks and discs of many sizes with a little noise: a place with something to recognise."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 128, np.uint8)
    for _ in range(150):
        x, y, size = int(rng.integers(width)), int(rng.integers(height)), int(rng.integers(5, 26))
        colour = tuple(int(c) for c in rng.integers(0, 255, 3))
        if rng.random() < 0.5:
            cv.rectangle(picture, (x, y), (x + size, y + int(rng.integers(5, 26))), colour, -1)
        else:
            cv.circle(picture, (x, y), size // 2, colour, -1)
    noise = rng.normal(0, 3, picture.shape)
    return (cv.GaussianBlur(picture, (0, 0), 0.8) + noise).clip(0, 255).astype(np.uint8)


def hole_in(height=240, width=320):
    y, x = np.mgrid[:height, :width]
    return (y - 120) ** 2 + (x - 170) ** 2 < 30**2


def moved(picture, matrix, size=(400, 300)):
    return cv.warpPerspective(picture, np.array(matrix), size, flags=cv.INTER_CUBIC, borderMode=cv.BORDER_REFLECT)


NEAR = [[1.08, 0.05, 12.0], [-0.03, 1.05, 20.0], [8e-5, -5e-5, 1.0]]


def error_in(copies, truth, hole):
    fill = np.full(truth.shape, 0.5, np.float32)
    return float(np.sqrt(((copies.over(fill) - truth)[hole] ** 2).mean()))


def test_a_known_homography_and_another_light_are_undone():
    whole, hole = scene(), hole_in()
    truth = whole.astype(np.float32) / 255
    broken = truth * ~hole[..., None]
    copies = aligned_copies(broken, hole, [moved(whole, NEAR)])
    assert copies.used == (0,)
    assert copies.colours.dtype == copies.weight.dtype == np.float32
    assert copies.weight.min() >= 0
    assert copies.weight.max() <= 1
    assert not copies.weight[~hole].any()
    assert copies.weight[hole].mean() > 0.8
    assert error_in(copies, truth, hole) < 0.05
    darker = (moved(whole, NEAR) * 0.8 + 12).astype(np.uint8)
    several = aligned_copies(broken, hole, [darker, scene(9), whole])
    assert 1 not in several.used
    assert 2 in several.used
    assert error_in(several, truth, hole) < 0.05


def test_two_planes_that_moved_apart_are_both_found(monkeypatch):
    far, near = scene(3, 240, 400), scene(4, 240, 400)
    y, x = np.mgrid[:240, :320]
    whole = np.where((y < 90)[..., None], near[:, :320], far[:, :320])
    other = np.where((y < 90)[..., None], np.roll(near, -45, 1)[:, :320], far[:, :320])  # the camera went to the side
    hole = (abs(y - 45) < 22) & (abs(x - 170) < 22)  # in the plane that moved, which has fewer features
    truth = whole.astype(np.float32) / 255
    broken = truth * ~hole[..., None]
    both = aligned_copies(broken, hole, [other])
    assert both.used == (0,)
    assert both.weight[hole].mean() > 0.7
    monkeypatch.setattr(align, "PLANES", 1)
    one = aligned_copies(broken, hole, [other])
    assert error_in(both, truth, hole) < 0.7 * error_in(one, truth, hole)


def test_colours_in_the_hole_have_no_influence_and_the_answer_is_the_same_again():
    whole, hole = scene(1), hole_in()
    truth = whole.astype(np.float32) / 255
    first, second = (
        aligned_copies(np.where(hole[..., None], value, truth).astype(np.float32), hole, [moved(whole, NEAR)])
        for value in (0, 1)
    )
    assert (first.colours == second.colours).all()
    assert (first.weight == second.weight).all()


def test_another_place_changes_nothing():
    truth, hole = scene(2).astype(np.float32) / 255, hole_in()
    fill = np.random.default_rng(0).random(truth.shape, dtype=np.float32)
    flat, tiny = np.zeros((50, 60, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)
    copies = aligned_copies(truth, hole, [scene(3), scene(4, 100, 90), flat, tiny])
    assert copies.used == ()
    assert not copies.weight.any()
    assert (copies.over(fill) == fill).all()
    for nothing in (np.zeros_like(hole), np.ones_like(hole)):
        assert not aligned_copies(truth, nothing, [scene(2)]).weight.any()
    assert not aligned_copies(truth, hole, []).weight.any()
    assert not aligned_copies(np.zeros((4, 5, 3), np.float32), np.eye(4, 5, dtype=bool), [scene(2)]).weight.any()


def test_a_lone_copy_of_an_unlikely_tone_weighs_little():
    hole = hole_in()
    film = np.full((*hole.shape, 3), 0.9, np.float32)
    for tone, least, most in ((0.85, 0.8, 1.0), (0.2, 0.0, 0.05)):
        weight = align._agreed(cv, film, hole, [film * 0 + tone], [hole.astype(np.float32)])[1]
        assert least <= weight[depth(hole) > 5].mean() <= most
    both = align._agreed(cv, film, hole, [film * 0 + 0.2] * 2, [hole.astype(np.float32)] * 2)[1]
    assert both[depth(hole) > 5].min() == 1


def test_large_photos_are_searched_at_a_smaller_size(monkeypatch):
    whole, hole = scene(5), hole_in()
    monkeypatch.setattr(align, "FEATURE_SIDE", 220)
    copies = aligned_copies(whole.astype(np.float32) / 255, hole, [moved(whole, NEAR)])
    assert error_in(copies, whole.astype(np.float32) / 255, hole) < 0.08


def test_without_opencv(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert not align.available()
    with pytest.raises(AlignmentUnavailable, match=r"pip install 'cicm\[album\]'"):
        aligned_copies(scene().astype(np.float32) / 255, hole_in(), [scene()])
