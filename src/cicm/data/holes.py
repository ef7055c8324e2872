"""Mask files to holes."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cicm.conventions import BANDS, InputError, band_of, band_of_range
from cicm.files import evenly_spaced
from cicm.photos.headers import find_images
from cicm.photos.masks import missing_pixels

NVIDIA_COUNT = 12_000  # files of the irregular test masks of Liu et al., 2,000 for each ten percent, in order


def to_hole(mask: str | Path | Image.Image | np.ndarray | Tensor, *, invert: bool = False) -> Tensor:
    """A hole from whatever holds a mask: white (128 of 255 and above) is missing, black is known.

    Colour counts by its luma (ITU-R BT.601, as Pillow's "L"); a pixel less than half opaque is known, whatever its
    colour. Of numbers, 8-bit ones run to 255, 16-bit ones to 65535, floating ones to 1; bool is taken as it is.

    Args:
        mask: a path (turned upright by its EXIF), a PIL image, an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), or
            a tensor (H, W), (1, H, W), (3, H, W) or (4, H, W).
        invert: black is missing instead. See-through pixels stay known.

    Returns:
        (1, H, W) float32, 1 = missing.

    Raises:
        InputError: a file that can't be read; another shape or dtype; numbers that are not finite or out of range;
            whole numbers that are all 0 or 1, which as grey values would all be black.

    Example:
        >>> to_hole(np.array([[0, 127, 128, 255]], dtype=np.uint8)).tolist()
        [[[0.0, 0.0, 1.0, 1.0]]]
    """
    return torch.from_numpy(missing_pixels(mask, invert=invert).astype(np.float32))[None]


def resize_hole(hole: Tensor, size: tuple[int, int]) -> Tensor:
    """The hole at another size: each new pixel takes the old one under its centre.

    On the irregular masks, 256 to 128, that keeps the missing share to 0.4 percent points and on average exactly; an
    area average cut at one half is off by 1.1 points on average and 2.6 at most, because ties all fall to one side. The
    band is that of the resized hole.

    Returns:
        (1, height, width), same dtype; the same tensor if nothing changes.

    Example:
        >>> resize_hole(torch.tensor([[[0.0, 1.0, 0.0, 0.0]]]), (1, 2)).tolist()
        [[[1.0, 0.0]]]
    """
    if tuple(hole.shape[-2:]) == tuple(size):
        return hole
    if min(size) < 1:
        raise InputError(f"a hole's size must be 1x1 or more; got {size[0]}x{size[1]}.")
    rows, columns = (
        # Whole numbers: (2 i + 1) * old // (2 * new) is floor((i + 1/2) * old / new) without its rounding.
        (2 * torch.arange(new) + 1) * old // (2 * new)
        for old, new in zip(hole.shape[-2:], size)
    )
    return hole[..., rows[:, None], columns[None, :]]


def hole_fraction(hole: Tensor) -> float:
    """Share of the pixels that are missing, exact: a count divided by a count.

    A float32 mean of one fifth comes out above 0.2, and so in another band.

    Example:
        >>> hole_fraction(torch.tensor([[[1.0, 0.0, 0.0, 0.0, 0.0]]]))
        0.2
    """
    return int(torch.count_nonzero(hole)) / max(1, hole.numel())


def find_masks(root: str | Path, *, invert: bool = False) -> dict[str, list[Path]]:
    """The mask files of a folder by band, in a stable order.

    Three layouts, the first that fits: subfolders named after bands (`0-20`, `0%-20%`, `0_20`; ten-percent folders such
    as `10-20` join their band); NVIDIA's 12,000 files, whose number tells the band; any other folder, of which every
    file is read. In the first two a few files are read to see that they say what their place says.

    Raises:
        InputError: no folder, no images, subfolders of which only some are bands, a file that can't be read, or masks
            that look inverted or misplaced.
    """
    root = Path(root)
    files = find_images(root)
    bands: dict[str, list[Path]] = {name: [] for name in BANDS}
    tops = {path: path.relative_to(root).parts[0] for path in files if path.parent != root}
    named = {top: band_of_range(top) for top in tops.values()}
    numbers = {int(path.stem): path for path in files if path.stem.isdecimal() and path.stem.isascii()}
    if any(named.values()):
        strangers = sorted({top for top, band in named.items() if band is None})
        strangers += [path.name for path in files if path.parent == root]
        if strangers:
            raise InputError(
                f"expected only folders of bands ({', '.join(BANDS)}) in {root}; got also {strangers[0]}. "
                "Give a folder that holds the masks and nothing else."
            )
        for path in files:
            bands[named[tops[path]] or ""].append(path)
    elif len(files) == len(numbers) == NVIDIA_COUNT and set(numbers) == set(range(NVIDIA_COUNT)):
        for number, path in sorted(numbers.items()):
            bands[list(BANDS)[3 * number // NVIDIA_COUNT]].append(path)
    else:
        return _by_content(root, files, invert)
    for band, paths in bands.items():
        _check_band(root, band, paths, invert)
    return {band: paths for band, paths in bands.items() if paths}


def _by_content(root: Path, files: list[Path], invert: bool) -> dict[str, list[Path]]:
    bands: dict[str, list[Path]] = {name: [] for name in BANDS}
    outside = {"none": 0, "too much": 0}
    for path in files:
        share = hole_fraction(to_hole(path, invert=invert))
        band = band_of(share)
        if band is None:
            outside["none" if share == 0 else "too much"] += 1
        else:
            bands[band].append(path)
    if 2 * outside["too much"] > len(files):
        raise InputError(
            f"{outside['too much']} of {len(files)} masks in {root} would fill more than 60 percent: they look "
            f"inverted (expected {_colours(invert)}). Say so with invert={not invert}."
        )
    if sum(outside.values()):
        warnings.warn(
            f"{sum(outside.values())} of {len(files)} masks in {root} are left out: {outside['none']} fill nothing, "
            f"{outside['too much']} more than 60 percent.",
            stacklevel=3,
        )
    found = {band: paths for band, paths in bands.items() if paths}
    if not found:
        raise InputError(f"no mask in {root} fills between 0 and 60 percent; check that the files are masks.")
    return found


def _check_band(root: Path, band: str, paths: list[Path], invert: bool) -> None:
    """Read a few files of a band's folder; refuse the folder when most of them are not of that band."""
    low, high = BANDS[band]
    votes: Counter[str] = Counter()
    shares = []
    for path in evenly_spaced(paths, 7):
        share = hole_fraction(to_hole(path, invert=invert))
        shares.append(share)
        # 0.02: the share at which a file was sorted may have been taken at another size.
        right, wrong = (low - 0.02 < value <= high + 0.02 for value in (share, 1 - share))
        votes["right" if right else "inverted" if wrong else "elsewhere"] += 1
    if not paths or 2 * votes["right"] >= votes.total():
        return
    if votes["inverted"] >= votes["elsewhere"]:
        raise InputError(
            f"masks of the band {band} in {root} look inverted: they would fill {min(shares):.0%} to {max(shares):.0%} "
            f"(expected {_colours(invert)}). Say so with invert={not invert}."
        )
    raise InputError(
        f"masks of the band {band} in {root} fill {min(shares):.0%} to {max(shares):.0%}; expected {low:.0%} to "
        f"{high:.0%}. Put them into the folder of their band, or all into one folder without bands."
    )


def _colours(invert: bool) -> str:
    return "black = fill, white = known" if invert else "white = fill, black = known"
