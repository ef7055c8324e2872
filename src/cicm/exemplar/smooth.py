"""Holes in a flat colour or in an even ramp: filled by the plane that the surroundings lie on.

A network and patches both leave traces there that the eye finds at once. Noise and texture keep a hole from being
taken for smooth, so a photo's sky goes the usual way.
"""

from __future__ import annotations

import numpy as np

from cicm.exemplar.shapes import components, grown

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
    for rows, columns in components(hole):
        top, left = max(0, rows.min() - RING), max(0, columns.min() - RING)
        here = slice(top, rows.max() + RING + 1), slice(left, columns.max() + RING + 1)
        own = np.zeros(hole[here].shape, bool)
        own[rows - top, columns - left] = True
        y, x = np.nonzero(grown(own, RING) & ~hole[here])
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
