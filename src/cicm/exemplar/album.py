"""An album: one's other photos, and the memory that finds among them those that share a damaged photo's content.

The memory is the paper's, filled with what the photos show. Each photo is seen as 3x3 regions of SqueezeNet features.
The regions are stored in sets, each with an anchor (Eq. 1). A damaged photo's regions are routed to the sets of their
nearest anchors. Only photos that have the same region there are compared, region by region, as far as it is known. So
the time for a look-up grows with the size of a few sets, not with the number of photos.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cicm.conventions import InputError
from cicm.exemplar.shapes import membrane
from cicm.files import atomic, check_output, check_readable, digest_of, reason_of
from cicm.photos.headers import find_images
from cicm.photos.photo import read_image
from cicm.plain import from_plain

FORMAT = "cicm-album-2"

GRID = 3
"""A photo is seen as so many by so many regions."""

SIDE = 256
"""Longest side in pixels at which photos are looked at."""

PROBES = 4
"""Sets that each region of a damaged photo is routed to."""

REGIONS_PER_SET, MOST_SETS = 64, 2048
"""A set holds about so many regions, more in very large albums."""

ONE_SET = 1000
"""Albums of up to so many photos have one set: all photos are compared."""

ROUNDS = 4
"""Rounds of k-means for the anchors."""

MOST_PHOTOS = 200_000
MAX_BYTES = 2**31


@dataclass(frozen=True)
class Entry:
    """A photo of an album.

    Args:
        path: below the album's folder, with "/".
        sha256: of the file.
    """

    path: str
    sha256: str


class Hit(NamedTuple):
    """A photo that may share a damaged photo's content.

    Args:
        path: its file.
        entry: what the album knows of it.
        likeness: mean cosine of the known regions, at most 1.
    """

    path: Path
    entry: Entry
    likeness: float

    def read(self) -> np.ndarray:
        """The photo's upright colours, (h, w, 3) uint8.

        Raises:
            InputError: the file was moved, changed or damaged since the album was made.
        """
        if digest_of(check_readable(self.path, "photo")) != self.entry.sha256:
            raise InputError(f"{self.path} was changed after the album was made. Make the album again.")
        return read_image(self.path)

    @property
    def name(self) -> str:
        """What reports call it."""
        return self.entry.path


@dataclass(frozen=True)
class Album:
    """Photos that can be found by their content.

    Args:
        folder: where they lie.
        photos: M of them, in the order of their digests.
        regions: (M, 9, C) float16, unit vectors; rows of the 3x3 grid from the top.
        anchors: (L, C) float32, unit vectors, one for each set.
        sets: (M, 9) int32, the set of each region.
        skipped: (path, reason) of files that could not be used; not kept in the file.
        doubles: files that are byte for byte another one; not kept in the file.
    """

    folder: Path
    photos: tuple[Entry, ...]
    regions: np.ndarray
    anchors: np.ndarray
    sets: np.ndarray
    skipped: tuple[tuple[str, str], ...] = ()
    doubles: tuple[str, ...] = ()

    def find(
        self, picture: np.ndarray, hole: np.ndarray, *, count: int = 4, without: Collection[str] = ()
    ) -> list[Hit]:
        """The photos most like the known part of a damaged one, the most alike first.

        Args:
            picture: (h, w, 3) uint8.
            hole: (h, w) bool; what is missing is not looked at.
            count: at most so many.
            without: SHA-256 of files that are not to be found, such as the damaged photo's own.
        """
        if hole.all():
            return []
        regions, known = regions_of(picture, hole)
        near = self.candidates(regions, known)
        alike = np.einsum("mrc,rc->mr", self.regions[near].astype(np.float32), regions) @ (known / known.sum())
        hits = []
        for place in np.argsort(-alike, kind="stable"):
            entry = self.photos[near[place]]
            if entry.sha256 not in without:
                hits.append(Hit(self.folder / entry.path, entry, float(alike[place])))
            if len(hits) == count:
                break
        return hits

    def candidates(self, regions: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Indices of the photos that are compared: a known region of theirs is in a set that ours is routed to (Eq. 1).

        Args:
            regions: (9, C) float32 unit vectors of a damaged photo.
            known: (9,) how much of each is known.
        """
        nearest = np.argsort(-(regions @ self.anchors.T), axis=1, kind="stable")[:, :PROBES]
        there = (self.sets[..., None] == nearest).any(-1) & (known > 0.05)
        return np.flatnonzero(there.any(1))


# Making one -----------------------------------------------------------------------------------------------------------


