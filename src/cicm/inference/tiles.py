"""A hole that is larger than what a network fills well: which of it is filled at which size, and in which tiles.

A network that was trained on small crops fills a wide hole better when it sees it reduced, and a thin one when it sees
it as it is. So the widest places come first, reduced as much as they need; they then are known to the next size, which
is at most twice as fine; thin places come last, at full size. At each size what is longer than a tile is done in tiles
that overlap and fade into one another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy import ndimage

from cicm.photos.pixels import Box
from cicm.photos.resampling import cubic

_EXCESS = 1.25
"""A hole wider than it should be by up to this much is not reduced: as little would blur for nothing."""

STRIP = 2**19
"""Pixels that are turned into floating numbers at a time, where rows follow one another."""

Read = Callable[[Box], np.ndarray]
"""Gives the colours of a box: (h, w, 3) float32 in [0, 1]."""

Write = Callable[[Box, np.ndarray, np.ndarray], None]
"""Stores colours (h, w, 3) of a box, at the pixels (h, w) bool that are named."""

Fill = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""The network: colours (h, w, 3) and missing pixels (h, w) bool -> (h, w, 3) float32, filled."""


@dataclass(frozen=True)
class Level:
    """What is filled at one size.

    Args:
        factor: how many times smaller the network sees it.
        places: (H, W) bool, the missing pixels that get their colour here.
    """

    factor: float
    places: np.ndarray


def depth(hole: np.ndarray) -> np.ndarray:
    """How far each missing pixel is from the next known one, in steps along rows and columns; 0 where known.

    Args:
        hole: (H, W) bool. Without any known pixel all is H + W.

    Returns:
        (H, W) int32.

    Example:
        >>> depth(np.array([[False, True, True, True, True]])).tolist()
        [[0, 1, 2, 3, 4]]
    """
    if hole.all():
        return np.full(hole.shape, sum(hole.shape), dtype=np.int32)
    distance: np.ndarray = ndimage.distance_transform_cdt(hole, "taxicab")
    return distance


def plan_levels(hole: np.ndarray, widest: float) -> tuple[Level, ...]:
    """Sizes at which to fill a hole, and which pixels at each, coarse to fine.

    A place is as wide as twice the depth of its deepest pixel. The first level reduces the widest place to `widest`;
    each further one is half as coarse, the last is full size. A pixel belongs to the coarsest level whose wide places
    it is near to: as near as these are wide, so that the rim of a wide place isn't done apart from its middle.

    Args:
        hole: (H, W) bool with something in it.
        widest: pixels across, as the network sees them.

    Returns:
        levels that share out the hole's pixels.
    """
    far = depth(hole)
    factor = 2.0 * float(far.max()) / widest
    if factor <= _EXCESS:
        return (Level(1.0, hole),)
    levels, rest = [], hole.copy()
    while True:
        finer = factor / 2 if factor / 2 > _EXCESS else 1.0
        if factor == 1.0:
            places = rest
        else:
            radius = widest * finer / 2
            core = far > max(radius, 1.0)
            places = rest & (depth(~core) <= 2 * radius)
        if places.any():
            levels.append(Level(factor, places))
            rest = rest & ~places
        if factor == 1.0 or not rest.any():
            return tuple(levels)
        factor = finer


