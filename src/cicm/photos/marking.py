"""Where a photo is to be filled: one function makes the hole, whatever marks it. No torch.

`Marks` says where: mask files, transparency, a colour, boxes or polygons. `mark` gives the hole.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cicm.conventions import InputError
from cicm.files import check_readable
from cicm.photos.masks import missing_pixels
from cicm.photos.photo import Photo, check_mask_size
from cicm.photos.pixels import Box, Pixels

MAX_GROW = 512  # most pixels that a hole is grown by

Polygon = tuple[tuple[float, float], ...]  # corners (x, y) in pixels from the picture's top left corner


@dataclass(frozen=True, kw_only=True, eq=False)
class Marks:
    """Says where a photo is to be filled: by masks, by transparency, by a colour, or by boxes and polygons.

    Args:
        masks: paths, `Photo`s, PIL images, arrays or tensors of the photo's size, white = fill; several are united.
        alpha: fill where the photo is transparent (opacity below one half); it is opaque there afterwards.
        colour: fill where the photo has this colour; red, green and blue, 0 to 255.
        tolerance: largest difference from the colour in any of the three that still counts.
        boxes: fill these, (left, top, right, bottom) in pixels; right and bottom are the first that are not filled.
        polygons: fill the pixels whose centres lie inside.
        invert: fill what would be kept, and keep what would be filled.
        grow: pixels by which the hole is grown to all sides, after inverting.

    Raises:
        InputError: not one kind of mark, or a number out of its range.

    Example:
        >>> _, hole = mark(Pixels(np.zeros((3, 5), np.uint8), "L"), Marks(boxes=((1, 0, 3, 2),)))
        >>> hole.astype(int).tolist()
        [[0, 1, 1, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]]
    """

    masks: tuple[Any, ...] = ()
    alpha: bool = False
    colour: tuple[int, int, int] | None = None
    tolerance: int = 8
    boxes: tuple[Box, ...] = ()
    polygons: tuple[Polygon, ...] = ()
    invert: bool = False
    grow: int = 0

    def __post_init__(self) -> None:
        kinds = {
            "masks": bool(self.masks),
            "alpha": self.alpha,
            "colour": self.colour is not None,
            "boxes or polygons": bool(self.boxes or self.polygons),
        }
        if sum(kinds.values()) != 1:
            came = " and ".join(name for name, given in kinds.items() if given) or "none"
            raise InputError(f"where to fill is said by one of {', '.join(kinds)}; got {came}.")
        check_grow(self.grow)
        if self.colour is not None:
            check_colour(self.colour, self.tolerance)


def mark(pixels: Pixels, marks: Marks) -> tuple[Pixels, np.ndarray]:
    """The picture as it is to be filled, and its hole, (H, W) bool, with something in it.

    Raises:
        InputError: a mask that can't be read or has another size; a box outside the picture; nothing to fill, or all.
    """
    if not marks.alpha:
        return pixels, _checked(_hole(pixels.size, marks, pixels), marks)
    pixels = pixels.expanded(to_rgb=False)
    hole = _checked(_hole(pixels.size, marks, pixels), marks)
    if pixels.layout in ("LA", "RGBA"):
        values = pixels.values.copy()
        values[hole, -1] = np.array(pixels.ceiling, values.dtype)
        pixels = replace(pixels, values=values)
    return pixels, hole


def mark_size(size: tuple[int, int], marks: Marks) -> np.ndarray:
    """The hole in a picture of (height, width) whose pixels are not at hand.

    Raises:
        InputError: as `mark`; marks by transparency or colour.
    """
    if marks.alpha or marks.colour is not None:
        raise InputError("transparency and colours mark photos, PIL images and arrays. Give a mask, boxes or polygons.")
    return _checked(_hole(size, marks, None), marks)


def check_grow(grow: int) -> None:
    """Refuse to grow by less than 0 or more than 512 pixels."""
    if not 0 <= grow <= MAX_GROW:
        raise InputError(f"a hole grows by 0 to {MAX_GROW} pixels; got {grow}.")


def check_colour(colour: tuple[int, int, int], tolerance: int) -> None:
    """Refuse parts of a colour, or a tolerance, outside 0 to 255."""
    if len(colour) != 3 or not all(0 <= part <= 255 for part in (*colour, tolerance)):
        raise InputError(f"a colour has three parts of 0 to 255, and a tolerance as well; got {colour}, {tolerance}.")


def grown(hole: np.ndarray, by: int) -> np.ndarray:
    """A hole and all pixels at most `by` away from it, in a straight line: what OpenCV's ellipse is meant to be.

    Args:
        hole: (H, W) bool.
        by: pixels, 0 or more.

    Returns:
        (H, W) bool; the same array if nothing grows.

    Example:
        >>> dot = np.zeros((5, 5), dtype=bool)
        >>> dot[2, 2] = True
        >>> grown(dot, 2).sum(1).tolist()
        [1, 3, 5, 3, 1]
    """
    if by == 0 or not hole.any():
        return hole
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    top, bottom = max(0, rows[0] - by), min(hole.shape[0], rows[-1] + 1 + by)
    left, right = max(0, columns[0] - by), min(hole.shape[1], columns[-1] + 1 + by)
    part = hole[top:bottom, left:right]
    height, width = part.shape
    # The number of pixels up to each column, with enough room on both sides: a row grows by a difference of two.
    count = np.zeros((height, width + 2 * by + 1), dtype=np.int32)
    count[:, by + 1 : by + 1 + width] = np.cumsum(part, axis=1)
    count[:, by + 1 + width :] = count[:, by + width : by + width + 1]
    result = np.zeros_like(part)
    for down in range(min(by, height - 1) + 1):
        reach = int((by * by - down * down) ** 0.5)
        wide = count[:, by + reach + 1 : by + reach + 1 + width] > count[:, by - reach : by - reach + width]
        result[down:] |= wide[: height - down]
        result[: height - down] |= wide[down:]
    whole = np.zeros_like(hole)
    whole[top:bottom, left:right] = result
    return whole


# What each kind of mark means


def _hole(size: tuple[int, int], marks: Marks, pixels: Pixels | None) -> np.ndarray:
    if marks.masks:  # each is inverted by itself: its see-through pixels stay known
        holes = [_of_mask(mask, size, marks.invert) for mask in marks.masks]
        return holes[0] if len(holes) == 1 else np.logical_or.reduce(holes)
    if marks.boxes or marks.polygons:
        hole = _of_shapes(size, marks.boxes, marks.polygons)
    else:
        assert pixels is not None, "mark_size refuses the rest"
        hole = _of_alpha(pixels) if marks.colour is None else _of_colour(pixels, marks.colour, marks.tolerance)
    return ~hole if marks.invert else hole


def _of_mask(mask: Any, size: tuple[int, int], invert: bool) -> np.ndarray:
    if isinstance(mask, str | os.PathLike):
        told = check_readable(mask, "mask").stat()
        hole = _of_file(os.fspath(mask), invert, told.st_size, told.st_mtime_ns)
    elif isinstance(mask, Photo):
        check_mask_size(mask.size, size)
        pixels = mask.pixels
        if pixels.layout != "L" or pixels.key is not None:  # grey stays as it is: a third of the memory
            pixels = pixels.expanded(to_rgb=True)
        hole = missing_pixels(pixels.eight_bit().values, invert=invert)
    else:
        hole = missing_pixels(mask, invert=invert)
    check_mask_size(hole.shape, size)
    return hole


@lru_cache(maxsize=1)  # one mask may be for a whole folder of photos
def _of_file(path: str, invert: bool, size: int, changed: int) -> np.ndarray:
    hole = missing_pixels(Path(path), invert=invert)
    hole.flags.writeable = False
    return hole


def _of_alpha(pixels: Pixels) -> np.ndarray:
    if pixels.layout not in ("LA", "RGBA"):
        return np.zeros(pixels.size, dtype=bool)
    return pixels.values[..., -1] < pixels.ceiling / 2


def _of_colour(pixels: Pixels, colour: tuple[int, int, int], tolerance: int) -> np.ndarray:
    colours = pixels.expanded(to_rgb=True).eight_bit().values[..., :3]
    wanted = np.array(colour, dtype=np.int16)
    low, high = np.clip([wanted - tolerance, wanted + tolerance], 0, 255).astype(np.uint8)
    return ((colours >= low) & (colours <= high)).all(2)


def _of_shapes(size: tuple[int, int], boxes: tuple[Box, ...], polygons: tuple[Polygon, ...]) -> np.ndarray:
    height, width = size
    hole = np.zeros(size, dtype=bool)
    for left, top, right, bottom in boxes:
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise InputError(
                f"the box {left}, {top}, {right}, {bottom} (left, top, right, bottom) does not lie in the picture of "
                f"{width}x{height}. Correct it."
            )
        hole[top:bottom, left:right] = True
    for corners in polygons:
        if len(corners) < 3 or not all(0 <= x <= width and 0 <= y <= height for x, y in corners):
            told = ", ".join(f"({x:g}, {y:g})" for x, y in corners)
            raise InputError(
                f"a polygon has three or more corners (x, y) in the picture of {width}x{height}; got {told}. "
                "Correct it."
            )
        _add_polygon(hole, corners)
    return hole


def _add_polygon(hole: np.ndarray, corners: Polygon) -> None:
    """Mark the pixels whose centres lie inside, by the even-odd rule."""
    ends = np.array(corners, dtype=np.float64)
    starts = np.roll(ends, 1, axis=0)
    columns = np.arange(hole.shape[1]) + 0.5
    low, high = int(ends[:, 1].min()), int(np.ceil(ends[:, 1].max()))
    for row in range(low, high):
        y = row + 0.5
        crosses = (starts[:, 1] <= y) != (ends[:, 1] <= y)
        (x0, y0), (x1, y1) = starts[crosses].T, ends[crosses].T
        edges = np.sort(x0 + (y - y0) * (x1 - x0) / (y1 - y0))
        hole[row] |= np.searchsorted(edges, columns, side="right") % 2 == 1


# What is no hole


def _checked(hole: np.ndarray, marks: Marks) -> np.ndarray:
    if not hole.any():
        raise InputError(_nothing(marks))
    hole = grown(hole, marks.grow)
    if hole.all():
        raise InputError(
            "nothing known to start from: the whole picture would be filled. Leave something as it is, grow less, or "
            "turn the meaning round with --invert (invert=True)."
        )
    return hole


def _nothing(marks: Marks) -> str:
    if marks.alpha:
        return "nothing to fill: no pixel is transparent. Erase the places to fill, and keep the alpha channel."
    if marks.colour is not None:
        red, green, blue = marks.colour
        return (
            f"nothing to fill: no pixel is within {marks.tolerance} of the colour {red:02x}{green:02x}{blue:02x}. "
            "JPEG moves colours: allow more with --mask-tolerance (tolerance=)."
        )
    if marks.boxes or marks.polygons:
        return "nothing to fill: the boxes and polygons hold no pixel, or with invert all of them. Correct them."
    return (
        f"nothing to fill: the mask {'is all white' if marks.invert else 'has no white'}. White means fill; "
        "paint the places to fill white, or turn the meaning round with --invert (invert=True)."
    )