def make_album(
    photos: str | os.PathLike | Sequence[str | os.PathLike],
    *,
    before: Album | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Album:
    """Look at photos and remember what they show. Their order and their names do not matter.

    Args:
        photos: a folder, with all photos below it, a file, or several of these.
        before: an older album; photos that it knows by their digest are not looked at again.
        progress: called with (photos seen, photos in all).

    Raises:
        InputError: no such folder, no photo that can be used, too many.
    """
    given = [Path(os.path.abspath(p)) for p in ([photos] if isinstance(photos, (str, os.PathLike)) else photos)]
    files = sorted({file for one in given for file in (find_images(one) if one.is_dir() else [one])})
    if not files:
        raise InputError("an album needs at least one photo; got none.")
    if len(files) > MOST_PHOTOS:
        raise InputError(f"an album holds at most {MOST_PHOTOS} photos; got {len(files)}. Make several.")
    root = Path(os.path.commonpath([one if one.is_dir() else one.parent for one in given]))
    old = {} if before is None else {e.sha256: r for e, r in zip(before.photos, before.regions, strict=True)}
    found: dict[str, tuple[str, np.ndarray]] = {}
    skipped: list[tuple[str, str]] = []
    doubles: list[str] = []
    for number, file in enumerate(files, start=1):
        path = file.relative_to(root).as_posix()
        try:
            digest = digest_of(check_readable(file, "photo"))
            if digest in found:
                doubles.append(path)
            else:
                found[digest] = path, old[digest] if digest in old else _seen(read_image(file, least=2 * SIDE))
        except (InputError, OSError) as error:
            skipped.append((path, reason_of(error)))
        if progress:
            progress(number, len(files))
    if not found:
        raise InputError(f"none of the {len(files)} photos can be used; the first: {skipped[0][1]}")
    entries = tuple(Entry(found[digest][0], digest) for digest in sorted(found))
    regions = np.stack([found[entry.sha256][1] for entry in entries])
    return Album(root, entries, regions, *in_sets(regions), tuple(skipped), tuple(doubles))


def open_album(where: str | os.PathLike, progress: Callable[[int, int], None] | None = None) -> Album:
    """The album of a folder's photos, made on the spot, or the one in a file of `save_album`.

    Raises:
        InputError: as `make_album` and `load_album`.
    """
    return make_album(where, progress=progress) if Path(where).is_dir() else load_album(where)


def _seen(picture: np.ndarray) -> np.ndarray:
    return regions_of(picture, np.zeros(picture.shape[:2], dtype=bool))[0].astype(np.float16)


def in_sets(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Anchors by k-means from evenly spaced regions, and the set of each region (Eq. 1)."""
    import torch

    from cicm.memory.rules import route

    flat = torch.from_numpy(regions.reshape(-1, regions.shape[-1]).astype(np.float32))
    count = 1 if len(regions) <= ONE_SET else min(MOST_SETS, len(flat) // REGIONS_PER_SET)
    sample = flat[:: max(1, len(flat) // (16 * count))]
    anchors = sample[torch.linspace(0, len(sample) - 1, count).long()]
    for _ in range(ROUNDS):
        own = route(sample, anchors, kind="cosine")
        total = torch.zeros_like(anchors).index_add_(0, own, sample)
        anchors = torch.where(torch.bincount(own, minlength=count)[:, None] > 0, total, anchors)
        anchors = anchors / anchors.norm(dim=1, keepdim=True).clamp_min(1e-6)
    sets = torch.cat([route(part, anchors, kind="cosine") for part in flat.split(4096)])
    return anchors.numpy(), sets.to(torch.int32).numpy().reshape(regions.shape[:2])


def likeness(picture: np.ndarray, hole: np.ndarray, photos: Sequence[np.ndarray]) -> np.ndarray:
    """(N,) how alike photos (h, w, 3) uint8 are to the known part of a damaged one, as `Album.find` measures it."""
    regions, known = regions_of(picture, hole)
    others = [regions_of(one, np.zeros(one.shape[:2], dtype=bool))[0] for one in photos]
    return np.einsum("mrc,rc->mr", np.stack(others), regions) @ (known / max(known.sum(), 1e-6))


def regions_of(picture: np.ndarray, hole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a picture's 3x3 regions show: means of SqueezeNet's last map over what is known.

    The hole is filled smoothly first, because features near it see it. This found the right photo more often than one
    colour did; see results/album-index.md.

    Args:
        picture: (h, w, 3) uint8.
        hole: (h, w) bool.

    Returns:
        (9, C) float32 unit vectors, and (9,) how much of each region is known.
    """
    import torch
    from PIL import Image
    from torch.nn import functional as F

    from cicm.metrics.squeeze import load_squeeze_features

    scale = SIDE / max(picture.shape[:2])
    size = [max(48, round(side * scale)) for side in picture.shape[1::-1]]
    seen = picture
    if hole.any():
        seen = picture.copy()
        seen[hole] = 127 if hole.all() else picture[~hole].mean(0).round().astype(np.uint8)
    small = np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.BILINEAR))
    colours = small.astype(np.float32) / 255
    if hole.any():
        touched = np.asarray(Image.fromarray(hole.astype(np.uint8) * 255).resize(size, Image.Resampling.BILINEAR)) > 0
        if not touched.all():
            colours = membrane(colours, ~touched)
    with torch.inference_mode():
        features = load_squeeze_features()(torch.from_numpy(colours).movedim(-1, 0)[None].contiguous())[-1]
        known = F.adaptive_avg_pool2d(torch.from_numpy(~hole).float()[None, None], features.shape[-2:])
        share = F.adaptive_avg_pool2d(known, GRID)
        mean = F.adaptive_avg_pool2d(features * known, GRID) / share.clamp_min(1e-3)
        unit = (mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-6))[0].flatten(1).T
    return np.ascontiguousarray(unit.numpy()), share.flatten().numpy()


