"""Where real pixels come in: flat places first, then patches, then copies from an album's photos. No torch."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from cicm.conventions import InputError
from cicm.exemplar.album import open_album
from cicm.exemplar.align import Copies, aligned_copies, check_available
from cicm.exemplar.joining import join
from cicm.exemplar.patches import PatchesUnavailable, available, fill_by_patches, unavailable_reason
from cicm.exemplar.shapes import components
from cicm.exemplar.smooth import smooth_fill
from cicm.inference.canvas import Filling
from cicm.inference.plan import Part
from cicm.inference.settings import FillSettings
from cicm.inference.tiles import any_of, cut, depth, reduce, strips
from cicm.photos.pixels import Box
from cicm.photos.resampling import cubic

LENDERS = 4
"""So many photos of an album are tried for one hole."""

SOURCES = 2
"""Photos among which patches are searched beside the damaged one."""

SURE = 0.9
"""Weight from which on a copied pixel counts as known to the search for patches."""

AROUND = 512
"""Known pixels around the holes, at least, in which other photos' places are recognised."""

LARGEST = 2**21
"""Pixels of the box around a hole up to which patches are searched at full size: bounds the time."""

REDUCED = (1.25, 2.5)
"""A hole that the network saw reduced so many times is a blur in its fill: from the second on patches fill it alone."""


class Lender(Protocol):
    """A photo that an album found."""

    @property
    def name(self) -> str:
        """What reports call it."""

    def read(self) -> np.ndarray:
        """Its upright colours, (h, w, 3) uint8."""


class _Known(Protocol):
    @property
    def sha256(self) -> str:
        """Of the file."""


class Finder(Protocol):
    """What an album can do; see `cicm.exemplar.album.Album` and `cicm.exemplar.handful.Handful`."""

    @property
    def photos(self) -> Sequence[_Known]:
        """All of its photos."""

    def find(self, picture: np.ndarray, hole: np.ndarray, *, count: int, without: Collection[str]) -> Sequence[Lender]:
        """The photos most like the known part of a damaged one."""


def lending(album: str | os.PathLike | Finder | None) -> Finder | None:
    """An album, by whatever names it.

    Args:
        album: a folder of photos; a file that `cicm remember` wrote; or an album, which is given back.

    Raises:
        AlignmentUnavailable: OpenCV is missing, without which no photo can lend pixels.
        InputError: nothing there, a damaged file, a folder without a photo.
    """
    if album is None:
        return None
    check_available()
    return open_album(album) if isinstance(album, (str, os.PathLike)) else album


def check_fill(settings: FillSettings) -> None:
    """Refuse a way of filling that this machine can't do, before any work.

    Raises:
        PatchesUnavailable: patches alone were asked for, and can't be searched.
    """
    if settings.fill == "exemplar" and not available():
        raise PatchesUnavailable(unavailable_reason())


def fill_done(settings: FillSettings) -> str:
    """The way of filling that was possible: `network` for `both` where patches can't be searched."""
    return "network" if settings.fill == "both" and not available() else settings.fill


def borrow(filling: Filling, album: Finder, without: Collection[str]) -> None:
    """Look among an album's photos for those that show the hole's place, and bring their pixels into place.

    Args:
        filling: the picture, before anything is filled; what it holds in the hole is what is to be replaced.
        album: where to look.
        without: SHA-256 of files that are not to be used: the damaged photo's own.

    Raises:
        AlignmentUnavailable: OpenCV is missing.
    """
    box = _around(filling.hole)
    gone = cut(filling.hole, box)
    colours = filling.canvas.read(box)
    hits = album.find(_eight(colours), gone, count=LENDERS, without=without)
    photos, names = [], []
    for hit in hits:
        try:
            photos.append(hit.read())
            names.append(hit.name)
        except InputError as error:
            filling.note(f"a photo of the album can't be used: {error}")
    copies = aligned_copies(colours, gone, photos, unwanted=colours)
    if copies.same:
        filling.note(f"not copied from {', '.join(names[k] for k in copies.same)}: it shows what is to be replaced")
    filling.copies = (box, copies)
    filling.lenders = tuple(names[k] for k in copies.used)
    filling.sources = tuple(photos[k] for k in copies.used[:SOURCES])


def lay_over(filling: Filling, part: Part, own: np.ndarray) -> None:
    """Put the copies of `borrow` over what a crop was filled with, where they are sure."""
    copies = _copies_in(filling, part.box)
    if copies is not None and (places := own & (copies.weight > 0)).any():
        filling.canvas.write(part.box, copies.over(filling.canvas.read(part.box)), places)


def _copies_in(filling: Filling, box: Box) -> Copies | None:
    """What `borrow` found for a box; None where it found nothing."""
    if filling.copies is None:
        return None
    for_box, copies = filling.copies
    low, high = np.maximum(for_box[:2], box[:2]), np.minimum(for_box[2:], box[2:])
    if (high <= low).any():
        return None
    size = (box[3] - box[1], box[2] - box[0])
    weight, colours = np.zeros(size, np.float32), np.zeros((*size, 3), np.float32)
    here, there = ((low[0] - b[0], low[1] - b[1], high[0] - b[0], high[1] - b[1]) for b in (box, for_box))
    cut(weight, here)[...], cut(colours, here)[...] = cut(copies.weight, there), cut(copies.colours, there)
    return Copies(colours, weight) if weight.any() else None


