"""A few photos that are in memory already: an album without an index and without files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from cicm.conventions import InputError
from cicm.exemplar.album import likeness

ALL_TRIED = 8
"""So many photos are all tried; of more, those most like the damaged one."""


class Held(NamedTuple):
    """A photo that may share a damaged photo's content.

    Args:
        name: what reports call it.
        sha256: of its file.
        pixels: (h, w, 3) uint8, upright.
    """

    name: str
    sha256: str
    pixels: np.ndarray

    def read(self) -> np.ndarray:
        """The photo's upright colours, (h, w, 3) uint8."""
        return self.pixels


class Handful:
    """Photos that are tried one after the other.

    Args:
        photos: (name, (h, w, 3) uint8 upright pixels, SHA-256 of the file) of each; the same file twice counts once.

    Raises:
        InputError: pixels of another kind.
    """

    def __init__(self, photos: Sequence[tuple[str, np.ndarray, str]]) -> None:
        held: dict[str, Held] = {}
        for name, pixels, digest in photos:
            if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or 0 in pixels.shape:
                raise InputError(
                    f"{name} must be (h, w, 3) uint8; got {pixels.shape} {pixels.dtype}. "
                    "Convert it with Pixels.eight_bit."
                )
            held.setdefault(digest, Held(name, digest, pixels))
        self.photos = tuple(held.values())

    def find(
        self, picture: np.ndarray, hole: np.ndarray, *, count: int = ALL_TRIED, without: Collection[str] = ()
    ) -> list[Held]:
        """All photos where they are few; of more, the most alike first, as `Album.find` tells.

        Args:
            picture: (h, w, 3) uint8.
            hole: (h, w) bool; what is missing is not looked at.
            count: at most so many, or `ALL_TRIED` if that is more.
            without: SHA-256 of files that are not to be found.
        """
        found = [one for one in self.photos if one.sha256 not in without]
        most = max(count, ALL_TRIED)
        if len(found) > most:
            alike = likeness(picture, hole, [one.pixels for one in found])
            found = [found[k] for k in np.argsort(-alike, kind="stable")[:most]]
        return found