def fill_levels(
    read: Read,
    write: Write,
    fill: Fill,
    box: Box,
    missing: np.ndarray,
    own: np.ndarray,
    levels: Sequence[Level],
    side: int,
    context: int,
    multiple: int = 1,
) -> int:
    """Fill a part of a picture, level by level; what is filled is known to the next level.

    Args:
        read: gives colours of the picture as it is by now.
        write: stores them.
        fill: the network.
        box: the part.
        missing: (h, w) bool of the part, all that isn't known.
        own: (h, w) bool, what of it is to be filled; the rest belongs to another part, and stays missing.
        levels: coarse to fine; together they hold all of `own`.
        side: longest side that the network sees.
        context: pixels around what is filled that it sees, where there are so many in a tile.
        multiple: what it sees is as long as a multiple of this, where there is room.

    Returns:
        how often the network was called.
    """
    missing, calls = missing.copy(), 0
    left, top, right, _ = box
    for level in levels:
        places = level.places & own
        if not places.any():
            continue
        if level.factor == 1.0:
            filled, made = _fill_tiles(
                lambda part: read(_shifted(part, left, top)), fill, missing, places, side, context, multiple
            )
            (low, high), (first, last) = _bounds(places)
            write((left + first, top + low, left + last, top + high), filled, places[low:high, first:last])
        else:
            height, width = missing.shape
            work = (max(1, round(height / level.factor)), max(1, round(width / level.factor)))
            small, gone = reduce(read, missing, box, work)
            cells = near(any_of(places, work), 3) & gone  # enlarging looks at up to two cells beside a place
            if cells.any():
                filled, made = _fill_tiles(partial(cut, small), fill, gone, cells, side, context, multiple)
                (low, high), (first, last) = _bounds(cells)
                inside = cells[low:high, first:last]
                small[low:high, first:last][inside] = filled[inside]
            else:
                made = 0
            for start, stop in strips(height, width):
                if places[start:stop].any():
                    colours = enlarge(small, (height, width), start, stop)
                    write((left, top + start, right, top + stop), colours, places[start:stop])
        missing &= ~places
        calls += made
    return calls


def _fill_tiles(
    read: Read, fill: Fill, missing: np.ndarray, places: np.ndarray, side: int, context: int, multiple: int
) -> tuple[np.ndarray, int]:
    """Fill places at one size: colours of their bounding box, and how many tiles that took."""
    (low, high), (first, last) = _bounds(places)
    total = np.zeros((high - low, last - first, 3), dtype=np.float32)
    weight = np.zeros((high - low, last - first, 1), dtype=np.float32)
    made = 0
    for window in windows(missing.shape, side):
        counts = fading(window, missing.shape, side)
        wanted = cut(places, window) & (counts > 0)
        if not wanted.any():
            continue
        tile = _tightened(window, wanted, context, multiple)
        filled = fill(read(tile), cut(missing, tile))
        made += 1
        # Into the sums goes what lies in the bounding box of the places.
        part = (max(tile[0], first), max(tile[1], low), min(tile[2], last), min(tile[3], high))
        share = cut(counts, _shifted(part, -window[0], -window[1]))[..., None]
        target = _shifted(part, -first, -low)
        cut(total, target)[...] += share * cut(filled, _shifted(part, -tile[0], -tile[1]))
        cut(weight, target)[...] += share
    return total / np.maximum(weight, 1e-6), made


def windows(size: tuple[int, int], side: int) -> list[Box]:
    """Overlapping tiles, none longer than `side`, that cover (height, width).

    Neighbours share at least three eighths of a tile: an edge of one eighth in each, which lacks surroundings and is
    not used, and between these one in which they fade into one another.

    Example:
        >>> windows((40, 100), 64)
        [(0, 0, 64, 40), (36, 0, 100, 40)]
    """
    return [
        (left, top, right, bottom) for top, bottom in _along(size[0], side) for left, right in _along(size[1], side)
    ]


def fading(box: Box, size: tuple[int, int], side: int) -> np.ndarray:
    """(h, w) float32: how much a tile counts at each of its pixels; full up to the picture's own border.

    Example:
        >>> fading((0, 0, 8, 1), (1, 20), 8)[0].round(2).tolist()
        [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.0]
    """
    left, top, right, bottom = box
    rows, columns = _ramp(top, bottom, size[0], side), _ramp(left, right, size[1], side)
    return rows[:, None] * columns[None, :]


