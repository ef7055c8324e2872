"""Seeded generators of holes that fill every band evenly.

Published generators do not: free-form brushes stay below 30 percent, the stroke walk of Edge-Connect is above 60
percent nearly half of the time. Here the band comes first, then the missing share inside it, and then the hole is
painted, piece by piece, until it has that share. The pieces look like those of the irregular masks of Liu et al.
(ECCV 2018): thick wandering strokes, straight streaks, trails of dabs, rings and blobs, half of the time with a free
border.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from cicm.conventions import BANDS, InputError, band_of

SMALLEST_SHARE = 0.01
"""Least missing share that is asked for in the lowest band; the irregular test masks begin there too."""

TOLERANCE = 0.015  # how far above the drawn share the painted one may end

_Piece = Callable[["_Canvas", float], None]
"""(canvas, size): paints one piece whose thickness is about `size` pixels; it may stick out of the canvas."""


class HoleGenerator:
    """Paints holes: the band is drawn evenly, then the missing share evenly inside it, then the picture.

    A hole never leaves its band. The same state of `rng` gives the same hole, as long as Pillow draws lines and
    ellipses as it did.

    Args:
        bands: names from `cicm.conventions.BANDS`; each is equally likely.
        kinds: names from `KINDS`, equally likely, or a mapping from name to weight; None for `_USUAL_KINDS`.
        border: share of the holes that keep a free border.

    Raises:
        InputError: an unknown band or kind, no band or kind, a weight that is not positive, a border outside [0, 1].

    Example:
        >>> hole = HoleGenerator(bands=["20-40"])(128, 128, np.random.default_rng(0))
        >>> tuple(hole.shape), 0.2 < hole.mean().item() <= 0.4
        ((1, 128, 128), True)
    """

    def __init__(
        self,
        bands: Sequence[str] = tuple(BANDS),
        kinds: Sequence[str] | Mapping[str, float] | None = None,
        border: float = 0.4,
    ) -> None:
        kinds = _USUAL_KINDS if kinds is None else kinds
        weights = dict(kinds) if isinstance(kinds, Mapping) else dict.fromkeys(_names(kinds, "kinds"), 1.0)
        self.bands = _names(bands, "bands")
        for name, known, given in [("band", list(BANDS), self.bands), ("kind", list(KINDS), list(weights))]:
            unknown = [entry for entry in given if entry not in known]
            if unknown or not given:
                got = repr(unknown[0]) if unknown else "none"
                raise InputError(f"expected one {name} or more of {', '.join(known)}; got {got}.")
        if not all(math.isfinite(weight) and weight > 0 for weight in weights.values()):
            raise InputError(f"weights of kinds must be above 0; got {weights}. Leave out the kinds you do not want.")
        if not 0.0 <= border <= 1.0:
            raise InputError(f"border is the share of holes with a free border, in [0, 1]; got {border}.")
        self.kinds = list(weights)
        self._reach = np.cumsum([weights[kind] for kind in self.kinds]) / sum(weights.values())
        self.border = border

    def __repr__(self) -> str:
        return f"HoleGenerator(bands={self.bands}, kinds={self.kinds}, border={self.border})"

    def __call__(self, height: int, width: int, rng: np.random.Generator) -> Tensor:
        """Paint one hole.

        Returns:
            (1, height, width) float32, 1 = missing.

        Raises:
            InputError: so few pixels that no number of them lies in the band.
        """
        return torch.from_numpy(self.paint(height, width, rng)).to(torch.float32)[None]

    def paint(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Like a call, as (height, width) bool array."""
        band = self.bands[int(rng.integers(len(self.bands)))]
        kind = self.kinds[min(int(np.searchsorted(self._reach, rng.random(), side="right")), len(self.kinds) - 1)]
        low, high = band_pixels(band, height, width)
        start = min(high, max(low, math.ceil(SMALLEST_SHARE * height * width)))
        target = start + int(rng.random() * (high - start + 1))
        ceiling = min(high, target + int(TOLERANCE * height * width))
        margin = _margin(height, width, target, rng) if rng.random() < self.border else 0
        canvas = _fill_up(KINDS[kind], height - 2 * margin, width - 2 * margin, target, ceiling, rng)
        return np.pad(canvas, margin) if margin else canvas


