"""Where the holes of a picture lie: groups of hole pixels, and the part around each that a network is to see.

All of it works on the mask alone, one byte a pixel, so that a large picture is never turned into numbers as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cicm.conventions import InputError
from cicm.photos.pixels import Box

_CELL = 16
"""Side of the cells in which groups are told apart: holes less than this far from each other are one group."""


@dataclass(frozen=True)
class Crop:
    """One group of holes and the part of the picture around it.

    Args:
        hole: (left, top, right, bottom) of the group. Those of two crops never overlap, so that every missing pixel
            belongs to one crop.
        box: the same with known pixels around it; those of two crops may overlap.
    """

    hole: Box
    box: Box


def groups(hole: np.ndarray, cell: int = _CELL) -> list[Box]:
    """The bounding boxes of connected groups of holes, seen in cells of so many pixels; boxes may overlap.

    Cells that touch, also at a corner, are one group. A box is as tight as the pixels allow.

    Args:
        hole: (H, W) bool.
        cell: side of a cell; 1 is plain 8-connectedness.

    Example:
        >>> hole = np.zeros((40, 100), dtype=bool)
        >>> hole[3, 2:5] = hole[35, 90] = True
        >>> groups(hole)
        [(2, 3, 5, 4), (90, 35, 91, 36)]
    """
    if hole.ndim != 2 or hole.dtype != bool or 0 in hole.shape or cell < 1:
        raise InputError(f"hole must be (H, W) bool, cell at least 1; got {hole.shape} {hole.dtype} and {cell}.")
    rows, columns = (np.arange(0, side, cell) for side in hole.shape)
    cells = np.logical_or.reduceat(np.logical_or.reduceat(hole, columns, axis=1), rows, axis=0)
    labels, _ = ndimage.label(cells, np.ones((3, 3)))
    found = ndimage.find_objects(labels)
    return [_tight(hole, (cell * x.start, cell * y.start, cell * x.stop, cell * y.stop)) for y, x in found]


def plan_crops(hole: np.ndarray, *, margin: int, relative: float, longest: int) -> tuple[Crop, ...]:
    """One crop around each group of holes; crops that overlap are merged.

    Groups whose own boxes overlap become one, always. Groups of which only the surroundings overlap become one if that
    one is not longer than `longest`, or no longer than it had been already.

    Args:
        hole: (H, W) bool with something in it.
        margin: known pixels around a group, at least.
        relative: or this share of the group's shorter side, where that is more; a scratch needs no more than its width.
        longest: side of a crop that is to be kept to.

    Returns:
        crops, those of small holes first.

    Example:
        >>> hole = np.zeros((100, 400), dtype=bool)
        >>> hole[50, 50] = hole[50, 90] = hole[50, 300] = True
        >>> [crop.box for crop in plan_crops(hole, margin=30, relative=0.5, longest=200)]
        [(270, 20, 331, 81), (20, 20, 121, 81)]
    """
    height, width = hole.shape

    def around(box: np.ndarray) -> np.ndarray:
        left, top, right, bottom = box.T
        wide = np.maximum(margin, np.ceil(relative * np.minimum(right - left, bottom - top)).astype(np.int64))
        low = (np.maximum(left - wide, 0), np.maximum(top - wide, 0))
        high = (np.minimum(right + wide, width), np.minimum(bottom + wide, height))
        return np.stack([*low, *high], axis=-1)

    waiting = [np.array(box, dtype=np.int64) for box in reversed(groups(hole))]
    done = np.zeros((0, 4), dtype=np.int64)
    while waiting:
        box = waiting.pop()
        union = np.concatenate([np.minimum(done[:, :2], box[:2]), np.maximum(done[:, 2:], box[2:])], axis=1)
        own, others = around(box), around(done)
        limit = np.maximum(longest, np.maximum(_length(own), _length(others)))
        one = _overlap(done, box) | (_overlap(others, own) & (_length(around(union)) <= limit))
        if one.any():  # with one at a time: the union is another box, with other neighbours
            first = int(np.flatnonzero(one)[0])
            waiting.append(union[first])
            done = np.delete(done, first, axis=0)
        else:
            done = np.concatenate([done, box[None]])
    done = done[np.argsort((done[:, 2] - done[:, 0]) * (done[:, 3] - done[:, 1]), kind="stable")]
    return tuple(Crop(_box(inner), _box(outer)) for inner, outer in zip(done, around(done), strict=True))


def _box(edges: np.ndarray) -> Box:
    left, top, right, bottom = edges.tolist()
    return left, top, right, bottom


def _length(boxes: np.ndarray) -> np.ndarray:
    return np.maximum(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])


def _overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    both: np.ndarray = np.concatenate([boxes[:, :2] < box[2:], boxes[:, 2:] > box[:2]], axis=1)
    return np.logical_and.reduce(both, axis=1)


def _tight(hole: np.ndarray, box: Box) -> Box:
    left, top, right, bottom = box
    inside = hole[top:bottom, left:right]
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in (1, 0))
    return left + int(columns[0]), top + int(rows[0]), left + int(columns[-1]) + 1, top + int(rows[-1]) + 1
