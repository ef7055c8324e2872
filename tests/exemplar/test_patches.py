"""Patches of known pixels: nothing known changes, the same for any thread, other photos as sources."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cicm.conventions import InputError
from cicm.exemplar import patches
from cicm.exemplar.patches import PatchesUnavailable, available, fill_by_patches, unavailable_reason

pytestmark = pytest.mark.skipif(not available(), reason=unavailable_reason())


def textured(height, width, seed=0):
    """Bricks with noise: a texture that patches can continue."""
    y, x = np.mgrid[:height, :width]
    bricks = ((y // 6 + (x + 5 * (y // 6 % 2)) // 10) % 2) * 90 + 60
    noise = np.random.default_rng(seed).integers(-8, 8, (height, width, 3))
    return (bricks[..., None] + noise + [0, 10, 20]).clip(0, 255).astype(np.uint8)


def holed(height, width, box):
    hole = np.zeros((height, width), bool)
    hole[box[1] : box[3], box[0] : box[2]] = True
    return hole


def test_known_pixels_stay_and_the_texture_goes_on():
    picture, hole = textured(90, 120), holed(90, 120, (40, 30, 70, 55))
    filled = fill_by_patches(picture, hole)
    assert (filled[~hole] == picture[~hole]).all()
    assert 0.7 < filled[hole].std() / picture[hole].std() < 1.3
    assert set(map(tuple, filled[hole])) != {(0, 0, 0)}


def test_colours_in_the_hole_have_no_influence():
    picture, hole = textured(60, 60), holed(60, 60, (20, 20, 40, 40))
    other = np.where(hole[..., None], np.uint8(255), picture)
    assert (fill_by_patches(picture, hole) == fill_by_patches(other, hole)).all()


def test_same_for_any_number_of_threads_and_another_seed_is_another_answer():
    jobs = [(textured(64, 64, k), holed(64, 64, (20, 20, 44, 44)), k) for k in range(6)]

    def fill(job):
        return fill_by_patches(job[0], job[1], seed=job[2])

    alone = [fill(job) for job in jobs]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(fill, jobs))
    assert all((a == b).all() for a, b in zip(alone, together))
    assert (fill_by_patches(*jobs[0][:2], seed=1) != alone[0]).any()


def test_other_photos_give_what_the_photo_has_not():
    red = np.full((50, 50, 3), (200, 20, 20), np.uint8)
    picture = np.full((50, 50, 3), 90, np.uint8)
    picture[:, 25:] = red[:, 25:]
    hole = holed(50, 50, (10, 10, 40, 40))
    stripes = np.full((70, 40, 3), 90, np.uint8)
    stripes[:, 20:] = (200, 20, 20)
    stripes[30:40] = (10, 240, 10)
    filled = fill_by_patches(picture, hole, sources=[stripes, red])
    assert (filled[~hole] == picture[~hole]).all()
    colours = set(map(tuple, filled.reshape(-1, 3)))
    assert (0, 0, 0) not in colours, "the gaps between sources were copied"
    assert (fill_by_patches(picture, np.ones((50, 50), bool), sources=[red]) == red).all()


def test_the_window_bounds_the_work(monkeypatch):
    seen = []
    library = patches._library()

    class Watching:
        patchmatch_available = True
        set_random_seed = staticmethod(lambda seed: None)

        @staticmethod
        def inpaint(image, mask, **options):
            seen.append(image.shape[:2])
            return library.inpaint(image, mask, **options)

    monkeypatch.setattr(patches, "_library", lambda: Watching)
    picture, hole = np.zeros((3000, 2000, 3), np.uint8), holed(3000, 2000, (1000, 1500, 1010, 1520))
    fill_by_patches(picture, hole, sources=[picture])
    assert seen[0][0] * seen[0][1] < 1.1 * (patches.MOST_SOURCE_PIXELS * 2)
    left, top, right, bottom = patches._window(holed(6000, 4000, (1000, 1000, 1800, 1800)))
    assert (right - left) * (bottom - top) <= 800 * 800 + patches.MOST_PIXELS


def test_tiny_pictures():
    for size in ((1, 2), (2, 3), (5, 5), (6, 40), (9, 9)):
        picture, hole = textured(*size), np.zeros(size, bool)
        hole[size[0] // 2, size[1] // 2] = True
        filled = fill_by_patches(picture, hole)
        assert (filled[~hole] == picture[~hole]).all(), size


def test_hardly_anything_known():
    picture, hole = textured(40, 40), np.ones((40, 40), bool)
    hole[:2, :2] = False
    filled = fill_by_patches(picture, hole)
    assert (filled[~hole] == picture[~hole]).all()
    assert filled[hole].min() >= picture[~hole].min() - 1, "colours from nowhere"


def test_refusals(monkeypatch):
    picture, hole = textured(20, 20), holed(20, 20, (5, 5, 9, 9))
    for wrong in (
        {"picture": picture / 255},
        {"picture": picture[..., 0]},
        {"hole": hole[:9]},
        {"hole": hole * 255},
        {"sources": [picture[..., 0]]},
        {"radius": 0},
        {"hole": np.ones((20, 20), bool)},
    ):
        given = {"picture": picture, "hole": hole, **wrong}
        with pytest.raises(InputError, match=r"must be|nothing to copy"):
            fill_by_patches(given.pop("picture"), given.pop("hole"), **given)
    assert (fill_by_patches(picture, np.zeros((20, 20), bool)) == picture).all()
    without = type("Library", (), {"patchmatch_available": False})
    for library, word in ((None, "pip install PyPatchMatch"), (without, "native part")):
        monkeypatch.setattr(patches, "_library", lambda library=library: library)
        assert not available()
        with pytest.raises(PatchesUnavailable, match=word):
            fill_by_patches(picture, hole)
