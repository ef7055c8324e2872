"""Photos in memory as an album: all of a few are tried, the most alike of many."""

from __future__ import annotations

import numpy as np
import pytest

from cicm.conventions import InputError
from cicm.exemplar.handful import ALL_TRIED, Handful

HOLE = np.zeros((60, 80), dtype=bool)
HOLE[20:40, 30:50] = True


def scene(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return coarse.repeat(10, 0).repeat(10, 1)


def test_a_few_are_all_tried_whatever_the_count_is() -> None:
    album = Handful([(f"{k}.jpg", scene(k), str(k)) for k in range(5)] + [("twice.jpg", scene(0), "0")])
    found = album.find(scene(3), HOLE, count=2, without={"1"})
    assert [one.name for one in found] == ["0.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert np.array_equal(found[2].read(), scene(3))


def test_of_many_the_most_alike_are_tried() -> None:
    album = Handful([(f"{k}.jpg", scene(k), str(k)) for k in range(ALL_TRIED + 4)])
    found = album.find(scene(11), HOLE, count=4)
    assert len(found) == ALL_TRIED
    assert found[0].name == "11.jpg"


def test_other_pixels_are_refused() -> None:
    with pytest.raises(InputError, match=r"must be \(h, w, 3\) uint8"):
        Handful([("a.jpg", np.zeros((4, 4), dtype=np.uint8), "a")])