def band_pixels(band: str, height: int, width: int) -> tuple[int, int]:
    """Least and largest number of missing pixels that `band_of` counts into the band.

    Raises:
        InputError: no number of pixels lies in the band.

    Example:
        >>> band_pixels("20-40", 10, 10)
        (21, 40)
    """
    total = height * width
    if total > 0:
        low, high = BANDS[band]
        # Rounded products may miss by one (0.2 * 35 is above 7), and the law is the quotient's, as in `hole_fraction`.
        least = next((n for n in range(max(0, int(low * total) - 1), total + 1) if n / total > low), total + 1)
        most = next(n for n in range(min(total, int(high * total) + 1), -1, -1) if n / total <= high)
        if least <= most and band_of(least / total) == band:
            return least, most
    raise InputError(f"no hole of {height}x{width} pixels has a missing share in the band {band}; use a larger size.")


def _names(given: Sequence[str], what: str) -> list[str]:
    if isinstance(given, str):
        raise InputError(f"{what} must be a list of names; got the text {given!r}. Write [{given!r}].")
    return list(given)


def _margin(height: int, width: int, target: int, rng: np.random.Generator) -> int:
    """Width of a free border, 2 to 10 percent of the shorter side, that leaves the target a fifth of room to spare."""
    margin = int(rng.uniform(0.02, 0.1) * min(height, width))
    while margin and (height - 2 * margin) * (width - 2 * margin) < 1.2 * target:
        margin -= 1
    return margin


def _fill_up(
    pieces: Sequence[tuple[float, _Piece]], height: int, width: int, target: int, ceiling: int, rng: np.random.Generator
) -> np.ndarray:
    """Paint pieces until at least `target` and at most `ceiling` pixels are missing.

    A piece that goes over the ceiling is taken back and the next ones are smaller, down to one pixel; pieces that find
    nothing left to paint are followed by larger ones. What many pieces can't reach is filled in from the hole's edge.
    """
    canvas = _Canvas(height, width, rng)
    short, count, kept = min(width, height), 0, canvas.picture.copy()
    size = float(np.clip(short * rng.uniform(0.02, 0.1) + 0.12 * math.sqrt(target), 1.0, short / 2))
    # Two pieces of the kind per hole, so that a hole has a character of its own instead of a bit of everything.
    chances = np.cumsum([chance for chance, _ in pieces])
    chosen = [pieces[int(np.searchsorted(chances, rng.random() * chances[-1]))][1] for _ in range(2)]
    for _ in range(200):
        chosen[rng.random() < 0.5](canvas, size)
        painted = int(np.count_nonzero(np.asarray(canvas.picture)))
        if painted > ceiling:
            canvas.restore(kept)
            size = max(1.0, min(0.6 * size, math.sqrt(target - count)))
            continue
        if painted - count < 0.02 * (target - count):
            size = min(short / 2, size * 1.2)
        count, kept = painted, canvas.picture.copy()
        if count >= target:
            break
    return _grow(np.asarray(kept) > 0, target, rng)


def _grow(hole: np.ndarray, target: int, rng: np.random.Generator) -> np.ndarray:
    """Add pixels along the hole's edge until exactly `target` are missing."""
    hole = hole.copy()
    count = int(hole.sum())
    if count == 0 and target > 0:
        hole.flat[int(rng.integers(hole.size))] = True
        count = 1
    while count < target:
        ring = np.zeros_like(hole)
        ring[1:] |= hole[:-1]
        ring[:-1] |= hole[1:]
        ring[:, 1:] |= hole[:, :-1]
        ring[:, :-1] |= hole[:, 1:]
        edge = np.flatnonzero(ring & ~hole)[: target - count]
        hole.flat[edge] = True
        count += len(edge)
    return hole


class _Canvas:
    """A picture to paint on, the randomness, and where the hole gathers: NVIDIA's holes leave large parts untouched."""

    def __init__(self, height: int, width: int, rng: np.random.Generator) -> None:
        self.height, self.width, self.rng = height, width, rng
        self.focus = rng.random(2)
        self.spread = rng.uniform(0.1, 0.5)
        self.restore(Image.new("L", (width, height)))

    def restore(self, picture: Image.Image) -> None:
        self.picture = picture.copy()
        self.draw = ImageDraw.Draw(self.picture)

    def spot(self) -> tuple[float, float]:
        """A place for a piece: near the focus or, one time in three, anywhere."""
        x, y = self.rng.random(2) if self.rng.random() < 0.33 else self.focus + self.spread * self.rng.normal(size=2)
        # Folded back at the edges, so that no place lies outside.
        return self.width * abs((x + 1) % 2 - 1), self.height * abs((y + 1) % 2 - 1)

    def dot(self, x: float, y: float, radius: float) -> None:
        self.draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=255)

    def line(self, points: list[tuple[float, float]], thick: float) -> None:
        self.draw.line(points, fill=255, width=max(1, round(thick)))