def _around(hole: np.ndarray) -> Box:
    """(left, top, right, bottom) of the holes and what surrounds them."""
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    margin = max(AROUND, int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(hole.shape[1], int(columns[-1]) + 1 + margin),
        min(hole.shape[0], int(rows[-1]) + 1 + margin),
    )


def _eight(colours: np.ndarray) -> np.ndarray:
    return np.rint(colours * 255.0).astype(np.uint8)


def fill_flat(filling: Filling, part: Part, own: np.ndarray) -> np.ndarray:
    """Fill the places of a crop that lie in one colour or in an even ramp.

    Args:
        filling: the picture.
        part: the crop.
        own: (h, w) bool, the places to fill.

    Returns:
        (h, w) bool, what is left to fill.
    """
    colours, done = smooth_fill(filling.canvas.read(part.box), cut(filling.missing, part.box))
    done &= own
    if not done.any():
        return own
    filling.canvas.write(part.box, colours, done)
    cut(filling.missing, part.box)[done] = False
    return own & ~done


def add_patches(filling: Filling, part: Part, own: np.ndarray, settings: FillSettings) -> None:
    """Fill a crop with patches, or join patches with what the network has filled it with.

    Args:
        filling: the picture; its canvas holds the network's fill where `own` is, unless `settings.fill` is `exemplar`.
        part: the crop.
        own: (h, w) bool, the places to fill.
        settings: says how, and the seed.

    Raises:
        PatchesUnavailable: patches were asked for by `fill = "exemplar"`, and can't be searched on this machine.
    """
    if settings.fill == "both" and not available():
        filling.note(unavailable_reason() + " The network filled all of it.")
        return
    gone = cut(filling.missing, part.box)
    if gone.all():  # only possible where a crop is all hole; the network has done what can be done
        filling.note("a hole fills all of what is seen of it; no real pixels could be found for it")
        return
    rows, columns = (np.flatnonzero(gone.any(axis)) for axis in (1, 0))
    factor = math.sqrt(int(rows[-1] - rows[0] + 1) * int(columns[-1] - columns[0] + 1) / LARGEST)
    if factor > 1:
        filling.note(f"the hole is very large; its patches were searched at 1/{factor:.2g} of its size")
        _add_reduced(filling, part, own, gone, settings, factor)
        return
    colours = filling.canvas.read(part.box)
    if copies := _copies_in(filling, part.box):  # what is copied for sure is as good as known
        sure = gone & (copies.weight > SURE)
        colours[sure], gone = copies.colours[sure], gone & ~sure
    if gone.any():
        alone = _seen_reduced(gone, settings.widest) if part.plan is None else None
        colours = _with_patches(colours, gone, settings, filling.sources, alone)
    # Under sure copies lies the network's fill, or else what is to be replaced, of which nothing may shine through.
    filling.canvas.write(part.box, colours, own if settings.fill == "exemplar" else own & gone)


def _seen_reduced(gone: np.ndarray, widest: float) -> np.ndarray:
    """(h, w) float32: 1 in holes that the network saw much reduced, 0 where it saw them about as they are."""
    deep, share = depth(gone), np.zeros(gone.shape, np.float32)
    for rows, columns in components(gone):
        factor = 2.0 * float(deep[rows, columns].max()) / widest
        share[rows, columns] = np.clip((factor - REDUCED[0]) / (REDUCED[1] - REDUCED[0]), 0, 1)
    return share


def _with_patches(
    colours: np.ndarray,
    gone: np.ndarray,
    settings: FillSettings,
    sources: Sequence[np.ndarray] = (),
    alone: np.ndarray | None = None,
) -> np.ndarray:
    found = fill_by_patches(_eight(colours), gone, sources=sources, seed=settings.seed)
    patches = found.astype(np.float32) / 255.0
    if settings.fill == "exemplar":
        return patches
    joined = join(colours, patches, gone)
    return joined if alone is None else joined + alone[..., None] * (patches - joined)


def _add_reduced(
    filling: Filling, part: Part, own: np.ndarray, gone: np.ndarray, settings: FillSettings, factor: float
) -> None:
    """The same at a smaller size; of `both`, what the patches change is enlarged, so the network's detail stays."""
    canvas, box, (height, width) = filling.canvas, part.box, gone.shape
    work = (max(1, round(height / factor)), max(1, round(width / factor)))
    small, _ = reduce(canvas.read, np.zeros_like(gone), box, work)
    cells = any_of(gone, work)
    alone = _seen_reduced(cells, settings.widest / factor) if part.plan is None else None
    found = _with_patches(small, cells, settings, alone=alone)
    change = found - small if settings.fill == "both" else found
    for start, stop in strips(height, width):
        if own[start:stop].any():
            here = (box[0], box[1] + start, box[2], box[1] + stop)
            colours = cubic(change, (height, width), start, stop)
            if settings.fill == "both":
                colours = colours + canvas.read(here)
            canvas.write(here, np.clip(colours, 0.0, 1.0), own[start:stop])
