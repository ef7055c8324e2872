"""A memory filled from one's own photos, without training: `cicm remember`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cicm.assembly import MemoryInpainter
from cicm.assembly.album import Album, AlbumFacts, Page, with_album
from cicm.assembly.fingerprint import fingerprint
from cicm.conventions import InputError
from cicm.data.datasets import Skipped, to_image
from cicm.files import digest_of, reason_of
from cicm.inference.views import alike, views
from cicm.memory import ContextMemory, MemoryConfig, MemoryRead, MemoryState, inject_fast, keep_top
from cicm.memory.rules import settle
from cicm.memory.seeding import MOST_REGIONS, from_regions, generator_for, thinned
from cicm.memory.visit import look_up
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all); a step is one photo of one pass."""

_MOST_CONTEXTS = 2**17
"""Largest L * K of an album."""


@dataclass(frozen=True)
class Remembered:
    """What `remember` gives back.

    Args:
        album: ready for `save_album` and `with_album`.
        skipped: files that could not be used, and why.
        doubles: files that are byte for byte another one of them; each photo counts once.
    """

    album: Album
    skipped: tuple[Skipped, ...] = ()
    doubles: tuple[str, ...] = ()


@dataclass
class _Shelf:
    """The photos to remember, in an order that depends on their content alone.

    Args:
        photos: (digest, path), by digest.
        skipped: files that could not be used so far.
        doubles: files whose content came before.
    """

    photos: list[tuple[str, Path]]
    skipped: list[Skipped] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)

    def content(self, before: str = "") -> str:
        """SHA-256 over the photos' digests, after that of an album they are added to."""
        return digest_of("\n".join([before, *(digest for digest, _ in self.photos)]).encode())


@torch.inference_mode()
def remember(
    model: MemoryInpainter,
    photos: str | Path | Sequence[str | Path],
    *,
    sets: int | None = None,
    contexts: int | None = None,
    extend: bool = False,
    album: Album | None = None,
    side: int = 128,
    on_error: Literal["skip", "stop"] = "skip",
    progress: Progress | None = None,
) -> Remembered:
    """Fill the memories of a model from complete photos.

    Each photo is seen in windows of `side`, reduced until its shorter side fits and as it is, without any hole, so that
    every region is complete. A first pass takes a sample from all photos, an equal share of each, and seeds each memory
    with it as a training does. A second pass writes all regions of all photos by the memory's own rule (Eq. 2 and 3) as
    one batch: every region is compared with the state before, nothing is forgotten meanwhile, and each context becomes
    the mean of what it received.

    The order of the photos, their names and folders do not matter; the same photos give the same album. A file that
    comes twice counts once.

    Args:
        model: with memories; its numbers are not changed.
        photos: a folder, searched by `cicm.photos.find_images`, or the files themselves.
        sets, contexts: L and K of each memory; None keeps the model's. Not together with `extend` or `album`.
        extend: keep what the model's own memories hold and write the photos to it. What they hold weighs as much as it
            did in training, which for a large training set leaves little room for a few photos.
        album: write the photos to this album of the same model instead of to an empty one.
        side: of the windows in pixels; the crop of the training says it best.
        on_error: "skip" a file that can't be used, and name it in the result, or "stop".
        progress: told after each photo of each pass.

    Raises:
        InputError: a number out of its range; a model without a memory that stores anything; an album of another model;
            no photo that can be used, or, with `on_error = "stop"`, one that can't.
    """
    own = _memories(model)
    growing = extend or album is not None
    if growing and (sets is not None or contexts is not None):
        raise InputError("a memory that is extended keeps its size; leave out sets and contexts, or begin a new one.")
    if extend and album is not None:
        raise InputError("extend begins with the model's own memories, album with another album's; choose one of them.")
    if on_error not in ("skip", "stop"):
        raise InputError(f"on_error must be skip or stop; got {on_error!r}.")
    model.network.size.check(side, side)
    configs = {site: _sized(memory, sets, contexts) for site, memory in own.items()}
    mark = fingerprint(model)
    shelf = gather(photos, on_error)

    model.eval()
    if growing:
        seeded = model if album is None else with_album(model, album)
        if empty := [site for site, memory in _memories(seeded).items() if not memory.seeded]:
            raise InputError(f"the memory at {empty[0]!r} is empty; there is nothing to extend. Begin a new one.")
        first = 0
    else:
        first = len(shelf.photos)
        found = _sampled(model, own, shelf, side, on_error, _scaled(progress, 0, 2 * first))
        pages = {}
        for place, site in enumerate(own):
            regions = thinned(torch.cat(found[site]))
            state = from_regions(
                regions,
                configs[site].sets,
                configs[site].contexts,
                generator_for(0, 0, place),
                configs[site].similarity,
            )
            pages[site] = Page(configs[site], MemoryState(*(t.cpu() for t in state)))  # type: ignore[union-attr]
        seeded = with_album(model, Album(mark, pages, AlbumFacts(0, 0, 0, side, False, "")))
    written = _written(seeded, shelf, side, on_error, _scaled(progress, first, first + len(shelf.photos)))
    pages = {}
    for site, memory in _memories(seeded).items():
        total, config = written.sums[site], memory.config
        before = MemoryState(*(t.cpu().double() for t in memory.state.detached()))  # type: ignore[union-attr]
        # What a new memory was seeded with is among the photos' own regions, and would count twice.
        keep = 1.0 if growing else 0.0
        state = settle(before, total.contexts, total.weight(), config.momentum, retention=keep)
        pages[site] = Page(config, MemoryState(*(t.float() for t in state)))  # type: ignore[union-attr]
    facts = AlbumFacts(
        photos=len(shelf.photos) + (album.facts.photos if album else 0),
        skipped=len(shelf.skipped),
        regions=written.regions + (album.facts.regions if album else 0),
        side=side,
        extended=extend or bool(album and album.facts.extended),
        content=shelf.content(album.facts.content if album else ""),
    )
    return Remembered(Album(mark, pages, facts), tuple(shelf.skipped), tuple(shelf.doubles))


