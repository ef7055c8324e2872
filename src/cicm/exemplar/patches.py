"""Fill a hole with patches of the photo's known pixels and of other photos, by PyPatchMatch.

The library has one seed for the whole process. Calls are therefore made one after the other, each with its own seed:
the result is the same for any number of threads.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Sequence
from functools import cache
from types import ModuleType

import numpy as np

from cicm.conventions import InputError

RADIUS = 3
"""Of the compared patches: 7x7 pixels."""

MARGIN = 64
"""Known pixels around the hole at least, where the photo has them."""

MOST_PIXELS = 2**21
"""Pixels of the window around the hole, its own box not counted: bounds the time, 3 to 4 s for each 2**20."""

MOST_SOURCE_PIXELS = 2**19
"""Pixels of all other photos together; larger ones are cut around the hole's place."""

_lock = threading.Lock()


class PatchesUnavailable(InputError):
    """PyPatchMatch is missing, or was installed without its native part."""


def available() -> bool:
    """Whether patches can be searched on this machine."""
    library = _library()
    return library is not None and bool(library.patchmatch_available)


def unavailable_reason() -> str:
    """What is missing and what to do, for a notice to the user; empty where nothing is."""
    if available():
        return ""
    if _library() is None:
        return "patches can't be searched: PyPatchMatch is not installed. Run `pip install PyPatchMatch`."
    return (
        "patches can't be searched: PyPatchMatch was installed without its native part, because it has no wheel for "
        "this machine. Install a C++ compiler, CMake and OpenCV, then run "
        "`pip install --force-reinstall --no-deps --no-cache-dir PyPatchMatch`."
    )


def fill_by_patches(
    picture: np.ndarray, hole: np.ndarray, *, sources: Sequence[np.ndarray] = (), radius: int = RADIUS, seed: int = 0
) -> np.ndarray:
    """Fill a hole with patches of known pixels.

    Args:
        picture: (h, w, 3) uint8. Colours in the hole have no influence.
        hole: (h, w) bool, True where missing. Something must be known.
        sources: other photos, (h, w, 3) uint8 each, of any size. They are laid beside the hole's window; without
            alignment, so a place is found again wherever it is.
        radius: of the patches, at least 1.
        seed: another seed, another answer.

    Returns:
        (h, w, 3) uint8, equal to `picture` outside the hole bit for bit. Only a window around the hole is searched, so
        the time does not grow with the picture.

    Raises:
        InputError: a wrong shape, type or radius; a hole that leaves nothing known.
        PatchesUnavailable: PyPatchMatch or its native part is missing.
    """
    _check(picture, hole, sources, radius)
    if not hole.any():
        return picture.copy()
    if hole.all() and not sources:
        raise InputError("nothing to copy from: the hole covers the whole picture. Leave some pixels known.")
    if not available():
        raise PatchesUnavailable(unavailable_reason())
    library = _library()
    assert library is not None
    left, top, right, bottom = _window(hole)
    part, gone = picture[top:bottom, left:right], hole[top:bottom, left:right]
    canvas, missing, unused = _canvas(part, gone, _cut_sources(sources, hole), 2 * radius + 1)
    with _lock:
        library.set_random_seed(seed)
        found = library.inpaint(canvas, missing, global_mask=unused if unused.any() else None, patch_size=radius)
    filled = picture.copy()
    filled[top:bottom, left:right][gone] = found[: bottom - top, : right - left][gone]
    return filled


@cache
def _library() -> ModuleType | None:
    logger = logging.getLogger("patchmatch.patch_match")
    level = logger.level
    logger.setLevel(logging.ERROR)  # its own warning at import; we say it in our words, where it matters
    try:
        import patchmatch
    except ImportError:
        return None
    finally:
        logger.setLevel(level)
    return patchmatch


def _check(picture: np.ndarray, hole: np.ndarray, sources: Sequence[np.ndarray], radius: int) -> None:
    for name, one in [("picture", picture), *((f"sources[{i}]", source) for i, source in enumerate(sources))]:
        if one.ndim != 3 or one.shape[2] != 3 or one.dtype != np.uint8 or 0 in one.shape:
            raise InputError(
                f"{name} must be (h, w, 3) uint8; got {one.shape} {one.dtype}. Convert it with Pixels.eight_bit."
            )
    if hole.shape != picture.shape[:2] or hole.dtype != bool:
        raise InputError(
            f"hole must be {picture.shape[:2]} bool, True where missing; got {hole.shape} {hole.dtype}. "
            "Make it with cicm.photos.masks.missing_pixels."
        )
    if radius < 1:
        raise InputError(f"radius must be at least 1; got {radius}.")


def _window(hole: np.ndarray) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) around the hole: as much as it is long on each side, less where that is too large."""
    height, width = hole.shape
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    # The margin m with (tall + 2m)(wide + 2m) - tall * wide = MOST_PIXELS.
    half = (tall + wide) / 2
    affordable = int((math.sqrt(half * half + MOST_PIXELS) - half) / 2)
    margin = max(MARGIN, min(max(tall, wide), affordable))
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )


def _cut_sources(sources: Sequence[np.ndarray], hole: np.ndarray) -> list[np.ndarray]:
    """The sources, each cut to its share of pixels around the place where the hole is in the picture."""
    if not sources:
        return []
    most = MOST_SOURCE_PIXELS // len(sources)
    rows, columns = np.nonzero(hole)
    center = (rows.mean() / hole.shape[0], columns.mean() / hole.shape[1])
    cut = []
    for source in sources:
        scale = min(1.0, math.sqrt(most / (source.shape[0] * source.shape[1])))
        parts = []
        for size, place in zip(source.shape[:2], center, strict=True):
            kept = max(1, int(size * scale))
            start = int(np.clip(place * size - kept / 2, 0, size - kept))
            parts.append(slice(start, start + kept))
        cut.append(source[parts[0], parts[1]])
    return cut


def _canvas(
    part: np.ndarray, gone: np.ndarray, sources: Sequence[np.ndarray], gap: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The window at the top left and the sources to its right, in columns about as tall as the tallest of all.

    Returns:
        the colours (h, w, 3) uint8; what is missing and what is neither filled nor copied, (h, w) bool each.
    """
    height, width = part.shape[:2]
    tallest = max([height, *(len(source) for source in sources)])
    places, x, y, column = [], width + gap, 0, 0
    for source in sources:
        if y and y + len(source) > tallest:
            x, y, column = x + column + gap, 0, 0
        places.append((y, x))
        y, column = y + len(source) + gap, max(column, source.shape[1])
    size = (tallest, x + column) if sources else (height, width)
    canvas, missing, unused = np.zeros((*size, 3), np.uint8), np.zeros(size, bool), np.ones(size, bool)
    for (top, left), one in zip([(0, 0), *places], [part, *sources], strict=True):
        here = slice(top, top + one.shape[0]), slice(left, left + one.shape[1])
        canvas[here], unused[here] = one, False
    missing[:height, :width] = gone
    return canvas, missing, unused