# The file -------------------------------------------------------------------------------------------------------------


def save_album(album: Album, path: str | os.PathLike, *, overwrite: bool = False) -> Path:
    """Write an album as one safetensors file, whole or not at all. It holds the photos' names, not their pixels.

    Raises:
        InputError: another ending, no such folder, or an existing file without `overwrite`.
    """
    from safetensors.numpy import save_file

    target = check_output(path, endings=(".safetensors",), overwrite=overwrite, what="album")
    about = {
        "format": FORMAT,
        "folder": os.path.relpath(album.folder, target.absolute().parent),
        "photos": [asdict(entry) for entry in album.photos],
    }
    parts = {"regions": album.regions, "anchors": album.anchors, "sets": album.sets}
    arrays = {name: np.ascontiguousarray(part) for name, part in parts.items()}  # written as they lie in memory
    with atomic(target, overwrite=overwrite) as part:
        # One entry: the order of several in the header is not fixed, and the same album shall be the same file.
        save_file(arrays, part, {"album": json.dumps(about)})
    return target


@dataclass(frozen=True)
class _About:
    format: str
    folder: str
    photos: tuple[Entry, ...]


def load_album(path: str | os.PathLike) -> Album:
    """Read an album that `save_album` wrote; nothing in it is trusted.

    Raises:
        InputError: missing, damaged, not an album, of an older version; or names that lead out of its folder.
    """
    from safetensors import safe_open

    file = check_readable(path, "album")
    if file.stat().st_size > MAX_BYTES:
        raise InputError(f"the album {file} is larger than {MAX_BYTES // 2**30} GiB, the most that is read.")
    try:
        with safe_open(str(file), framework="numpy") as stream:
            metadata = stream.metadata() or {}
            plain = json.loads(metadata.get("album", "null"))
            if not isinstance(plain, dict) or plain.get("format") != FORMAT:
                raise InputError(_not_ours(file, metadata))
            arrays = {name: stream.get_tensor(name) for name in ("regions", "anchors", "sets")}
        about: Any = from_plain(_About, plain, where="album")
    except InputError as error:
        if str(file) in str(error):
            raise
        raise InputError(f"the album {file} is damaged: {error} Make it again.") from error
    except Exception as error:  # safetensors raises its own kinds
        raise InputError(f"{file} is no album, or is damaged: {reason_of(error)} Make it again.") from error
    regions, anchors, sets = arrays["regions"], arrays["anchors"], arrays["sets"]
    whole = (
        regions.dtype == np.float16
        and anchors.dtype == np.float32
        and sets.dtype == np.int32
        and regions.shape[:2] == (len(about.photos), GRID**2) == sets.shape
        and anchors.ndim == 2
        and regions.shape[2:] == anchors.shape[1:]
        and len(anchors) > 0
        and bool(np.isfinite(regions).all() and np.isfinite(anchors).all())
        and bool((sets >= 0).all() and (sets < len(anchors)).all())
    )
    if not whole:
        raise InputError(f"the album {file} is damaged: its parts do not fit each other. Make it again.")
    for entry in about.photos:
        parts = entry.path.split("/")
        if not entry.path or entry.path.startswith("/") or ".." in parts or "\\" in entry.path or "\0" in entry.path:
            raise InputError(f"the album {file} names a photo out of its folder: {entry.path!r}. Make it again.")
    folder = Path(os.path.abspath(file.absolute().parent / about.folder))
    return Album(folder, about.photos, regions, anchors, sets)


def _not_ours(file: Path, metadata: dict[str, str]) -> str:
    again = f"Make it with cicm remember FOLDER -o {file.name}."
    if "album" in metadata:
        return f"{file} is an album of another version of cicm, which is not read any more. {again}"
    if metadata.get("format", "").startswith("cicm-"):
        return f"{file} is no album but a model or an index; an album holds one's own photos. {again}"
    return f"{file} is safetensors, but no album. {again}"