def _stroke(canvas: _Canvas, size: float) -> None:
    """A thick line that wanders, with round joints."""
    rng = canvas.rng
    vertices = int(rng.integers(2, 7))
    angle = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0.0, 0.7, vertices))
    reach = size * rng.uniform(0.6, 2.2, vertices)
    x, y = canvas.spot()
    xs = x + np.concatenate([[0.0], np.cumsum(np.cos(angle) * reach)])
    ys = y + np.concatenate([[0.0], np.cumsum(np.sin(angle) * reach)])
    points, thick = list(zip(xs.tolist(), ys.tolist())), size * rng.uniform(0.4, 1.0)
    canvas.line(points, thick)
    if thick >= 3:
        for x, y in points:
            canvas.dot(x, y, thick / 2)


def _streak(canvas: _Canvas, size: float) -> None:
    """A straight line, long and thin."""
    along, reach, thick = canvas.rng.random(3).tolist()
    reach = min(size * (2.0 + 6.0 * reach), max(canvas.width, canvas.height)) / 2
    dx, dy = math.cos(along * math.pi) * reach, math.sin(along * math.pi) * reach
    x, y = canvas.spot()
    canvas.line([(x - dx, y - dy), (x + dx, y + dy)], size * (0.15 + 0.35 * thick))


def _trail(canvas: _Canvas, size: float) -> None:
    """Dabs along a bent path, with gaps."""
    rng = canvas.rng
    x, y = canvas.spot()
    angle, radius = rng.uniform(0, 2 * math.pi), max(0.5, size * rng.uniform(0.15, 0.4))
    for bend, gap, grow in rng.random((6, 3)).tolist():
        canvas.dot(x, y, radius * (0.7 + 0.6 * grow))
        angle += 1.4 * (bend - 0.5)
        x, y = x + math.cos(angle) * radius * (1.2 + 2.8 * gap), y + math.sin(angle) * radius * (1.2 + 2.8 * gap)


_ANGLES = np.linspace(0, 2 * math.pi, 16, endpoint=False)
_ACROSS, _DOWN = np.cos(_ANGLES), np.sin(_ANGLES)


def _outline(canvas: _Canvas, radius: float) -> list[tuple[float, float]]:
    """A closed, lumpy, stretched outline."""
    rng = canvas.rng
    first, second, tilt, stretch = rng.random(4).tolist()
    turn = 2 * math.pi
    lumps = 1 + 0.25 * np.cos(2 * _ANGLES + turn * first) + 0.2 * np.cos(3 * _ANGLES + turn * second)
    reach = radius * (lumps + rng.uniform(-0.12, 0.12, len(_ANGLES)))
    x, y = reach * _ACROSS, (0.5 + 0.5 * stretch) * reach * _DOWN
    cos, sin, (left, top) = math.cos(tilt * math.pi), math.sin(tilt * math.pi), canvas.spot()
    return list(zip((left + x * cos - y * sin).tolist(), (top + x * sin + y * cos).tolist()))


def _blob(canvas: _Canvas, size: float) -> None:
    """A filled, lumpy shape."""
    canvas.draw.polygon(_outline(canvas, size * canvas.rng.uniform(0.4, 1.3)), fill=255)


def _ring(canvas: _Canvas, size: float) -> None:
    """The edge of a lumpy shape, as thick as a stroke."""
    outline = _outline(canvas, size * canvas.rng.uniform(1.0, 2.5))
    canvas.line([*outline, outline[0]], size * canvas.rng.uniform(0.2, 0.8))


def _box(canvas: _Canvas, size: float) -> None:
    """An upright rectangle, between long and square."""
    scale, shape = canvas.rng.random(2).tolist()
    side, shape = size * (0.8 + 1.7 * scale), math.exp(0.9 * (shape - 0.5))
    x, y = canvas.spot()
    left, top, w, h = round(x - side * shape / 2), round(y - side / shape / 2), round(side * shape), round(side / shape)
    canvas.draw.rectangle([left, top, left + max(0, w - 1), top + max(0, h - 1)], fill=255)


KINDS: dict[str, Sequence[tuple[float, _Piece]]] = {
    "strokes": [(3.0, _stroke), (1.0, _streak), (1.5, _trail)],
    "blobs": [(1.5, _blob), (1.0, _ring)],
    "boxes": [(1.0, _box)],
    "mixed": [(2.0, _stroke), (1.0, _streak), (1.0, _trail), (1.5, _blob), (1.0, _ring), (1.0, _box)],
}
"""Kind of hole -> (chance, piece) of what it is painted with."""

_USUAL_KINDS: Mapping[str, float] = {"strokes": 3.0, "blobs": 3.0, "boxes": 1.0, "mixed": 3.0}
"""Kind of hole -> weight; few boxes, because the holes that papers score on have none."""
