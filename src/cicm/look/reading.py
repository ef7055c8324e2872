"""One repair, with everything that its regions read from the memories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cicm.assembly import Inpainting
from cicm.assembly.fingerprint import fingerprint
from cicm.conventions import InputError
from cicm.data.holes import to_hole
from cicm.inference import Inpainter, Report
from cicm.look.sources import with_sets
from cicm.memory import ContextMemory
from cicm.memory.rules import keep_top
from cicm.ops import missing_share
from cicm.photos.photo import Photo
from cicm.photos.pixels import Box

MAX_REGIONS = 100_000  # regions of all visits together; more would make a page that no browser enjoys


@dataclass(frozen=True)
class Visit:
    """What the regions of one map found, at one visit of one site; rows are cells, row by row.

    Args:
        number: 0 for the first visit; recurrent networks come back.
        grid: (h, w) cells of the map, padding included.
        sets: (N,), the set that each region reads from (Eq. 1).
        weights: (N, K), of the contexts in the mix, after `read_top`; rows sum to 1 (Eq. 4).
        estimated: (N,) in [0, 1], the ratio that was used.
        true: (N,) in [0, 1], the missing share of the region's cell.
    """

    site: str
    number: int
    grid: tuple[int, int]
    sets: np.ndarray
    weights: np.ndarray
    estimated: np.ndarray
    true: np.ndarray

    def top(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The `count` contexts of each region with the largest weights, and these weights, largest first.

        Example:
            >>> zero, one = np.zeros(1), np.ones(1)
            >>> Visit("bottom", 0, (1, 1), zero, np.array([[0.2, 0.5, 0.3]]), one, one).top(2)
            (array([[1, 2]]), array([[0.5, 0.3]]))
        """
        order = np.argsort(-self.weights, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(self.weights, order, 1)


@dataclass(frozen=True)
class Look:
    """A repair and what it read.

    Args:
        work: (height, width) of the seen part for the network, before padding.
        original: (H, W, 3) uint8, the whole photo.
        visits: every visit of every memory that has sets, in order.
    """

    name: str
    report: Report
    work: tuple[int, int]
    original: np.ndarray
    corrupted: np.ndarray
    repaired: np.ndarray
    visits: tuple[Visit, ...]
    memories: dict[str, dict[str, Any]]
    fingerprint: str

    @property
    def offset(self) -> tuple[int, int]:
        """(top, left) of the seen part within the padded map, in the network's pixels: padding is shared out evenly."""
        tall, wide = self.report.network_size
        return (tall - self.work[0]) // 2, (wide - self.work[1]) // 2

    def cell(self, visit: Visit, region: int) -> Box:
        """(left, top, right, bottom) of a region's cell in pixels of the photo, cut at the part that was seen.

        A cell that lies in the padding alone has no area.
        """
        row, column = divmod(region, visit.grid[1])
        left, top, right, bottom = self.report.box

        def along(index: int, cells: int, padded: int, offset: int, work: int, low: int, high: int) -> tuple[int, int]:
            edges = [(place * padded / cells - offset) * (high - low) / work for place in (index, index + 1)]
            start, stop = (low + min(max(round(edge), 0), high - low) for edge in edges)
            return start, stop

        y = along(row, visit.grid[0], self.report.network_size[0], self.offset[0], self.work[0], top, bottom)
        x = along(column, visit.grid[1], self.report.network_size[1], self.offset[1], self.work[1], left, right)
        return x[0], y[0], x[1], y[1]


def look(inpainter: Inpainter, photo: Photo, mask: Any) -> Look:
    """Repair a photo as `Inpainter.fill_photo` does, and keep what was read on the way; changes nothing.

    A fill of several calls of the network, or of a reduced picture, has no single map: it is made again in one piece.

    Raises:
        InputError: what `fill_photo` refuses, a model without memories, more regions than can be shown, a fill that
            the network had no part in.
    """
    memories = with_sets(inpainter.model)
    hole = to_hole(mask)[0].numpy() > 0.5
    filled, report, caught = _watched(inpainter, photo, mask)
    left, top, right, bottom = report.box
    work = (bottom - top, right - left)
    if len(caught) != 1 or report.reduced != 1:  # a map is of one forward
        inpainter = inpainter.in_one_piece()
        filled, report, caught = _watched(inpainter, photo, mask)
        work = inpainter.plan(hole).work
    if not caught:
        raise InputError(
            "the network filled nothing here, so nothing was read: the hole is in a flat place, or patches alone "
            "filled it. Choose another hole, or fill='both'."
        )
    assert len(caught) == 1, "one photo in one piece is one forward"
    padded_hole, found = caught[0]
    total = sum(len(read.sets) for site in memories for read in found.reads[site])
    if total > MAX_REGIONS:
        raise InputError(
            f"{total} regions read from the memories; a page shows up to {MAX_REGIONS}. Use a smaller photo."
        )

    original = _eight_bit(photo)
    corrupted = original.copy()
    corrupted[hole] = 128
    visits = tuple(
        _visit(site, number, read, padded_hole, memories[site])
        for site in memories
        for number, read in enumerate(found.reads[site])
    )
    return Look(
        name=photo.path.name,
        report=report,
        work=work,
        original=original,
        corrupted=corrupted,
        repaired=_eight_bit(filled),
        visits=visits,
        memories={site: _facts(memory) for site, memory in memories.items()},
        fingerprint=fingerprint(inpainter.model),
    )


def _watched(inpainter: Inpainter, photo: Photo, mask: Any) -> tuple[Photo, Report, list[tuple[Tensor, Inpainting]]]:
    """The filled photo, what was done, and (hole, result) of each forward."""
    caught: list[tuple[Tensor, Inpainting]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, Tensor], output: Inpainting) -> None:
        caught.append((inputs[1], output))

    handle = inpainter.model.register_forward_hook(keep)
    try:
        filled, report = inpainter.fill_photo(photo, mask)
    finally:
        handle.remove()
    return filled, report, caught


def _visit(site: str, number: int, read: Any, hole: Tensor, memory: ContextMemory) -> Visit:
    grid = (read.features.shape[-2], read.features.shape[-1])
    return Visit(
        site=site,
        number=number,
        grid=grid,
        sets=_array(read.sets),
        weights=_array(keep_top(read.weights, memory.config.read_top).float()),
        estimated=_array(read.ratio.float()),
        true=_array(missing_share(hole.float(), grid).reshape(-1)),
    )


def _facts(memory: ContextMemory) -> dict[str, Any]:
    told = ("kind", "sets", "contexts", "similarity", "temperature", "ratio", "blend")
    facts = {name: getattr(memory.config, name) for name in told}
    return facts | {"channels": memory.channels, "seeded": memory.seeded}


def _array(tensor: Tensor) -> np.ndarray:
    with torch.inference_mode():
        return tensor.detach().cpu().numpy().copy()


def _eight_bit(photo: Photo) -> np.ndarray:
    return (photo.pixels.rgb() * 255).round().clip(0, 255).astype(np.uint8)
