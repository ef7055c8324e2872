"""A picture that is being filled: read in boxes as colours, written where something is missing. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from cicm.exemplar.align import Copies
from cicm.inference.plan import Part, Plan
from cicm.inference.tiles import cut
from cicm.photos.pixels import Box, Pixels


class Canvas(Protocol):
    """A picture that is being filled."""

    def read(self, box: Box) -> np.ndarray:
        """(h, w, 3) float32 in [0, 1]."""

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        """Store colours (h, w, 3) where places (h, w) are True.

        Raises:
            InputError: a colour that is not finite.
        """


class PixelCanvas:
    """A picture's stored numbers, being filled; the caller's are not written to."""

    def __init__(self, pixels: Pixels) -> None:
        self.pixels = replace(pixels, values=pixels.values.copy())

    def read(self, box: Box) -> np.ndarray:
        """As `Canvas` says."""
        return self.pixels.rgb(box)

    def write(self, box: Box, colours: np.ndarray, places: np.ndarray) -> None:
        """As `Canvas` says."""
        here = cut(self.pixels.values, box)
        here[...] = replace(self.pixels, values=here).filled(colours, places).values


@dataclass
class Filling:
    """One picture on its way to being filled.

    Args:
        canvas: the picture.
        hole: (H, W) bool, what was missing at first.
        parts: its crops, in the order in which they are filled.
        missing: (H, W) bool, what still is missing.
        calls: how the network saw each part that it was shown.
        reduced: the largest factor by which a part was reduced.
        notes: what a reader of the report should know; each is told once.
        copies: what other photos of the same scene offer, and the box (left, top, right, bottom) that it is for.
        sources: photos of the same scene, (h, w, 3) uint8 each, to search for patches too.
        lenders: the photos that gave pixels, the one with the largest share first.
    """

    canvas: Canvas
    hole: np.ndarray
    parts: tuple[Part, ...]
    missing: np.ndarray = field(init=False)
    calls: list[Plan] = field(default_factory=list)
    reduced: float = 1.0
    notes: list[str] = field(default_factory=list)
    copies: tuple[Box, Copies] | None = None
    sources: tuple[np.ndarray, ...] = ()
    lenders: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.missing = self.hole.copy()

    def note(self, text: str) -> None:
        """Say something in the report, once."""
        if text not in self.notes:
            self.notes.append(text)

    def own(self, part: Part) -> np.ndarray:
        """(h, w) bool of the part's box: what is filled with it."""
        box, group = part.box, part.hole
        own = np.zeros((box[3] - box[1], box[2] - box[0]), dtype=bool)
        here = (group[0] - box[0], group[1] - box[1], group[2] - box[0], group[3] - box[1])
        cut(own, here)[...] = cut(self.missing, group)
        return own
