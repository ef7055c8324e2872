"""Holes in a flat colour or in an even ramp: filled by the plane that the surroundings lie on.

A network and patches both leave traces there that the eye finds at once. Noise and texture keep a hole from being
taken for smooth, so a photo's sky goes the usual way.
"""

from __future__ import annotations

import numpy as np

RING = 6
"""Pixels around a hole that must lie on the plane."""

TOLERANCE = 1.01 / 255
"""The most that a known pixel may lie off: a ramp rounded to 8 bits is off by half a step, one dithered by one."""

FEWEST = 12
"""Pixels of the ring that a plane needs."""


def smooth_fill(colours: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fill each connected hole whose surroundings are one colour or one linear ramp.

    Args:
        colours: (h, w, 3) float32 in [0, 1]. Colours in the hole have no influence.
        hole: (h, w) bool.

    Returns:
        the colours with these holes filled, (h, w, 3) float32; what was filled, (h, w) bool, a part of `hole`. A
        constant comes back as that constant, exactly.

    Example:
        >>> colours, hole = np.full((9, 9, 3), 0.25, np.float32), np.zeros((9, 9), bool)
        >>> hole[3:6, 3:6] = True
        >>> filled, done = smooth_fill(np.where(hole[..., None], 0, colours), hole)
        >>> bool((filled == 0.25).all()), int(done.sum())
        (True, 9)
    """
    filled, done = colours.astype(np.float32, copy=True), np.zeros_like(hole)
    for rows, columns in _components(hole):
        top, left = max(0, rows.min() - RING), max(0, columns.min() - RING)
        here = slice(top, rows.max() + RING + 1), slice(left, columns.max() + RING + 1)
        own = np.zeros(hole[here].shape, bool)
        own[rows - top, columns - left] = True
        y, x = np.nonzero(_grown(own, RING) & ~hole[here])
        plane = _plane(y, x, filled[here][y, x])
        if plane is None:
            continue
        center, slopes, middle = plane
        values = (
            center + slopes[0] * (rows - top - middle[0])[:, None] + slopes[1] * (columns - left - middle[1])[:, None]
        )
        filled[rows, columns] = np.clip(values, 0, 1)
        done[rows, columns] = True
    return filled, done


def _plane(
    y: np.ndarray, x: np.ndarray, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]] | None:
    """The plane through values (N, 3) at places y, x: middle value, slopes (2, 3), middle place; None if off it."""
    if len(y) < FEWEST:
        return None
    if (values == values[0]).all():
        return values[0].astype(np.float64), np.zeros((2, 3)), (0.0, 0.0)
    if float(np.abs(values - values.mean(0)).max()) > 1e-6 and (np.ptp(y) == 0 or np.ptp(x) == 0):
        return None  # a line of pixels tells nothing across it
    middle = (float(y.mean()), float(x.mean()))
    places = np.stack([np.ones(len(y)), y - middle[0], x - middle[1]], 1)
    fit = np.linalg.lstsq(places, values.astype(np.float64), rcond=None)[0]
    if float(np.abs(places @ fit - values).max()) > TOLERANCE:
        return None
    return fit[0], fit[1:], middle


def _grown(places: np.ndarray, by: int) -> np.ndarray:
    """What lies within a square of `by` pixels around the places."""
    for axis in (0, 1):
        size = places.shape[axis]
        padded = np.pad(np.cumsum(places, axis), [(by + 1, by) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        padded[tuple(slice(0, by + 1) if a == axis else slice(None) for a in (0, 1))] = 0
        ahead = np.take(padded, range(2 * by + 1, size + 2 * by + 1), axis)
        places = ahead > np.take(padded, range(size), axis)
    return places


def _components(hole: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rows and columns of each connected hole, diagonals included; by joining runs of rows."""
    edges = np.diff(np.pad(hole, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    stops = np.nonzero(edges == -1)[1]
    parent = list(range(len(rows)))

    def root(run: int) -> int:
        while parent[run] != run:
            parent[run] = parent[parent[run]]
            run = parent[run]
        return run

    first = np.searchsorted(rows, np.arange(hole.shape[0] + 1)).tolist()
    for row in range(1, hole.shape[0]):
        above, run = first[row - 1], first[row]
        while above < first[row] and run < first[row + 1]:
            if starts[above] <= stops[run] and starts[run] <= stops[above]:
                parent[root(run)] = root(above)
            if stops[above] < stops[run]:
                above += 1
            else:
                run += 1
    names = np.array([root(run) for run in range(len(rows))], dtype=int)
    labels = np.zeros(hole.shape, np.int64)
    y, x = np.nonzero(hole)
    labels = np.repeat(names, stops - starts)  # runs are in the order of the pixels
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [(y[part], x[part]) for part in np.split(order, cuts)] if len(y) else []
