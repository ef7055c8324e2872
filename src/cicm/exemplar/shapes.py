"""The shape of a hole: its connected parts, how deep a pixel lies, what is near, a soap film over its rim."""

from __future__ import annotations

import numpy as np

SWEEPS = 8
"""Relaxations on each level of the membrane."""


def membrane(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Continue values smoothly to where they are not known: a soap film over them (Laplace's equation, coarse to fine).

    Args:
        values: (h, w, C) floating; counts where known.
        known: (h, w) bool. Without any, all is 0.

    Returns:
        (h, w, C) float32, equal to `values` where known, nowhere outside their range.

    Example:
        >>> film = membrane(np.array([[[0.0], [9.0], [9.0], [1.0]]]), np.array([[True, False, False, True]]))
        >>> [round(value, 2) for value in film[0, :, 0].tolist()]
        [0.0, 0.33, 0.67, 1.0]
    """
    values = np.where(known[..., None], values, 0).astype(np.float32)
    if known.all() or not known.any():
        return values
    height, width = known.shape
    film = values
    if max(height, width) > 2:
        share = _halved(known[..., None].astype(np.float32))
        coarse = _halved(values) / np.maximum(share, 1e-6)
        doubled = membrane(coarse, share[..., 0] > 0).repeat(2, 0).repeat(2, 1)[:height, :width]
        film = np.where(known[..., None], values, doubled)
    y, x = np.nonzero(~known)
    neighbours = [(np.clip(y + dy, 0, height - 1), np.clip(x + dx, 0, width - 1)) for dy, dx in _STEPS]
    odd = (y + x) % 2 == 1
    for sweep in range(2 * (SWEEPS if max(height, width) > 8 else 40)):
        half = odd if sweep % 2 else ~odd
        film[y[half], x[half]] = sum(film[rows[half], columns[half]] for rows, columns in neighbours) / 4
    return film


_STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))


def _halved(values: np.ndarray) -> np.ndarray:
    """Means of 2x2 pixels, those beyond the edge being 0."""
    height, width = values.shape[:2]
    values = np.pad(values, ((0, height % 2), (0, width % 2), (0, 0)))
    return (values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]) / 4


def depth(hole: np.ndarray) -> np.ndarray:
    """How far each missing pixel is from the next known one, in pixels; 0 where known.

    Steps to the side count 1, diagonal ones 1.4, so that lines of equal depth are octagons.

    Args:
        hole: (h, w) bool. Without any known pixel all is h + w.

    Returns:
        (h, w) float32.

    Example:
        >>> depth(np.array([[False, True, True, True, True]])).tolist()
        [[0.0, 1.0, 2.0, 3.0, 4.0]]
    """
    height, width = hole.shape
    distance = np.where(hole, np.float32(height + width), np.float32(0))
    columns = np.arange(width, dtype=np.float32)
    for flip in (slice(None), slice(None, None, -1)):
        rows = distance[flip]
        for row in range(height):
            here = rows[row]
            if row:
                above = rows[row - 1]
                np.minimum(here, above + 1, out=here)
                np.minimum(here[1:], above[:-1] + np.float32(1.4), out=here[1:])
                np.minimum(here[:-1], above[1:] + np.float32(1.4), out=here[:-1])
            for view in (here, here[::-1]):
                view[:] = np.minimum.accumulate(view - columns) + columns
    return distance


def grown(places: np.ndarray, by: int) -> np.ndarray:
    """What lies within a square of `by` pixels around the places."""
    for axis in (0, 1):
        size = places.shape[axis]
        padded = np.pad(np.cumsum(places, axis), [(by + 1, by) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        padded[tuple(slice(0, by + 1) if a == axis else slice(None) for a in (0, 1))] = 0
        ahead = np.take(padded, range(2 * by + 1, size + 2 * by + 1), axis)
        places = ahead > np.take(padded, range(size), axis)
    return places


def components(hole: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
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
    y, x = np.nonzero(hole)
    labels = np.repeat(names, stops - starts)  # runs are in the order of the pixels
    order = np.argsort(labels, kind="stable")
    cuts = np.flatnonzero(np.diff(labels[order])) + 1
    return [(y[part], x[part]) for part in np.split(order, cuts)] if len(y) else []
