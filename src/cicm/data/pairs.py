"""Which hole an evaluation image is scored with: pairs made once, and the hole of each."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import BANDS, InputError, band_of
from cicm.data.generators import HoleGenerator
from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole
from cicm.data.pair_lists import GENERATED, Pair
from cicm.photos.headers import find_images, image_size


def make_pairs(
    images: str | Path,
    masks: str | Path | None = None,
    seed: int = 0,
    *,
    sizes: Sequence[int | tuple[int, int]] | None = (256, 128),
    bands: Sequence[str] = tuple(BANDS),
    invert: bool = False,
    photos: Sequence[Path] | None = None,
    order: Literal["shuffled", "index"] = "shuffled",
) -> list[Pair]:
    """Pair every image of a folder with a hole in each band.

    Masks are dealt from a shuffled deck per size and band: none comes twice before all have come once. A mask whose
    share leaves its band at the size it is scored at is passed over. Same folders and seed, same list.

    By index, as in published protocols, the i-th image gets the i-th mask of each band, beginning anew where a band has
    fewer masks than there are images; where that mask leaves its band, the next one that does not.

    Args:
        masks: folder, as `find_masks` reads it; None to paint every hole from a seed of its own.
        sizes: an image is scored at the first of these (side, or (height, width)) that fits into it; None for its own
            size.
        invert: black is missing in the mask files.
        photos: only these, in this order; paths that begin with `images`. None for all.
        order: "shuffled" or "index"; the latter needs mask files.

    Raises:
        InputError: a folder or file that can't be used, an unknown order, an image smaller than every size,
            masks that look inverted, or no mask for a band.
    """
    if seed < 0:
        raise InputError(f"seed must be 0 or above; got {seed}.")
    if order not in ("shuffled", "index") or (order == "index" and masks is None):
        raise InputError(f'order must be "shuffled" or, with a folder of masks, "index"; got {order!r}.')
    root, paths = Path(images), find_images(images) if photos is None else list(photos)
    rng = np.random.default_rng(seed)
    deck: _Painted | _Deck | _Row
    if masks is None:
        deck = _Painted(rng)
    else:
        deck = _Row(Path(masks), invert) if order == "index" else _Deck(Path(masks), invert, rng)
    rng.permutation(len(paths))  # drawn since the first lists were made: the same seed still gives the same list
    pairs = []
    for place, path in enumerate(paths):
        size = _size_for(path, sizes)
        for band in bands:
            pairs.append(Pair(path.relative_to(root).as_posix(), deck.draw(band, size, place), band, *size))
    return pairs


def hole_of(pair: Pair, masks: str | Path | None = None, *, invert: bool = False) -> Tensor:
    """The hole of a pair at the size it is scored at: (1, height, width), 1 = missing.

    Raises:
        InputError: a mask file that can't be read, no folder for it, a hole outside the pair's band, or one that is no
            longer painted as when the list was made.
    """
    size = (pair.height, pair.width)
    if pair.mask.startswith(GENERATED):
        seed, _, checksum = pair.mask.removeprefix(GENERATED).partition(":")
        hole = _paint(int(seed), pair.band, size)
        if checksum and _checksum(hole) != checksum:
            raise InputError(
                f"the hole {pair.mask} of {pair.image} is painted differently here (another version of Pillow or "
                "numpy). Make the list anew, or use mask files."
            )
    elif masks is None:
        raise InputError(f"the list names mask files, such as {pair.mask}; give the folder that they are in.")
    else:
        hole = resize_hole(to_hole(Path(masks, pair.mask), invert=invert), size)
    share = hole_fraction(hole)
    if band_of(share) != pair.band:
        doubt = " The masks look inverted." if band_of(1 - share) == pair.band else ""
        raise InputError(
            f"the hole {pair.mask} of {pair.image} should be of the band {pair.band} at {size[0]}x{size[1]}, "
            f"but fills {share:.2%}.{doubt} Use the masks that the list was made with, or make it anew."
        )
    return hole


def _size_for(path: Path, sizes: Sequence[int | tuple[int, int]] | None) -> tuple[int, int]:
    height, width = image_size(path)
    if sizes is None:
        return height, width
    for size in sizes:
        wanted = (size, size) if isinstance(size, int) else (size[0], size[1])
        if wanted[0] <= height and wanted[1] <= width:
            return wanted
    known = ",".join(str(size) if isinstance(size, int) else f"{size[1]}x{size[0]}" for size in sizes)
    fits = min(height, width) // 32 * 32
    smaller = f"Add a size that fits, as --size {known},{fits}, or take" if fits else "Take"
    raise InputError(
        f"{path} has {width}x{height} pixels, too few to score at {known}. Photos are never enlarged. "
        f"{smaller} it out of the folder."
    )


class _Files:
    """Mask files by band; whether one keeps its band at a size is looked at once."""

    def __init__(self, root: Path, invert: bool) -> None:
        self.root, self.invert = root, invert
        self.masks = find_masks(root, invert=invert)
        self.known: dict[tuple[Path, tuple[int, int]], bool] = {}

    def fits(self, path: Path, band: str, size: tuple[int, int]) -> bool:
        if (path, size) not in self.known:
            hole = resize_hole(to_hole(path, invert=self.invert), size)
            self.known[path, size] = band_of(hole_fraction(hole)) == band
        return self.known[path, size]

    def none(self, band: str, size: tuple[int, int]) -> InputError:
        return InputError(f"no mask in {self.root} has a share in the band {band} at {size[0]}x{size[1]} pixels.")


class _Deck(_Files):
    """Mask files, dealt from a shuffled deck per size and band."""

    def __init__(self, root: Path, invert: bool, rng: np.random.Generator) -> None:
        super().__init__(root, invert)
        self.rng = rng
        self.decks: dict[tuple[str, tuple[int, int]], Iterator[str]] = {}

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        if (band, size) not in self.decks:
            self.decks[band, size] = self._deal(band, size)
        return next(self.decks[band, size])

    def _deal(self, band: str, size: tuple[int, int]) -> Iterator[str]:
        paths = self.masks.get(band, [])
        kept: list[str] = []
        for place in self.rng.permutation(len(paths)):
            if self.fits(paths[place], band, size):
                kept.append(paths[place].relative_to(self.root).as_posix())
                yield kept[-1]
        if not kept:
            raise self.none(band, size)
        while True:
            yield from kept


class _Row(_Files):
    """Mask files in their own order: the one at the image's place, or the next that keeps its band."""

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        paths = self.masks.get(band, [])
        for step in range(len(paths)):
            path = paths[(place + step) % len(paths)]
            if self.fits(path, band, size):
                return path.relative_to(self.root).as_posix()
        raise self.none(band, size)


class _Painted:
    """Holes from seeds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        seed = int(self.rng.integers(2**32))
        return f"{GENERATED}{seed}:{_checksum(_paint(seed, band, size))}"


def _paint(seed: int, band: str, size: tuple[int, int]) -> Tensor:
    return HoleGenerator(bands=[band])(*size, np.random.default_rng(seed))


def _checksum(hole: Tensor) -> str:
    return f"{zlib.crc32(np.packbits(hole.to(torch.bool).numpy()).tobytes()):08x}"
