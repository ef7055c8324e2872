"""Mask files and masks in memory to missing pixels, without torch: here it is decided that white means missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cicm.conventions import InputError, Notice, give_notice
from cicm.files import reason_of
from cicm.photos.pixels import check_range, pixels_of_image

_THRESHOLD = 128  # grey value (of 255) from which a pixel of a mask file is white


_MOST_GREY = 0.1  # share of a mask's pixels that may lie between black and white, as soft edges do


class MaskWarning(Notice):
    """A mask that is not near black and white: often a photo given in its place."""


def missing_pixels(mask: Any, *, invert: bool = False) -> np.ndarray:
    """Which pixels a mask marks; `cicm.data.to_hole` tells what it takes, and gives the same as a tensor.

    Args:
        mask: a path, a PIL image, an array or a tensor.
        invert: black is missing instead. See-through pixels stay known.

    Returns:
        (H, W) bool.

    Raises:
        InputError: as `to_hole`.

    Warns:
        MaskWarning: more than `_MOST_GREY` of the pixels are neither near black nor near white.

    Example:
        >>> missing_pixels(np.array([[0, 127, 128, 255]], dtype=np.uint8)).tolist()
        [[False, False, True, True]]
    """
    if isinstance(mask, str | Path):
        values = _values_of_file(Path(mask))
        name = f"mask {mask}"
    else:
        values = _values_of_image(mask) if isinstance(mask, Image.Image) else _channels_last(mask)
        name = "mask"
    white, opaque = _white(values, name)
    return (white != invert) & opaque


def _values_of_file(path: Path) -> np.ndarray:
    from cicm.photos.photo import open_photo

    try:
        pixels = open_photo(path).pixels
        return pixels.expanded(to_rgb=True).eight_bit().values
    except InputError:
        raise
    except OSError as problem:
        raise InputError(f"expected a mask file; can't read {path}: {reason_of(problem)}") from problem


def _values_of_image(image: Image.Image) -> np.ndarray:
    return pixels_of_image(image).expanded(to_rgb=True).eight_bit().values


def _channels_last(mask: Any) -> np.ndarray:
    """(H, W) or (H, W, C) from an array or a channels-first tensor."""
    if hasattr(mask, "detach"):  # a tensor; torch stays where it is
        values, shapes = mask.detach().cpu().numpy(), "(H, W), (1, H, W), (3, H, W) or (4, H, W)"
        if values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
    elif isinstance(mask, np.ndarray):
        values, shapes = mask, "(H, W), (1, H, W), (H, W, 1), (H, W, 3) or (H, W, 4)"
        if values.ndim == 3 and values.shape[0] == 1 and values.shape[2] not in (1, 3, 4):
            values = values[0]  # as a tensor's
    else:
        raise InputError(f"mask must be a path, a PIL image, an array or a tensor; got {type(mask).__name__}.")
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[..., 0]
    if values.size == 0 or not (values.ndim == 2 or (values.ndim == 3 and values.shape[2] in (3, 4))):
        raise InputError(f"mask must be one mask, {shapes}, not empty; got {tuple(mask.shape)}.")
    return values


def _white(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels are white, and which are opaque, as (H, W) bools."""
    kind = values.dtype.kind
    if kind == "f":
        check_range(values, name)
        # floor(256 v), 1 apart: 128 stands for one half and more.
        values = np.minimum(values * 256.0, 255.0).astype(np.uint8)
    elif kind == "b":
        values = values.astype(np.uint8) * np.uint8(255)
    elif kind in "iu":
        most = 65535 if values.dtype == np.uint16 else 255
        if values.min() < 0 or values.max() > most:
            raise InputError(f"{name} must lie in 0 to {most}; got {values.min()} to {values.max()}.")
        colours = values[..., :3] if values.ndim == 3 else values
        if colours.max() == 1:
            raise InputError(
                f"{name} holds only 0 and 1; expected grey values up to {most}, of which both are black. "
                f"Multiply it by {most}, or make the array bool."
            )
        values = (values // 257 if most == 65535 else values).astype(np.uint8)
    else:
        raise InputError(f"{name} must be bool, whole numbers or floating point; got {values.dtype}.")
    opaque = np.ones(values.shape[:2], dtype=bool)
    if values.ndim == 3:
        if values.shape[2] == 4:
            opaque = values[..., 3] >= _THRESHOLD
        # Whole numbers, as Pillow's: grey stays exactly what it was.
        red, green, blue = np.moveaxis(values[..., :3].astype(np.uint32), -1, 0)
        values = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
    grey = float(((values > 31) & (values < 224) & opaque).mean())
    if grey > _MOST_GREY:
        give_notice(
            f"{name} is not black and white: {grey:.0%} of its pixels are grey or coloured. "
            "Check that it is a mask and not a photo.",
            MaskWarning,
        )
    return values >= _THRESHOLD, opaque
