"""A photo as a network was trained to see it: windows of one side, reduced and as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from cicm.networks.contract import SizeRule

_ALONG = 3
"""Windows along the longer side of a reduced photo, at most; native windows are at most 2 by 2."""


class View(NamedTuple):
    """A window of a photo as the network sees it.

    Args:
        pixels: (h, w, 3) uint8.
        left, top: of the window, in its own pixels, from the corner of the photo.
        across, down: pixels of the photo for one of its own.
    """

    pixels: np.ndarray
    left: int
    top: int
    across: float
    down: float

    def cells(self, grid: tuple[int, int]) -> np.ndarray:
        """(h * w, 4) int32, the cells of a feature map in pixels of the photo: left, top, right, bottom.

        Example:
            >>> View(np.zeros((4, 4, 3), np.uint8), 2, 0, 2.0, 1.0).cells((1, 2)).tolist()
            [[4, 0, 8, 4], [8, 0, 12, 4]]
        """
        height, width = self.pixels.shape[:2]
        y = (self.top + np.arange(grid[0] + 1) * height / grid[0]) * self.down
        x = (self.left + np.arange(grid[1] + 1) * width / grid[1]) * self.across
        y, x = y.round().astype(np.int32), x.round().astype(np.int32)
        rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
        return np.stack([x[columns], y[rows], x[columns + 1], y[rows + 1]], 1)


def views(photo: np.ndarray, side: int, rule: SizeRule) -> Iterator[View]:
    """The windows of a photo: reduced until its shorter side is `side`, and, where that differs, as it is.

    A photo that is smaller than `side` is seen as it is, cut to a size that the network takes.
    """
    height, width = photo.shape[:2]
    if min(height, width) > side:
        factor = side / min(height, width)
        size = (max(side, round(width * factor)), max(side, round(height * factor)))
        reduced = np.asarray(Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0))
        yield from _windows(reduced, side, rule, _ALONG, width / size[0], height / size[1])
    yield from _windows(photo, side, rule, 2, 1.0, 1.0)


def _windows(photo: np.ndarray, side: int, rule: SizeRule, most: int, across: float, down: float) -> Iterator[View]:
    size = [min(side, length) // rule.multiple_of * rule.multiple_of for length in photo.shape[:2]]
    starts = []
    for length, window in zip(photo.shape[:2], size, strict=True):
        count = min(most, -(-length // window))
        room = length - window
        starts.append([room // 2] if count == 1 else [room * place // (count - 1) for place in range(count)])
    for top in starts[0]:
        for left in starts[1]:
            yield View(photo[top : top + size[0], left : left + size[1]], left, top, across, down)


def alike(seen: Sequence[View]) -> Iterable[list[View]]:
    """Views of one size together, in the order in which they came."""
    groups: dict[tuple[int, ...], list[View]] = {}
    for view in seen:
        groups.setdefault(view.pixels.shape, []).append(view)
    return groups.values()
