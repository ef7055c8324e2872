"""What the network is to see of a picture: one part or several, and each at which size. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cicm.conventions import SizeRule
from cicm.inference.crops import Crop, plan_crops
from cicm.inference.settings import FillSettings
from cicm.photos.pixels import Box

WHOLE = 512 * 512
"""Pixels of a picture that `auto` always sees whole; larger ones are cut around the holes."""

_RELATIVE = 0.5
"""Known pixels around a group of holes, as a share of its shorter side, where that is more than the margin."""


@dataclass(frozen=True)
class Plan:
    """Which part of a picture the network sees in one call, and at which size.

    Args:
        box: (left, top, right, bottom).
        work: (height, width) of that part for the network, before padding.
        padded: (height, width) that the network's size rule asks for.
    """

    box: Box
    work: tuple[int, int]
    padded: tuple[int, int]

    @property
    def reduced(self) -> float:
        """How many times smaller the network sees it; 1 is as it is."""
        left, top, right, bottom = self.box
        return max(bottom - top, right - left) / max(self.work)


@dataclass(frozen=True)
class Part:
    """A crop to fill.

    Args:
        hole: only missing pixels in this box are filled with it; (left, top, right, bottom).
        box: what is seen of the picture.
        plan: how one call of the network sees the box; None where the hole is filled in levels and tiles.
    """

    hole: Box
    box: Box
    plan: Plan | None = None


def within(settings: FillSettings, rule: SizeRule) -> FillSettings:
    """The settings that a network can keep to, where its size rule has a largest size."""
    if not (most := rule.maximum):
        return settings
    strategy = "resize" if settings.strategy == "whole" else settings.strategy
    return settings.changed(max_side=min(settings.max_side, most), tile=min(settings.tile, most), strategy=strategy)


def in_pieces(size: tuple[int, int], rule: SizeRule, settings: FillSettings) -> bool:
    """Whether a picture of (height, width) is filled group by group, rather than in one piece."""
    large = size[0] * size[1] > min(WHOLE, rule.maximum**2 or WHOLE)
    return settings.strategy in ("crop", "tile") or (settings.strategy == "auto" and large)


def plan_parts(hole: np.ndarray, rule: SizeRule, settings: FillSettings) -> tuple[Part, ...]:
    """The crops of a picture in the order in which they are filled; a picture that is seen whole is one crop.

    Args:
        hole: (H, W) bool with something in it.
        rule: sizes that the network takes.
        settings: of the fill.
    """
    settings = within(settings, rule)
    if not in_pieces(hole.shape, rule, settings):
        plan = plan_piece(hole, rule, settings)
        return (Part(plan.box, plan.box, plan),)
    crops = plan_crops(hole, margin=settings.margin, relative=_RELATIVE, longest=longest(settings))
    if settings.strategy != "crop":
        return tuple(Part(crop.hole, crop.box) for crop in crops)
    return tuple(_seen_at_once(crop, hole.shape, rule, settings) for crop in crops)


def plan_piece(hole: np.ndarray, rule: SizeRule, settings: FillSettings) -> Plan:
    """One part around all of a hole (H, W), as `whole` and `resize` have it."""
    settings = within(settings, rule)
    height, width = hole.shape
    box = (0, 0, width, height)
    if height * width > WHOLE and settings.strategy != "whole":
        rows, columns = np.flatnonzero(hole.any(1)).tolist(), np.flatnonzero(hole.any(0)).tolist()
        margin = max(settings.margin, rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1)
        top, bottom = max(0, rows[0] - margin), min(height, rows[-1] + 1 + margin)
        left, right = max(0, columns[0] - margin), min(width, columns[-1] + 1 + margin)
        box = (left, top, right, bottom)
    return _plan_of(box, (height, width), rule, settings)


def longest(settings: FillSettings) -> int:
    """Longest side that the network sees of a picture that is filled group by group."""
    return settings.max_side if settings.strategy == "crop" else min(settings.tile, settings.max_side)


def _seen_at_once(crop: Crop, size: tuple[int, int], rule: SizeRule, settings: FillSettings) -> Part:
    plan = _plan_of(crop.box, size, rule, settings)
    return Part(crop.hole, plan.box, plan)


def _plan_of(box: Box, size: tuple[int, int], rule: SizeRule, settings: FillSettings) -> Plan:
    """How large the network sees a part of a picture of (height, width)."""
    left, top, right, bottom = box
    most = max(size) if settings.strategy == "whole" else settings.max_side
    if max(bottom - top, right - left) <= most:  # real pixels rather than padding, where there are any
        tall, wide = rule.nearest(bottom - top, right - left)
        top, bottom = _grow(top, bottom, tall, size[0])
        left, right = _grow(left, right, wide, size[1])
    tall, wide = bottom - top, right - left
    factor = max(1.0, max(tall, wide) / most)
    work = (max(1, round(tall / factor)), max(1, round(wide / factor)))
    return Plan((left, top, right, bottom), work, rule.nearest(*work))


def _grow(start: int, stop: int, wanted: int, limit: int) -> tuple[int, int]:
    """Widen [start, stop) to `wanted`, or as far as [0, limit) allows, evenly where there is room."""
    wanted = min(wanted, limit)
    start = max(0, min(start - (wanted - (stop - start)) // 2, limit - wanted))
    return start, start + wanted
