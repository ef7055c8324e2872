"""Which photos' regions a memory's contexts are nearest to: an index beside the weights, made by going over the photos.

A context is a running mean of features, taken while the network was still changing; nobody wrote down of which photos.
The index asks the finished network instead: which regions would it write into each context now, and with what weight?
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import load_file, save
from torch import Tensor, nn

from cicm.assembly import MemoryInpainter
from cicm.assembly.fingerprint import fingerprint as fingerprint
from cicm.assembly.weights import UNUSABLE, read_header
from cicm.conventions import InputError
from cicm.data.datasets import to_image
from cicm.data.generators import HoleGenerator
from cicm.files import check_output, check_readable, write_atomic
from cicm.inference.views import View, alike
from cicm.inference.views import views as views
from cicm.memory import ContextMemory, MemoryRead
from cicm.memory.rules import keep_top
from cicm.memory.state import kept
from cicm.ops import complete_cells, missing_share
from cicm.ops.similarity import compared
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from cicm.photos.pixels import Box

FORMAT = "cicm-sources-1"
MAX_BYTES = 256 * 2**20
MAX_CELLS = 2**21
"""Entries of all contexts together."""
MAX_NAME = 1024
MAX_THUMBNAIL = 32 * 2**10
THUMBNAIL = 72
"""Longest side of a thumbnail, in pixels."""
MOST_KEPT = 16
HOLE_SEED = 0


class Source(NamedTuple):
    """A region that would be written into a context.

    Args:
        photo: its file, relative to the folder that was indexed.
        box: (left, top, right, bottom) of its cell, in pixels of the upright photo.
        window: what the thumbnail shows, likewise.
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
        photos_read: photos that were looked at.
        photos_skipped: files that could not be read, or were smaller than the network takes.
        regions: complete cells that were looked at, of all sites.
        side: of the windows, in pixels.
        keep: M.
    """

    photos_read: int
    photos_skipped: int
    regions: int
    side: int
    keep: int


@dataclass(frozen=True)
class SourceIndex:
    """For each context the regions that would be written to it with the largest weight, at most one of a photo.

    Args:
        fingerprint: of the model that it was made with.
        photos: names of the photos that any entry is from.
        sites: site name -> its sources.
        facts: how it was made.
    """

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
    """Site -> memory, for those that have sets to look into.

    Raises:
        InputError: there is none.
    """
    stored = {name: memory for name, memory in model.memories.items() if memory.has_sets}  # type: ignore[union-attr,operator]
    if not stored:
        raise InputError("this model has no memory; it is a network alone, or a control that stores nothing.")
    return stored


# Making one -----------------------------------------------------------------------------------------------------------


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
        model: in evaluation mode, with memories that are not empty.
        folder: searched by `cicm.photos.find_images`.
        keep: M, regions for each context.
        side: of the windows in pixels; the crop of the training says it best.
        limit: at most so many photos, spread evenly; 0 takes all.
        thumbnails: keep a small picture of each region. Without them the index holds names and places alone.
        progress: called with (photos done, photos in all).

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
    if limit and limit < len(paths):
        paths = [paths[place * len(paths) // limit] for place in range(limit)]
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
        rng = np.random.default_rng(np.random.SeedSequence(HOLE_SEED, spawn_key=(number,)))
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
        if not _sound(name):
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


# The file -------------------------------------------------------------------------------------------------------------


def save_index(index: SourceIndex, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write an index as one safetensors file, whole or not at all.

    Raises:
        InputError: another ending, no such folder, a file that is there already without `overwrite`.
    """
    target = Path(path)
    check_output(target, endings=[".safetensors"], overwrite=overwrite)
    tensors = {f"{site}/{name}": value for site, one in index.sites.items() for name, value in vars(one).items()}
    about = {
        "format": FORMAT,
        "fingerprint": index.fingerprint,
        "photos": list(index.photos),
        "sites": list(index.sites),
        "facts": asdict(index.facts),
    }
    # One entry: the order of several in the header is not fixed, and the same index shall be the same file.
    data = save(tensors, {"index": json.dumps(about)})
    if len(data) > MAX_BYTES:
        raise InputError(f"the index would have {len(data) / 2**20:.0f} MiB; at most {MAX_BYTES // 2**20}. Keep fewer.")
    write_atomic(target, data)
    return target


