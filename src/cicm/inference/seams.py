"""A soft seam: the step between known pixels and fill, taken out of the fill near the border of the hole.

The known pixels are not touched. What is measured is the mean step from the outermost filled pixels to the known ones
beside them, in places about as large as the feather, so that an edge which ends at the hole is not drawn into it; what
is added to the fill is that step, in full at the border and fading to nothing at the feather's length. A fill that has
the right tone at the border stays as it is.
"""

from __future__ import annotations

import numpy as np

from cicm.inference.tiles import Read, Write, strips
from cicm.photos.pixels import Box
from cicm.photos.resampling import linear

_KERNEL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0


def soften(
    read: Read, write: Write, box: Box, places: np.ndarray, known: np.ndarray, depth: np.ndarray, feather: int
) -> None:
    """Take the step at the border out of what was filled.

    Args:
        read: gives the colours of a box, as filled.
        write: stores them.
        box: the part.
        places: (h, w) bool of the part, what was filled and may change.
        known: (h, w) bool, what was never missing.
        depth: (h, w), `cicm.inference.tiles.depth` of all that was missing: 1 beside a known pixel.
        feather: pixels over which it fades; at least 1.
    """
    left, top, right, _ = box
    height, width = places.shape
    cell = max(1, feather // 2)
    step, count = _steps(read, box, places, known, cell)
    count = _smooth(count[..., None])
    field = _smooth(step) / np.maximum(count, 1e-6)
    for start, stop in strips(height, width):
        rim = places[start:stop] & (depth[start:stop] <= feather)
        if not rim.any():
            continue
        share = np.clip(1.0 - (depth[start:stop] - 1) / feather, 0.0, 1.0)
        share = (share * share * (3.0 - 2.0 * share)).astype(np.float32)
        part = (left, top + start, right, top + stop)
        colours = read(part) + share[..., None] * _at(field, start, stop, width, cell)
        write(part, np.clip(colours, 0.0, 1.0), rim)


def step_at_border(picture: np.ndarray, hole: np.ndarray) -> float:
    """Mean absolute difference between neighbours of which one is in the hole and one is not.

    Args:
        picture: (H, W, 3) floating.
        hole: (H, W) bool.

    Example:
        >>> step_at_border(np.array([[[0.0], [0.0], [0.5]]]), np.array([[False, True, False]]))
        0.25
    """
    total, count = 0.0, 0
    for axis in (0, 1):
        ahead, behind = _pair(axis)
        across = hole[ahead] != hole[behind]
        total += float(np.abs(picture[ahead] - picture[behind])[across].sum(dtype=np.float64))
        count += int(across.sum()) * picture.shape[2]
    return total / max(1, count)


def _steps(read: Read, box: Box, places: np.ndarray, known: np.ndarray, cell: int) -> tuple[np.ndarray, np.ndarray]:
    """Sums of steps from filled to known neighbours, and how many, by cell of the filled one."""
    left, top, right, _ = box
    height, width = places.shape
    grid = (-(-height // cell), -(-width // cell))
    total, count = np.zeros((grid[0] * grid[1], 3)), np.zeros(grid[0] * grid[1])
    for start, stop in strips(height, width):
        low, high = max(0, start - 1), min(height, stop + 1)
        if not places[start:stop].any():
            continue
        colours = read((left, top + low, right, top + high))
        fill, sure = places[low:high], known[low:high].copy()
        own = np.zeros_like(fill)
        own[start - low : stop - low] = fill[start - low : stop - low]  # a pixel counts in its own strip alone
        for axis in (0, 1):
            ahead, behind = _pair(axis)
            for inside, outside in ((ahead, behind), (behind, ahead)):
                y, x = np.nonzero(own[inside] & sure[outside])
                steps = colours[outside][y, x] - colours[inside][y, x]
                row, column = y + inside[0].indices(high - low)[0] + low, x + inside[1].indices(width)[0]
                index = (row // cell) * grid[1] + column // cell
                count += np.bincount(index, minlength=len(count))
                for channel in range(3):
                    total[:, channel] += np.bincount(index, steps[:, channel], len(count))
    return total.reshape(*grid, 3), count.reshape(grid)


def _pair(axis: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Indices of neighbours along an axis: all but the first, all but the last."""
    whole, ahead, behind = slice(None), slice(1, None), slice(None, -1)
    return ((ahead, whole), (behind, whole)) if axis == 0 else ((whole, ahead), (whole, behind))


def _smooth(grid: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        padded = np.pad(grid, [(2, 2) if a == axis else (0, 0) for a in range(3)])
        size = grid.shape[axis]
        grid = sum(w * np.take(padded, range(k, k + size), axis) for k, w in enumerate(_KERNEL))  # type: ignore[assignment]
    return grid


def _at(field: np.ndarray, start: int, stop: int, width: int, cell: int) -> np.ndarray:
    """The field at each pixel of some rows, linear between the centres of cells."""
    size = (field.shape[0] * cell, field.shape[1] * cell)
    return linear(field.astype(np.float32), size, start, stop)[:, :width]
