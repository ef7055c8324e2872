"""Making an index of sources: go over the photos once and keep what each context is nearest to."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cicm.assembly import MemoryInpainter
from cicm.assembly.fingerprint import fingerprint
from cicm.conventions import InputError
from cicm.data.datasets import to_image
from cicm.data.generators import HoleGenerator
from cicm.files import evenly_spaced
from cicm.inference.views import View, alike, views
from cicm.look.sources import MAX_CELLS, MOST_KEPT, THUMBNAIL, Facts, SiteSources, SourceIndex, sound, with_sets
from cicm.memory import ContextMemory, MemoryRead
from cicm.memory.rules import keep_top
from cicm.memory.state import kept
from cicm.ops import complete_cells, missing_share
from cicm.ops.similarity import compared
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from cicm.photos.pixels import Box

_HOLE_SEED = 0


@torch.inference_mode()
def make_index(
    model: MemoryInpainter,
    folder: str | Path,
    *,
    keep: int = 4,
    side: int = 128,
    limit: int = 0,
    thumbnails: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SourceIndex:
    """Go over the photos of a folder once and keep, for each context, the regions it would be made of.

    Each photo is seen as in training, in windows of `side`: reduced until its shorter side fits, and as it is; each
    window with a random hole, because a hole changes the features of complete regions far around it (without holes,
    four of five regions would choose another context). Only complete regions count. A region is written where
    `write_top` sends it; among those of one context the largest softmax weight comes first, and no photo comes twice.
    The same photos and weights on the same machine give the same index. Memory grows with L * K * keep, not with the
    number of photos.

    Args:
        folder: searched by `cicm.photos.find_images`.
        keep: M, regions for each context.
        side: of the windows in pixels; the crop of the training says it best.
        limit: at most so many photos, spread evenly; 0 takes all.
        thumbnails: keep a small picture of each region. Without them the index holds names and places alone.

    Raises:
        InputError: a number out of its range, a side that the network does not take, an empty memory, no photo that
            can be used.
    """
    memories = with_sets(model)
    if not 1 <= keep <= MOST_KEPT or limit < 0:
        raise InputError(
            f"keep must lie in 1..{MOST_KEPT}, and limit be 0 (all photos) or above; got {keep} and {limit}."
        )
    if empty := [name for name, memory in memories.items() if not memory.seeded]:
        raise InputError(f"the memory at {empty[0]!r} is empty: nothing was written to it yet. Train it first.")
    rule = model.network.size
    rule.check(side, side)
    root = Path(folder)
    paths = find_images(root)
    if limit:
        paths = evenly_spaced(paths, limit)
    device = next(model.parameters()).device
    holes = HoleGenerator()
    best = {name: _Best(memory, keep) for name, memory in memories.items()}
    skipped = 0
    for number, path in enumerate(paths):
        try:
            photo = read_image(path)
        except InputError:
            photo = np.zeros((0, 0, 3), np.uint8)
        seen = list(views(photo, side, rule)) if min(photo.shape[:2]) >= rule.minimum else []
        skipped += not seen
        rng = np.random.default_rng(np.random.SeedSequence(_HOLE_SEED, spawn_key=(number,)))
        for group in alike(seen):
            image = to_image(np.stack([view.pixels for view in group])).to(device)
            hole = torch.stack([holes(image.shape[-2], image.shape[-1], rng) for _ in group]).to(image)
            reads = model(image * (1 - hole), hole).reads
            for name, one in best.items():
                one.offer(number, group, reads[name][-1], hole)  # the last visit is the one that training writes
        if progress:
            progress(number + 1, len(paths))
    if skipped == len(paths):
        raise InputError(f"none of the {len(paths)} photos in {root} can be read, or is large enough to look at.")
    facts = Facts(len(paths) - skipped, skipped, sum(int(one.rows.sum()) for one in best.values()), side, keep)
    return _finished(fingerprint(model), best, root, paths, facts, thumbnails)


class _Best:
    """The best regions of each context so far."""

    def __init__(self, memory: ContextMemory, keep: int) -> None:
        self.memory = memory
        shape = (memory.config.sets, memory.config.contexts, keep)
        if (entries := int(np.prod(shape))) > MAX_CELLS:
            raise InputError(f"{entries} regions would be kept; at most {MAX_CELLS}. Use a smaller keep.")
        self.rank = np.full(shape, -1.0, np.float32)
        self.photo = np.full(shape, -1, np.int32)
        self.box = np.zeros((*shape, 4), np.int32)
        self.weight = np.zeros(shape, np.float32)
        self.similarity = np.zeros(shape, np.float32)
        self.regions = np.zeros(shape[:2], np.int64)
        self.total = np.zeros(shape[:2], np.float64)
        self.rows = np.zeros(shape[0], np.int64)

    @property
    def typical(self) -> np.ndarray:
        """(L, K), mean similarity of each context and all regions of its set."""
        return (self.total / np.maximum(self.rows, 1)[:, None]).astype(np.float32)

    def offer(self, photo: int, group: Sequence[View], read: MemoryRead, hole: Tensor) -> None:
        """Take those complete regions that are better than the worst that is kept."""
        config, state = self.memory.config, self.memory.state.detached()
        center = state.center()
        grid = (read.features.shape[-2], read.features.shape[-1])
        cells = np.concatenate([view.cells(grid) for view in group])
        weights = read.weights
        given = keep_top(weights, config.write_top)
        # Hard writing gives the best context all; the softmax weight tells how clearly it was the best.
        rank = torch.where(given > 0, weights if kept(config.write_top, config.contexts) == 1 else given, -1.0)
        own = compared(read.regions, config.similarity, center.to(read.regions.dtype))
        keys = compared(state.contexts, config.similarity, center).to(own.dtype)
        complete = complete_cells(missing_share(hole, grid), config.complete_tolerance)
        sets = torch.where(complete, read.sets, -1).cpu().numpy()
        for set_ in np.unique(sets[sets >= 0]).tolist():
            rows = np.flatnonzero(sets == set_)
            here = torch.from_numpy(rows).to(own.device)
            ranks, alike = _array(rank[here]), _array(own[here] @ keys[set_].T)
            at, contexts = ranks.argmax(0), np.arange(ranks.shape[1])  # the first of equals
            self.regions[set_] += (ranks > 0).sum(0)
            self.total[set_] += alike.sum(0, dtype=np.float64)
            self.rows[set_] += len(rows)
            best = rows[at]
            self._merge(
                set_, photo, ranks[at, contexts], cells[best], _array(weights)[best, contexts], alike[at, contexts]
            )

    def _merge(
        self, set_: int, photo: int, rank: np.ndarray, box: np.ndarray, weight: np.ndarray, similarity: np.ndarray
    ) -> None:
        """One candidate for each context of a set; ties stay with what came first, and no photo comes twice."""
        held = self.photo[set_] == photo
        earlier = np.where(held, self.rank[set_], -1.0).max(1)
        rank = np.where((rank > 0) & (rank > earlier), rank, -1.0)
        replaced = held & (rank > 0)[:, None]
        joined = np.concatenate([np.where(replaced, -1.0, self.rank[set_]), rank[:, None]], 1)
        order = np.argsort(-joined, axis=1, kind="stable")[:, :-1]

        def chosen(old: np.ndarray, new: Any) -> np.ndarray:
            together = np.concatenate([old, np.broadcast_to(new, old.shape[:1] + old.shape[2:])[:, None]], 1)
            return np.take_along_axis(together, order if old.ndim == 2 else order[..., None], 1)

        self.rank[set_] = np.take_along_axis(joined, order, 1)
        self.photo[set_] = np.where(self.rank[set_] > 0, chosen(self.photo[set_], photo), -1)
        self.box[set_] = chosen(self.box[set_], box)
        self.weight[set_] = chosen(self.weight[set_], weight)
        self.similarity[set_] = chosen(self.similarity[set_], similarity)


def _finished(
    mark: str, best: dict[str, _Best], root: Path, paths: Sequence[Path], facts: Facts, thumbnails: bool
) -> SourceIndex:
    """Number the photos that are in it, and cut the thumbnails out of them: each photo is read once more."""
    used = sorted({int(number) for one in best.values() for number in np.unique(one.photo) if number >= 0})
    names = []
    for number in used:
        name = paths[number].relative_to(root).as_posix()
        if not sound(name):
            raise InputError(f"a photo's name can't be kept in an index: {name!r}. Rename the file.")
        names.append(name)
    pictures: dict[tuple[str, int], bytes] = {}
    windows = {site: np.zeros_like(one.box) for site, one in best.items()}
    for number in used:
        photo = read_image(paths[number])
        for site, one in best.items():
            flat = one.photo.reshape(-1)
            for place in np.flatnonzero(flat == number).tolist():
                box = tuple(one.box.reshape(-1, 4)[place].tolist())
                window = around(box, (photo.shape[0], photo.shape[1]))
                windows[site].reshape(-1, 4)[place] = window
                if thumbnails:
                    pictures[site, place] = _thumbnail(photo, window)
    sites = {}
    renumbered = np.array([*used, -1])
    for site, one in best.items():
        parts = [pictures.get((site, place), b"") for place in range(one.photo.size)]
        missing = one.photo < 0
        for values in (one.box, one.weight, one.similarity):
            values[missing] = 0
        sites[site] = SiteSources(
            photo=np.where(missing, -1, np.searchsorted(renumbered[:-1], one.photo)).astype(np.int32),
            box=one.box,
            window=windows[site],
            weight=one.weight,
            similarity=one.similarity,
            typical=one.typical,
            regions=one.regions,
            thumbnails=np.frombuffer(b"".join(parts), np.uint8),
            ends=np.cumsum([len(part) for part in parts]).astype(np.int64),
        )
    return SourceIndex(mark, tuple(names), sites, facts)


def around(box: Box, size: tuple[int, int]) -> Box:
    """Three cells by three, or 48 pixels, around a cell, shifted into a photo of (height, width).

    Example:
        >>> around((0, 32, 16, 48), (100, 100))
        (0, 16, 48, 64)
    """
    found = []
    for low, high, limit in ((box[0], box[2], size[1]), (box[1], box[3], size[0])):
        length = min(limit, max(3 * (high - low), 48))
        start = min(max((low + high - length) // 2, 0), limit - length)
        found.append((start, start + length))
    return found[0][0], found[1][0], found[0][1], found[1][1]


def _thumbnail(photo: np.ndarray, window: Box) -> bytes:
    left, top, right, bottom = window
    image = Image.fromarray(np.ascontiguousarray(photo[top:bottom, left:right]))
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.BICUBIC)
    data = io.BytesIO()
    image.save(data, format="JPEG", quality=80, optimize=True)
    return data.getvalue()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()
