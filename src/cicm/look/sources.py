"""Which photos' regions a memory's contexts are nearest to: an index beside the weights, made by going over the photos.

A context is a running mean of features, taken while the network was still changing; nobody wrote down of which photos.
The index asks the finished network instead: which regions would it write into each context now, and with what weight?
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import nn

from cicm.conventions import InputError
from cicm.memory import ContextMemory
from cicm.photos.pixels import Box

MAX_CELLS = 2**21  # entries of all contexts together
MOST_KEPT = 16
THUMBNAIL = 72  # longest side of a thumbnail, in pixels
_MAX_NAME = 1024


class Source(NamedTuple):
    """A region that would be written into a context.

    Args:
        photo: its file, relative to the folder that was indexed.
        box: (left, top, right, bottom) of its cell, in pixels of the upright photo.
        weight: softmax weight of the context for this region (Eq. 4 before any choice of the best).
        similarity: of region and context, as the memory measures it.
        typical: mean similarity of this context and all complete regions that chose its set: what is usual.
        thumbnail: JPEG; empty for none.
    """

    photo: str
    box: Box
    window: Box
    weight: float
    similarity: float
    typical: float
    thumbnail: bytes


@dataclass(frozen=True)
class SiteSources:
    """The sources of one site's contexts; M places each, the best first.

    Args:
        photo: (L, K, M) int32, index of the photo; -1 where there are fewer than M.
        box: (L, K, M, 4) int32.
        window: (L, K, M, 4) int32.
        weight: (L, K, M) float32.
        similarity: (L, K, M) float32.
        typical: (L, K) float32, mean similarity of each context and all regions of its set; 0 without any.
        regions: (L, K) int64, how many regions of all photos would be written to each context.
        thumbnails: flat uint8, JPEG after JPEG; empty for none.
        ends: (L * K * M,) int64, where each thumbnail ends.
    """

    photo: np.ndarray
    box: np.ndarray
    window: np.ndarray
    weight: np.ndarray
    similarity: np.ndarray
    typical: np.ndarray
    regions: np.ndarray
    thumbnails: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Facts:
    """How an index was made.

    Args:
        photos_skipped: files that could not be read, or were smaller than the network takes.
        regions: complete cells that were looked at, of all sites.
        keep: M.
    """

    photos_read: int
    photos_skipped: int
    regions: int
    side: int
    keep: int


@dataclass(frozen=True)
class SourceIndex:
    """For each context the regions that would be written to it with the largest weight, at most one of a photo."""

    fingerprint: str
    photos: tuple[str, ...]
    sites: dict[str, SiteSources]
    facts: Facts

    def of(self, site: str, set_: int, context: int) -> list[Source]:
        """The sources of one context, the best first; empty for a site that was not indexed."""
        if site not in self.sites:
            return []
        s = self.sites[site]
        count = s.photo.shape[-1]
        found = []
        for place in range(count):
            if (photo := int(s.photo[set_, context, place])) < 0:
                break
            flat = (set_ * s.photo.shape[1] + context) * count + place
            start, end = int(s.ends[flat - 1]) if flat else 0, int(s.ends[flat])
            found.append(
                Source(
                    self.photos[photo],
                    tuple(s.box[set_, context, place].tolist()),
                    tuple(s.window[set_, context, place].tolist()),
                    float(s.weight[set_, context, place]),
                    float(s.similarity[set_, context, place]),
                    float(s.typical[set_, context]),
                    s.thumbnails[start:end].tobytes(),
                )
            )
        return found


def with_sets(model: nn.Module) -> dict[str, ContextMemory]:
    """Site -> memory, for those that have sets to look into."""
    stored = {name: memory for name, memory in model.memories.items() if memory.has_sets}  # type: ignore[union-attr,operator]
    if not stored:
        raise InputError("this model has no memory; it is a network alone, or a control that stores nothing.")
    return stored


def sound(name: str) -> bool:
    """Whether a photo's name may stand in an index."""
    return 0 < len(name) <= _MAX_NAME and name.isprintable()
