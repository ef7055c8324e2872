"""What marks a hole: boxes, polygons and the rest, and what is no mark."""

from __future__ import annotations

import numpy as np
import pytest

from cicm.cli.parsing import box_of, colour_of, polygon_of
from cicm.conventions import InputError
from cicm.photos.marking import Marks, mark, mark_size
from cicm.photos.pixels import Pixels

GREY = Pixels(np.full((20, 30), 90, dtype=np.uint8), "L")


def hole_of(**marks) -> np.ndarray:
    return mark(GREY, Marks(**marks))[1]


def test_a_polygon_holds_the_pixels_whose_centres_lie_inside() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:20, :30] + 0.5
    for _ in range(20):
        corners = [(float(a), float(b)) for a, b in zip(rng.uniform(0, 30, 3), rng.uniform(0, 20, 3), strict=True)]
        (ax, ay), (bx, by), (cx, cy) = corners
        sides = [
            (bx - ax) * (y - ay) - (by - ay) * (x - ax),
            (cx - bx) * (y - by) - (cy - by) * (x - bx),
            (ax - cx) * (y - cy) - (ay - cy) * (x - cx),
        ]
        inside = np.all([side > 0 for side in sides], 0) | np.all([side < 0 for side in sides], 0)
        if inside.any():
            assert np.array_equal(hole_of(polygons=(tuple(corners),)), inside)


def test_boxes_and_polygons_are_united_inverted_and_grown() -> None:
    square = ((2, 2), (6, 2), (6, 6), (2, 6))
    both = hole_of(boxes=((10, 3, 14, 9),), polygons=(square,))
    expected = np.zeros((20, 30), dtype=bool)
    expected[2:6, 2:6] = expected[3:9, 10:14] = True
    assert np.array_equal(both, expected)
    assert np.array_equal(hole_of(boxes=((10, 3, 14, 9),), polygons=(square,), invert=True), ~expected)
    assert hole_of(boxes=((10, 3, 11, 4),), grow=1).sum() == 5
    assert np.array_equal(mark_size((20, 30), Marks(polygons=(square,))), hole_of(polygons=(square,)))


def test_what_is_no_mark() -> None:
    for marks, words in [
        ({}, "got none"),
        ({"alpha": True, "boxes": ((0, 0, 1, 1),)}, "got alpha and boxes or polygons"),
        ({"boxes": ((0, 0, 31, 1),)}, "does not lie in the picture of 30x20"),
        ({"polygons": (((0, 0), (9, 9)),)}, "three or more corners"),
        ({"polygons": (((0, 0), (9, 9), (0, 21)),)}, "in the picture of 30x20"),
        ({"boxes": ((0, 0, 30, 20),)}, "nothing known to start from"),
        ({"polygons": (((1, 1), (1.2, 1), (1, 1.2)),)}, "hold no pixel"),
        ({"boxes": ((0, 0, 1, 1),), "grow": 513}, "0 to 512"),
        ({"colour": (0, 0, 256)}, "0 to 255"),
        ({"alpha": True}, "no pixel is transparent"),
    ]:
        with pytest.raises(InputError, match=words):
            hole_of(**marks)
    with pytest.raises(InputError, match="Give a mask, boxes or polygons"):
        mark_size((20, 30), Marks(alpha=True))


def test_words_of_the_command_line() -> None:
    assert box_of(" 1, 2,3,4") == (1, 2, 4, 6)
    for read, texts, words in [
        (box_of, ("", "1,2,3", "1,2,3,-4", "a,b,c,d", "1.5,2,3,4"), "a box is X,Y,W,H"),
        (polygon_of, ("", "1,2,3,4", "1,2,3,4,5", "1,2,3,4,5,x"), "a polygon is X,Y,X,Y"),
        (colour_of, ("", "pink", "ff00f", "ff00ff00", "#ff 0ff"), "six hexadecimal digits"),
    ]:
        for text in texts:
            with pytest.raises(InputError, match=words):
                read(text)
