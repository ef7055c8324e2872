"""Pictures at other sizes with NumPy alone, as torch has them: for what runs without torch."""

from __future__ import annotations

import numpy as np

_SHARPNESS = -0.75  # the free parameter of the cubic kernel (Keys, 1981), as torch and OpenCV choose it


def mirrored(size: int, padded: int, padding: str = "around") -> np.ndarray:
    """Indices that pad an axis by mirroring, as often as needed; the picture begins at `SizeRule.before`.

    Args:
        padding: of a `SizeRule`: `around` the picture, or at its `end` with the last pixel repeated first.

    Example:
        >>> mirrored(3, 8).tolist(), mirrored(3, 8, "end").tolist()
        ([2, 1, 0, 1, 2, 1, 0, 1], [0, 1, 2, 2, 1, 0, 0, 1])
    """
    if padding == "end":
        steps = np.arange(padded) % (2 * size)
        return np.where(steps < size, steps, 2 * size - 1 - steps)
    period = max(1, 2 * (size - 1))
    steps = (np.arange(padded) - (padded - size) // 2) % period
    return np.where(steps < size, steps, period - steps)


def averages(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each new cell the average of all pixels that it touches: `adaptive_avg_pool2d`.

    Args:
        picture: (h, w, C).
        size: (height, width), not larger.

    Returns:
        (height, width, C) float32.

    Example:
        >>> averages(np.array([[[1.0], [2.0], [6.0]]]), (1, 2))[..., 0].tolist()
        [[1.5, 4.0]]
    """
    values = picture.astype(np.float64)  # sums of millions
    for axis, new in enumerate(size):
        old = values.shape[axis]
        cells = np.arange(new)
        first, last = cells * old // new, -(-(cells + 1) * old // new)
        total = np.cumsum(values, axis=axis)
        total = np.concatenate([np.zeros_like(total.take([0], axis)), total], axis)
        count = (last - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        values = (total.take(last, axis) - total.take(first, axis)) / count
    return values.astype(np.float32)


def cubic(picture: np.ndarray, size: tuple[int, int], start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows `start` to `stop` of a picture at another size: `interpolate` with mode="bicubic".

    Args:
        picture: (h, w, C) float32.
        size: (height, width).
        start: first row that is made.
        stop: the one after the last; None is all.

    Returns:
        (stop - start, width, C) float32; may leave the picture's range a little.

    Example:
        >>> cubic(np.array([[[0.0], [1.0]]], dtype=np.float32), (1, 4))[..., 0].astype(float).round(3).tolist()
        [[-0.105, 0.227, 0.773, 1.105]]
    """
    return _resampled(picture, size, start, stop, _cubic_weights, (-1, 0, 1, 2))


def linear(picture: np.ndarray, size: tuple[int, int], start: int = 0, stop: int | None = None) -> np.ndarray:
    """The same with mode="bilinear".

    Example:
        >>> linear(np.array([[[0.0], [1.0]]], dtype=np.float32), (1, 4))[..., 0].tolist()
        [[0.0, 0.25, 0.75, 1.0]]
    """
    return _resampled(picture, size, start, stop, lambda part: (1 - part, part), (0, 1))


def _resampled(picture, size, start, stop, weights, taps):  # type: ignore[no-untyped-def]
    rows, columns = np.arange(start, size[0] if stop is None else stop), np.arange(size[1])
    for axis, (places, new) in enumerate(((rows, size[0]), (columns, size[1]))):
        old = picture.shape[axis]
        at = (places + 0.5) * (old / new) - 0.5
        below = np.floor(at)
        shape = (-1, 1, 1) if axis == 0 else (1, -1, 1)
        parts = weights((at - below).astype(np.float32).reshape(shape))
        total = np.zeros(1, dtype=np.float32)
        for tap, part in zip(taps, parts, strict=True):
            index = np.clip(below.astype(np.int64) + tap, 0, old - 1)  # beyond the border is the border
            total = total + part * picture.take(index, axis)
        picture = total
    return picture


def _cubic_weights(part: np.ndarray) -> tuple[np.ndarray, ...]:
    a = np.float32(_SHARPNESS)

    def near(x: np.ndarray) -> np.ndarray:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: np.ndarray) -> np.ndarray:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return far(part + 1), near(part), near(1 - part), far(2 - part)