def reduce(read: Read, hole: np.ndarray, box: Box, work: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A part at a smaller size: averages over the known pixels alone, so that no black of a hole bleeds in.

    Reads some rows at a time.

    Args:
        read: gives the colours of a box.
        hole: (h, w) bool of the part.
        box: where it lies.
        work: (height, width) to reduce to, not larger than the part.

    Returns:
        colours (height, width, 3) float32, 0 where missing; and (height, width) bool, which cells are missing: those
        less than half known.
    """
    left, top, right, _ = box
    rows, columns = (np.arange(new + 1) * old // new for new, old in zip(work, hole.shape, strict=True))
    colours = np.zeros((*work, 3), dtype=np.float32)
    missing = np.zeros(work, dtype=bool)
    area = np.diff(columns).astype(np.float32)
    for start, stop in strips(work[0], int(np.ceil(hole.shape[1] * hole.shape[0] / work[0]))):
        first, last = int(rows[start]), int(rows[stop])
        known = (~hole[first:last]).astype(np.float32)
        seen = read((left, top + first, right, top + last)) * known[..., None]
        bins = rows[start:stop] - first
        total = np.add.reduceat(np.add.reduceat(seen, bins, axis=0), columns[:-1], axis=1)
        count = np.add.reduceat(np.add.reduceat(known, bins, axis=0), columns[:-1], axis=1)
        gone = count < 0.5 * np.diff(rows[start : stop + 1]).astype(np.float32)[:, None] * area
        total[gone] = 0.0
        colours[start:stop] = total / np.maximum(count, 1.0)[..., None]
        missing[start:stop] = gone
    return colours, missing


def any_of(places: np.ndarray, work: tuple[int, int]) -> np.ndarray:
    """(height, width) bool: the cells of `reduce` in which a place lies."""
    rows, columns = (np.arange(new) * old // new for new, old in zip(work, places.shape, strict=True))
    return np.logical_or.reduceat(np.logical_or.reduceat(places, columns, axis=1), rows, axis=0)


def enlarge(small: np.ndarray, size: tuple[int, int], start: int, stop: int) -> np.ndarray:
    """Rows `start` to `stop` of the picture at (height, width), bicubic; as enlarging all of it would give.

    Args:
        small: (h, w, 3) float32.

    Returns:
        (stop - start, width, 3) float32 in [0, 1].
    """
    return np.clip(cubic(small, size, start, stop), 0.0, 1.0)


def near(places: np.ndarray, by: int) -> np.ndarray:
    """(H, W) bool: places and what lies up to `by` rows and columns from them."""
    for axis in (0, 1):
        field = places.copy()
        for step in range(1, by + 1):
            ahead, behind = slice(step, None), slice(None, -step)
            if axis == 0:
                field[ahead] |= places[behind]
                field[behind] |= places[ahead]
            else:
                field[:, ahead] |= places[:, behind]
                field[:, behind] |= places[:, ahead]
        places = field
    return places


def strips(rows: int, pixels_in_a_row: int) -> Iterator[tuple[int, int]]:
    """Stretches of rows, each of about `STRIP` pixels."""
    step = max(1, STRIP // max(1, pixels_in_a_row))
    for start in range(0, rows, step):
        yield start, min(rows, start + step)


def cut(values: np.ndarray, box: Box) -> np.ndarray:
    """A view of the box."""
    left, top, right, bottom = box
    return values[top:bottom, left:right]


def _shifted(box: Box, x: int, y: int) -> Box:
    return box[0] + x, box[1] + y, box[2] + x, box[3] + y


def _bounds(places: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """First row and the one after the last, and the same of columns."""
    rows, columns = (np.flatnonzero(places.any(axis)) for axis in (1, 0))
    return (int(rows[0]), int(rows[-1]) + 1), (int(columns[0]), int(columns[-1]) + 1)


def _tightened(window: Box, wanted: np.ndarray, context: int, multiple: int) -> Box:
    """The part of a tile that is worth seeing: what is wanted and its surroundings."""
    edges = []
    for (start, stop), size, offset in zip(_bounds(wanted), wanted.shape, (window[1], window[0]), strict=True):
        length = min(size, -(-(stop - start + 2 * context) // multiple) * multiple)
        begin = min(max(0, start - (length - (stop - start)) // 2), size - length)
        edges.append((offset + begin, offset + begin + length))
    (top, bottom), (left, right) = edges
    return left, top, right, bottom


def _along(size: int, side: int) -> list[tuple[int, int]]:
    if size <= side:
        return [(0, size)]
    count = -(-(size - _shared(side)) // (side - _shared(side)))
    starts = [round(index * (size - side) / (count - 1)) for index in range(count)]
    return [(start, start + side) for start in starts]


def _shared(side: int) -> int:
    return -(-3 * side // 8)


def _ramp(start: int, stop: int, size: int, side: int) -> np.ndarray:
    edge = side // 8
    place = np.arange(start, stop) + 0.5
    low = np.ones(stop - start) if start == 0 else (place - start - edge) / max(1, edge)
    high = np.ones(stop - start) if stop == size else (stop - edge - place) / max(1, edge)
    return np.clip(np.minimum(low, high), 0.0, 1.0).astype(np.float32)
