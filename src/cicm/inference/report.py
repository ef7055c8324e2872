"""What was done to one picture."""

from __future__ import annotations

from dataclasses import dataclass

from cicm.photos.pixels import Box


@dataclass(frozen=True)
class Report:
    """What was done to one picture.

    Args:
        height: of the picture.
        width: of the picture.
        missing: share of the pixels that were filled.
        box: the part that the network saw, (left, top, right, bottom); of several crops what encloses them.
        reduced: factor by which that part was reduced for the network; 1 is none. The largest, if there are several.
        network_size: (height, width) that the network computed, padding included. The largest, if there are several.
        device: where.
        seconds: from the decoded picture to the filled one; of the whole call for a batch.
        strategy: what was done: `whole`, `resize`, `crop` or `tile`.
        crops: the parts, each around a group of holes, in the order in which they were filled.
        tiles: how often the network was called.
        feather: pixels over which the step at the border was taken out of the fill.
        fill: what the hole was filled with: `network`, `exemplar` or `both`.
        lenders: photos of the album that gave pixels, the one with the largest share first.
        notes: what else is worth knowing, one sentence each.
    """

    height: int
    width: int
    missing: float
    box: Box
    reduced: float
    network_size: tuple[int, int]
    device: str
    seconds: float = 0.0
    strategy: str = "whole"
    crops: tuple[Box, ...] = ()
    tiles: int = 1
    feather: int = 0
    fill: str = "network"
    lenders: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