def read_index(path: str | Path, model: nn.Module | None = None) -> SourceIndex:
    """Read an index that `save_index` wrote; nothing in it is trusted.

    Args:
        path: the file.
        model: the index must have been made with it.

    Raises:
        InputError: missing, too large, damaged, not an index, numbers that make no sense, or made with other weights.
    """
    file = check_readable(path, "index")
    if (size := file.stat().st_size) > MAX_BYTES:
        raise InputError(f"{file} has {size / 2**20:.0f} MiB; an index has at most {MAX_BYTES // 2**20}.")
    header = read_header(file)
    if "index" not in header:
        raise InputError(f"{file} is safetensors but no index of sources. Make one with cicm look --make-index PHOTOS.")
    try:
        about = json.loads(header["index"])
        if about["format"] != FORMAT:
            raise ValueError(f"expected format {FORMAT!r}, got {about['format']!r}")
        facts = Facts(**about["facts"])
        if not all(type(value) is int and value >= 0 for value in asdict(facts).values()):
            raise ValueError("its counts are not whole numbers")
        names = about["photos"]
        if not (isinstance(names, list) and all(isinstance(n, str) and _sound(n) for n in names)):
            raise ValueError("its file names are not names")
        mark = str(about["fingerprint"])
        tensors = load_file(file)
        sites = {site: _site(site, tensors, len(names)) for site in about["sites"]}
        if len(tensors) != len(SiteSources.__dataclass_fields__) * len(sites):
            raise ValueError("it holds more than its sites")
    except UNUSABLE as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        raise InputError(f"{file} is damaged, or of another version: {reason}. Make it again.") from error
    index = SourceIndex(mark, tuple(names), sites, facts)
    if model is not None:
        _check_model(file, index, model)
    return index


def _site(site: str, tensors: dict[str, np.ndarray], photos: int) -> SiteSources:
    """The checked sources of a site; ValueError for what can't be."""
    one = SiteSources(**{name: tensors[f"{site}/{name}"] for name in SiteSources.__dataclass_fields__})
    shape = one.photo.shape
    if len(shape) != 3 or not 1 <= shape[2] <= MOST_KEPT or not 0 < one.photo.size <= MAX_CELLS:
        raise ValueError(f"its entries have the shape {shape}")
    expected = {
        "photo": (shape, np.int32),
        "box": ((*shape, 4), np.int32),
        "window": ((*shape, 4), np.int32),
        "weight": (shape, np.float32),
        "similarity": (shape, np.float32),
        "typical": (shape[:2], np.float32),
        "regions": (shape[:2], np.int64),
        "thumbnails": (one.thumbnails.shape[:1], np.uint8),
        "ends": ((one.photo.size,), np.int64),
    }
    for name, (wanted, kind) in expected.items():
        value = getattr(one, name)
        if value.shape != wanted or value.dtype != kind:
            raise ValueError(f"{name} is {value.shape} {value.dtype}")
    lengths = np.diff(one.ends, prepend=0)
    sound = (
        one.photo.min() >= -1
        and one.photo.max() < photos
        and np.isfinite(one.weight).all()
        and np.isfinite(one.similarity).all()
        and np.isfinite(one.typical).all()
        and one.box.min() >= 0
        and one.window.min() >= 0
        and one.regions.min() >= 0
        and lengths.min() >= 0
        and lengths.max() <= MAX_THUMBNAIL
        and one.ends[-1] == one.thumbnails.size
    )
    if not sound:
        raise ValueError("its numbers are out of range")
    for start, end in zip(one.ends - lengths, one.ends, strict=True):
        if end > start:
            width, height = jpeg_size(one.thumbnails[start:end].tobytes())
            if not (1 <= width <= THUMBNAIL and 1 <= height <= THUMBNAIL):
                raise ValueError(f"a thumbnail has {width}x{height} pixels")
    return one


def jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) that a JPEG's header states; a few bytes can claim a huge picture, which a browser would try.

    Raises:
        ValueError: no JPEG, or none with exactly one frame.
    """
    if data[:2] != b"\xff\xd8":
        raise ValueError("a thumbnail is no JPEG")
    place, found = 2, []
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], struct.unpack(">H", data[place + 2 : place + 4])[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9].ljust(4, b"\0")[:4])
            found.append((width, height))
        if marker == 0xDA:
            break
        place += 2 + max(length, 2)
    if len(found) != 1:
        raise ValueError("a thumbnail is a damaged JPEG")
    return found[0]


def _check_model(file: Path, index: SourceIndex, model: nn.Module) -> None:
    own = fingerprint(model)
    if index.fingerprint != own:
        raise InputError(
            f"{file} was made with other weights (theirs {index.fingerprint[:12]!r}, these {own[:12]!r}). "
            "Name the weights that it was made with, or make it again with cicm look --make-index PHOTOS."
        )
    for site, memory in with_sets(model).items():
        one = index.sites.get(site)
        if one is None or one.photo.shape[:2] != (memory.config.sets, memory.config.contexts):
            raise InputError(f"{file} does not fit the memory at {site!r}. Make it again.")


def _sound(name: str) -> bool:
    return 0 < len(name) <= MAX_NAME and name.isprintable()
