"""An inspection of a memory as a picture. Nothing else imports this file: a memory that only runs needs no Pillow."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from cicm.memory.inspection import Inspection

Box = tuple[int, int, int, int]
Colour = tuple[int, int, int]

_WIDTH, _HEIGHT = 1280, 1000
_INK, _FAINT, _GRID = (34, 34, 34), (120, 120, 120), (225, 225, 225)
BLUE, RED = (38, 98, 168), (196, 58, 49)
_SEQUENTIAL = ((250, 251, 253), (158, 202, 225), (66, 146, 198), (8, 69, 148), (8, 29, 68))
_DIVERGING = ((33, 102, 172), (146, 197, 222), (248, 248, 248), (244, 165, 130), (178, 24, 43))


def picture(inspection: Inspection, title: str = "") -> Image.Image:
    """Draw an inspection: usage per set and per context, similarity between sets and within them.

    Returns:
        an RGB picture of 1280x1000 pixels, whatever the memory's size.
    """
    canvas = Image.new("RGB", (_WIDTH, _HEIGHT), "white")
    draw = ImageDraw.Draw(canvas)
    sets, contexts = inspection.usage.shape
    facts = f"{sets} sets of {contexts} contexts of {inspection.channels} channels"
    _text(draw, (40, 18), f"{title}: {facts}" if title else facts, 24)
    in_use = f"in use {int((~inspection.starved_sets).sum())} sets, {int(inspection.in_use.sum())} contexts"
    state = in_use if inspection.seeded else "empty: it has not been seeded yet"
    _text(draw, (40, 50), f"{inspection.kind}, {state}; similarity: {inspection.similarity}", 16, _FAINT)
    _usage_bars(draw, (80, 140, 600, 460), inspection)
    _usage_map(canvas, draw, (710, 140, 1150, 460), inspection)
    _between_map(canvas, draw, (80, 580, 480, 950), inspection)
    _within_histogram(draw, (710, 580, 1230, 950), inspection)
    return canvas


def stacked(pictures: Sequence[Image.Image]) -> Image.Image:
    """Several pictures in one, from top to bottom."""
    canvas = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for one in pictures:
        canvas.paste(one, (0, top))
        top += one.height
    return canvas


def _usage_bars(draw: ImageDraw.ImageDraw, box: Box, inspection: Inspection) -> None:
    left, top, right, bottom = box
    shares, even = inspection.per_set, 1 / len(inspection.per_set)
    highest = _round_up(max(float(shares.max()), 1.3 * even))
    _heading(draw, box, "Usage per set", "share of all that was stored; red: starved")
    for tick in range(5):
        y = round(bottom - (bottom - top) * tick / 4)
        draw.line((left, y, right, y), _GRID)
        _text(draw, (left - 8, y), f"{100 * highest * tick / 4:.3g} %", 13, _FAINT, "rm")
    step = (right - left) / len(shares)
    for index, share in enumerate(shares):
        x0, x1 = left + index * step + 0.12 * step, left + (index + 1) * step - 0.12 * step
        colour = RED if inspection.starved_sets[index] else BLUE
        draw.rectangle((x0, min(bottom - (bottom - top) * float(share) / highest, bottom - 1), x1, bottom), colour)
    y = round(bottom - (bottom - top) * even / highest)
    for x in range(left, right, 12):
        draw.line((x, y, x + 6, y), _INK)
    _text(draw, (right + 6, y), "even share", 13, _INK, "lm")
    _set_labels(draw, box, len(shares))


def _usage_map(canvas: Image.Image, draw: ImageDraw.ImageDraw, box: Box, inspection: Inspection) -> None:
    left, _, right, bottom = box
    sets, contexts = inspection.usage.shape
    _heading(draw, box, "Usage per context", f"a column per set, {contexts} contexts each; 1 = an even share")
    relative = inspection.usage.T * sets * contexts
    highest = max(2.0, _round_up(float(relative.max())))
    # The square root shows what is below an even share too, where most contexts are.
    _image(canvas, box, coloured((relative / highest) ** 0.5, _SEQUENTIAL))
    draw.rectangle((left, box[1], right, bottom), outline=_FAINT)
    _set_labels(draw, box, sets)
    values = [0.0, 1.0, highest] if highest < 8 else [0.0, 1.0, highest / 4, highest]  # a quarter close to 1 is no help
    ticks = [(value / highest) ** 0.5 for value in values]
    _scale(canvas, draw, (right + 20, box[1], right + 36, bottom), _SEQUENTIAL, ticks, [f"{v:.3g}" for v in values])


def _between_map(canvas: Image.Image, draw: ImageDraw.ImageDraw, box: Box, inspection: Inspection) -> None:
    left, top, right, bottom = box
    count = len(inspection.between)
    _heading(draw, box, "Similarity of anchors", "set by set; the paper wants it low off the diagonal")
    largest = max(1.0, _round_up(float(abs(inspection.between).max()) - 1e-6))
    _image(canvas, box, coloured((inspection.between / largest + 1) / 2, _DIVERGING))
    draw.rectangle(box, outline=_FAINT)
    _set_labels(draw, box, count)
    _set_labels(draw, box, count, down=True)
    if count <= 14 and largest == 1:
        for row in range(count):
            for column in range(count):
                value = float(inspection.between[row, column])
                x, y = left + (column + 0.5) * (right - left) / count, top + (row + 0.5) * (bottom - top) / count
                colour = (255, 255, 255) if abs(value) > 0.7 else _INK
                # two digits without the zero: a cell is narrow
                _text(draw, (x, y), f"{value:.2f}".replace("0.", ".").replace("-.00", ".00"), 10, colour, "mm")
    labels = [f"{largest * part:.3g}" for part in (-1, -0.5, 0, 0.5, 1)]
    _scale(canvas, draw, (right + 20, top, right + 36, bottom), _DIVERGING, [0.0, 0.25, 0.5, 0.75, 1.0], labels)


def _within_histogram(draw: ImageDraw.ImageDraw, box: Box, inspection: Inspection) -> None:
    left, top, right, bottom = box
    pairs = inspection.pairs.ravel()
    note = "pairs of different contexts of one set" + ("" if inspection.similarity == "dot" else "; 1: they are alike")
    _heading(draw, box, "Similarity within sets", note)
    if pairs.size == 0:
        _text(draw, ((left + right) // 2, (top + bottom) // 2), "one context per set: no pairs", 15, _FAINT, "mm")
        return
    largest = max(1.0, _round_up(float(abs(pairs).max()) - 1e-6))
    counts, edges = np.histogram(pairs.clip(-largest, largest), bins=40, range=(-largest, largest))
    shares = counts / pairs.size
    highest = _round_up(float(shares.max()))
    for tick in range(5):
        y = round(bottom - (bottom - top) * tick / 4)
        draw.line((left, y, right, y), _GRID)
        _text(draw, (left - 8, y), f"{100 * highest * tick / 4:.3g} %", 13, _FAINT, "rm")

    def across(value: float) -> float:
        return left + (value + largest) / (2 * largest) * (right - left)

    for share, start, end in zip(shares.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if share > 0:
            draw.rectangle(
                (across(start) + 1, bottom - (bottom - top) * share / highest, across(end) - 1, bottom), BLUE
            )
    for part in (-1, -0.5, 0, 0.5, 1):
        x = across(part * largest)
        draw.line((x, bottom, x, bottom + 5), _FAINT)
        _text(draw, (x, bottom + 8), f"{part * largest:.3g}", 13, _FAINT, "mt")
    mean = float(pairs.mean())
    draw.line((across(mean), top - 4, across(mean), bottom), RED, 2)
    side, gap = ("rm", -6) if mean > 0 else ("lm", 6)
    _text(draw, (across(mean) + gap, top + 6), f"mean {mean:.3g}", 14, RED, side)


# Drawing --------------------------------------------------------------------------------------------------------------


def _text(
    draw: ImageDraw.ImageDraw, at: tuple, text: str, size: int, colour: Colour = _INK, anchor: str = "la"
) -> None:
    draw.text(at, text, fill=colour, font=ImageFont.load_default(size), anchor=anchor)


def _heading(draw: ImageDraw.ImageDraw, box: Box, title: str, note: str) -> None:
    _text(draw, (box[0], box[1] - 52), title, 18)
    _text(draw, (box[0], box[1] - 28), note, 13, _FAINT)


def _set_labels(draw: ImageDraw.ImageDraw, box: Box, count: int, *, down: bool = False) -> None:
    left, top, right, bottom = box
    step = ((bottom - top) if down else (right - left)) / count
    room = 20 if down else 12 + 8 * len(str(count - 1))
    every = max(1, math.ceil(room / step))
    for index in range(0, count, every):
        middle = (index + 0.5) * step
        if down:
            _text(draw, (left - 8, top + middle), str(index), 13, _FAINT, "rm")
        else:
            _text(draw, (left + middle, bottom + 8), str(index), 13, _FAINT, "mt")
    if not down:
        _text(draw, ((left + right) // 2, bottom + 26), "set", 13, _FAINT, "mt")


def coloured(values: Float[np.ndarray, "..."], colours: tuple[Colour, ...]) -> UInt8[np.ndarray, "... 3"]:
    """Values in [0, 1] -> RGB bytes, by straight lines between the colours."""
    places = np.linspace(0, 1, len(colours))
    channels = [np.interp(values, places, [colour[c] for colour in colours]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def _image(canvas: Image.Image, box: Box, pixels: UInt8[np.ndarray, "h w 3"]) -> None:
    """Paste a small picture, its cells as sharp squares; averaged where there are more cells than pixels."""
    size = box[2] - box[0], box[3] - box[1]
    many = pixels.shape[1] > size[0] or pixels.shape[0] > size[1]
    resample = Image.Resampling.BOX if many else Image.Resampling.NEAREST
    canvas.paste(Image.fromarray(pixels).resize(size, resample), box[:2])


def _scale(
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    box: Box,
    colours: tuple[Colour, ...],
    ticks: list[float],
    labels: list[str],
) -> None:
    _, top, right, bottom = box
    _image(canvas, box, coloured(np.linspace(1, 0, bottom - top)[:, None], colours))
    draw.rectangle(box, outline=_FAINT)
    for tick, label in zip(ticks, labels, strict=True):
        y = bottom - tick * (bottom - top)
        draw.line((right, y, right + 4, y), _FAINT)
        _text(draw, (right + 8, y), label, 13, _FAINT, "lm")


def _round_up(value: float) -> float:
    """The next of 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8 times a power of ten: quarters of it read well."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * power >= value * (1 - 1e-9))