def gather(photos: str | Path | Sequence[str | Path], on_error: str = "skip") -> _Shelf:
    """The files by the digest of their content; what can't be read is told, what comes twice counts once.

    Raises:
        InputError: no such folder, no photo in it, an empty list; with `on_error = "stop"`, a file that can't be read.
    """
    paths = find_images(photos) if isinstance(photos, str | Path) else [Path(path) for path in photos]
    if not paths:
        raise InputError("expected one photo or more; got an empty list.")
    shelf = _Shelf([])
    seen: dict[str, Path] = {}
    for path in sorted(paths):
        try:
            digest = digest_of(path)
        except OSError as error:
            _pass_over(shelf, path, error, on_error)
            continue
        if digest in seen:
            shelf.doubles.append(str(path))
        else:
            seen[digest] = path
    shelf.photos = sorted(seen.items())
    return shelf


# The two passes -------------------------------------------------------------------------------------------------------


@dataclass
class _Sums:
    """Weighted sums of what each context received, in double precision, so that batches add up."""

    sums: dict[str, MemoryState]
    regions: int = 0


def _sampled(
    model: MemoryInpainter,
    own: dict[str, ContextMemory],
    shelf: _Shelf,
    side: int,
    on_error: str,
    progress: Progress | None,
) -> dict[str, list[Tensor]]:
    """For each site, an equal share of each photo's regions."""
    share = max(1, MOST_REGIONS // max(1, len(shelf.photos)))
    found: dict[str, list[Tensor]] = {site: [] for site in own}
    for reads in _seen(model, shelf, side, on_error, progress):
        for site, of_site in reads.items():
            regions = torch.cat([read.regions for read in of_site])
            found[site].append(regions[:: max(1, -(-len(regions) // share))].float())
    return found


def _written(model: MemoryInpainter, shelf: _Shelf, side: int, on_error: str, progress: Progress | None) -> _Sums:
    """All regions of all photos, added up by the context that they are written to (Eq. 2)."""
    memories = _memories(model)
    total = _Sums({site: _blank(memory) for site, memory in memories.items()})
    for reads in _seen(model, shelf, side, on_error, progress):
        for site, of_site in reads.items():
            for read in of_site:
                # On the CPU, because not every accelerator has double precision.
                weights = keep_top(read.weights, memories[site].config.write_top).cpu().double()
                total.sums[site] = inject_fast(
                    total.sums[site],
                    read.regions.cpu().double(),
                    read.sets.cpu(),
                    weights,
                    torch.ones(len(weights), dtype=torch.bool),
                    update="paper",
                )
                total.regions += len(weights)
    return total


def _seen(
    model: MemoryInpainter, shelf: _Shelf, side: int, on_error: str, progress: Progress | None
) -> Iterator[dict[str, list[MemoryRead]]]:
    """What each usable photo's windows read, photo by photo; the others move from `photos` to `skipped`.

    Raises:
        InputError: none of them is usable.
    """
    rule, memories, looking = model.network.size, _memories(model), _Looking(model)
    device = next(model.parameters()).device
    total, kept = len(shelf.photos), []
    for number, (digest, path) in enumerate(shelf.photos):
        try:
            photo = read_image(path)
            if min(photo.shape[:2]) < rule.minimum:
                size = f"{photo.shape[0]}x{photo.shape[1]} pixels"
                raise InputError(f"{path} has {size}; the network takes {rule.minimum}x{rule.minimum} or more.")
        except (InputError, OSError) as error:
            _pass_over(shelf, path, error, on_error)
        else:
            kept.append((digest, path))
            reads: dict[str, list[MemoryRead]] = {site: [] for site in memories}
            for group in alike(list(views(photo, side, rule))):
                found = looking(to_image(np.stack([view.pixels for view in group])).to(device))
                for site, visits in found.items():
                    reads[site].append(visits[-1])  # the last visit is the one that training writes
            yield reads
        if progress:
            progress(number + 1, total)
    if not kept:
        raise InputError(f"none of the {total} photos can be used; the first: {shelf.skipped[0].reason}")
    shelf.photos = kept


class _Enough(Exception):
    """Raised within a network's edit when the last memory was read: what comes after it is not needed."""


class _Looking:
    """What complete images read, without the part of the network behind the last memory."""

    def __init__(self, model: MemoryInpainter) -> None:
        self.model = model
        self.visits = 0  # of all memories together; unknown before the first call

    def __call__(self, image: Tensor) -> dict[str, list[MemoryRead]]:
        hole = torch.zeros_like(image[:, :1])
        if not self.visits:
            found = self.model(image, hole).reads
            self.visits = sum(len(visits) for visits in found.values())
        else:
            found = {site: [] for site in self.model.memories}

            def edit(site: str, features: Tensor) -> Tensor:
                if site not in found:
                    return features
                memory: ContextMemory = self.model.memories[site]  # type: ignore[assignment]
                found[site].append(look_up(memory, features, hole))
                if sum(len(visits) for visits in found.values()) == self.visits:
                    raise _Enough
                return found[site][-1].features

            with suppress(_Enough):
                self.model.network(image, hole, edit=edit)
        return {site: found[site] for site in _memories(self.model)}


def _blank(memory: ContextMemory) -> MemoryState:
    """Sums of nothing, of a memory's shape."""
    return MemoryState(*(torch.zeros(t.shape, dtype=torch.float64) for t in memory.state.detached()))  # type: ignore[union-attr]


def _scaled(progress: Progress | None, done: int, total: int) -> Progress | None:
    """The progress of one pass as that of all of them."""
    if progress is None:
        return None
    return lambda number, _: progress(min(done + number, total), total)


def _pass_over(shelf: _Shelf, path: Path, error: Exception, on_error: str) -> None:
    reason = reason_of(error)
    if on_error == "stop":
        named = reason if str(path) in reason else f"can't read {path}: {reason}"
        raise InputError(f"{named} To pass over such files, use on_error = 'skip'.") from error
    shelf.skipped.append(Skipped(str(path), reason))


def _memories(model: MemoryInpainter) -> dict[str, ContextMemory]:
    """Site -> memory, for those that are written to.

    Raises:
        InputError: there is none.
    """
    stored = {n: m for n, m in model.memories.items() if isinstance(m, ContextMemory) and m.writes}
    if not stored:
        raise InputError(
            "this model has no memory to write to; it is a network alone, or a control that stores nothing. "
            "Name other weights."
        )
    return stored


def _sized(memory: ContextMemory, sets: int | None, contexts: int | None) -> MemoryConfig:
    config = replace(
        memory.config,
        sets=memory.config.sets if sets is None else sets,
        contexts=memory.config.contexts if contexts is None else contexts,
    )
    if config.sets * config.contexts > _MOST_CONTEXTS:
        raise InputError(
            f"an album has at most {_MOST_CONTEXTS} contexts; got {config.sets} sets of {config.contexts}. Use fewer."
        )
    return config
