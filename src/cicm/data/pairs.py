"""The fixed list that says which hole an evaluation image is scored with."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from cicm.conventions import BANDS, InputError, band_of
from cicm.data.generators import HoleGenerator
from cicm.data.holes import find_masks, hole_fraction, resize_hole, to_hole
from cicm.photos.headers import find_images, image_size

GENERATED = "generated:"
"""Beginning of a `mask` that is painted from a seed instead of read from a file."""

LARGEST_FILE = 200_000_000
"""Bytes of a list that are read at most."""

LARGEST_SIDE = 65_535


class Pair(NamedTuple):
    """One image with its hole.

    Args:
        image: posix path below the folder of images.
        mask: posix path below the folder of masks, or `generated:SEED:CHECKSUM`.
        band: the band of the hole at the size it is scored at.
        height: of image and hole when scored; a larger image is cut in the middle.
        width: likewise.
    """

    image: str
    mask: str
    band: str
    height: int
    width: int


def make_pairs(
    images: str | Path,
    masks: str | Path | None = None,
    seed: int = 0,
    *,
    sizes: Sequence[int | tuple[int, int]] | None = (256, 128),
    bands: Sequence[str] = tuple(BANDS),
    every_band: bool = True,
    invert: bool = False,
    photos: Sequence[Path] | None = None,
    order: Literal["shuffled", "index"] = "shuffled",
) -> list[Pair]:
    """Pair every image of a folder with a hole in each band.

    Masks are dealt from a shuffled deck per size and band: none comes twice before all have come once. A mask whose
    share leaves its band at the size it is scored at is passed over. Same folders and seed, same list.

    By index, as in published protocols, the i-th image gets the i-th mask of each band, beginning anew where a band has
    fewer masks than there are images; where that mask leaves its band, the next one that does not.

    Args:
        images: folder, searched by `find_images`.
        masks: folder, as `find_masks` reads it; None to paint every hole from a seed of its own.
        seed: 0 or above.
        sizes: an image is scored at the first of these (side, or (height, width)) that fits into it; None for its own
            size.
        bands: which of them.
        every_band: one hole in each band for each image; else one hole, the bands taking turns over shuffled images.
        invert: black is missing in the mask files.
        photos: only these, in this order; paths that begin with `images`. None for all.
        order: "shuffled" or "index"; the latter needs mask files.

    Raises:
        InputError: a folder or file that can't be used, an unknown band or order, an image smaller than every size,
            masks that look inverted, or no mask for a band.
    """
    unknown = [band for band in bands if band not in BANDS]
    if unknown or not bands:
        raise InputError(f"expected bands of {', '.join(BANDS)}; got {', '.join(map(repr, unknown)) or 'none'}.")
    if seed < 0:
        raise InputError(f"seed must be 0 or above; got {seed}.")
    if order not in ("shuffled", "index") or (order == "index" and masks is None):
        raise InputError(f'order must be "shuffled" or, with a folder of masks, "index"; got {order!r}.')
    root, paths = Path(images), find_images(images) if photos is None else list(photos)
    rng = np.random.default_rng(seed)
    deck: _Painted | _Deck | _Row
    if masks is None:
        deck = _Painted(rng)
    else:
        deck = _Row(Path(masks), invert) if order == "index" else _Deck(Path(masks), invert, rng)
    turns = np.empty(len(paths), dtype=int)
    turns[rng.permutation(len(paths))] = np.arange(len(paths)) % len(bands)
    pairs = []
    for place, (path, turn) in enumerate(zip(paths, turns)):
        size = _size_for(path, sizes)
        for band in bands if every_band else [bands[turn]]:
            pairs.append(Pair(path.relative_to(root).as_posix(), deck.draw(band, size, place), band, *size))
    return pairs


def hole_of(pair: Pair, masks: str | Path | None = None, *, invert: bool = False) -> Tensor:
    """The hole of a pair at the size it is scored at: (1, height, width), 1 = missing.

    Raises:
        InputError: a mask file that can't be read, no folder for it, a hole outside the pair's band, or one that is no
            longer painted as when the list was made.
    """
    size = (pair.height, pair.width)
    if pair.mask.startswith(GENERATED):
        seed, _, checksum = pair.mask.removeprefix(GENERATED).partition(":")
        hole = _paint(int(seed), pair.band, size)
        if checksum and _checksum(hole) != checksum:
            raise InputError(
                f"the hole {pair.mask} of {pair.image} is painted differently here (another version of Pillow or "
                "numpy). Make the list anew, or use mask files."
            )
    elif masks is None:
        raise InputError(f"the list names mask files, such as {pair.mask}; give the folder that they are in.")
    else:
        hole = resize_hole(to_hole(Path(masks, pair.mask), invert=invert), size)
    share = hole_fraction(hole)
    if band_of(share) != pair.band:
        doubt = " The masks look inverted." if band_of(1 - share) == pair.band else ""
        raise InputError(
            f"the hole {pair.mask} of {pair.image} should be of the band {pair.band} at {size[0]}x{size[1]}, "
            f"but fills {share:.2%}.{doubt} Use the masks that the list was made with, or make it anew."
        )
    return hole


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the list: every field of every pair, in order. Not over the pixels behind it.

    Example:
        >>> pairs_hash([Pair("a.png", "b.png", "0-20", 128, 128)])[:16]
        '83999eaa7cbdf0ed'
    """
    return hashlib.sha256(_text(pairs).encode()).hexdigest()


def write_pairs(path: str | Path, pairs: Sequence[Pair], *, overwrite: bool = False) -> str:
    """Write the list as CSV, whole or not at all; a comment in the first line holds its hash.

    Returns:
        The hash.

    Raises:
        InputError: an empty or faulty list, a file that exists already (without `overwrite`), or can't be written.
    """
    path = Path(path)
    checked = list(_checked(enumerate(([*map(str, pair)] for pair in pairs), 1), "pair"))
    digest = pairs_hash(checked)
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already. Choose another name, or allow overwriting it.")
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                file.write(f"# cicm pairs sha256 {digest}\n{_text(checked)}")
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as problem:
        raise InputError(f"can't write {path}: {problem.strerror or problem}.") from problem
    return digest


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a list that `write_pairs` wrote, or one made by hand without the comment.

    Raises:
        InputError: a file that can't be read; wrong columns; a row with a path that leaves its folder, an unknown band
            or a faulty size; a pair that comes twice; no pair; a hash that does not fit the rows.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as file:
            text = file.read(LARGEST_FILE + 1)
    except (OSError, UnicodeDecodeError) as problem:
        reason = getattr(problem, "strerror", None) or "not a text file"
        raise InputError(f"expected a list of pairs (CSV); can't read {path}: {reason}.") from problem
    if len(text) > LARGEST_FILE:
        raise InputError(f"expected a list of pairs (CSV) of at most {LARGEST_FILE // 10**6} MB; {path} is larger.")
    first, _, rest = text.partition("\n")
    stated = first.removeprefix("# cicm pairs sha256 ").strip() if first.startswith("# cicm pairs sha256 ") else None
    rows = csv.reader(io.StringIO(text if stated is None else rest), strict=True)
    try:
        columns = next(rows, [])
        if columns != list(Pair._fields):
            raise InputError(f"{path}: expected the columns {','.join(Pair._fields)}; got {','.join(columns)[:80]}.")
        pairs = list(_checked(((rows.line_num + (stated is not None), row) for row in rows), f"{path}, line"))
    except csv.Error as problem:
        raise InputError(f"{path}: not a CSV file: {problem}.") from problem
    if stated is not None and stated != pairs_hash(pairs):
        raise InputError(
            f"{path}: the rows do not fit the hash in the first line: the list was changed or damaged. "
            "Make it anew, or delete the first line if the change was meant."
        )
    return pairs


def _checked(rows: Iterator[tuple[int, list[str]]], where: str) -> Iterator[Pair]:
    """Rows of text -> pairs; nothing that leaves the folders, no doubles, no unknown band."""
    seen = set()
    for number, row in rows:
        problem = None
        if len(row) != len(Pair._fields):
            problem = f"expected {len(Pair._fields)} fields, got {len(row)}"
        else:
            image, mask, band, height, width = row
            if not _inside(image):
                problem = f"image must be a relative posix path inside the folder, got {image!r}"
            elif mask.startswith(GENERATED):
                seed, _, checksum = mask.removeprefix(GENERATED).partition(":")
                if not _number(seed, 0, 2**64) or (checksum and len(checksum) != 8):
                    problem = f"mask must be {GENERATED}SEED or {GENERATED}SEED:CHECKSUM, got {mask!r}"
            elif not _inside(mask):
                problem = f"mask must be a relative posix path inside the folder, or {GENERATED}SEED, got {mask!r}"
            if band not in BANDS:
                problem = f"band must be one of {', '.join(BANDS)}, got {band!r}"
            elif not (_number(height, 1, LARGEST_SIDE) and _number(width, 1, LARGEST_SIDE)):
                problem = f"height and width must be 1 to {LARGEST_SIDE}, got {height!r} and {width!r}"
            elif tuple(row) in seen:
                problem = "this pair stands here twice"
        if problem:
            raise InputError(f"{where} {number}: {problem[:300]}.")
        seen.add(tuple(row))
        yield Pair(row[0], row[1], row[2], int(row[3]), int(row[4]))
    if not seen:
        raise InputError(f"{where} 1: expected one pair or more; got none.")


def _inside(path: str) -> bool:
    """Whether a text is a relative posix path that stays inside its folder."""
    parts = PurePosixPath(path).parts
    clean = bool(parts) and path.isprintable() and "\\" not in path and PurePosixPath(path).as_posix() == path
    return clean and not path.startswith("/") and ".." not in parts and ":" not in parts[0]


def _number(text: str, least: int, most: int) -> bool:
    return (
        text.isascii() and text.isdecimal() and len(text) < 21 and str(int(text)) == text and least <= int(text) <= most
    )


def _text(pairs: Sequence[Pair]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(Pair._fields)
    writer.writerows(pairs)
    return buffer.getvalue()


def _size_for(path: Path, sizes: Sequence[int | tuple[int, int]] | None) -> tuple[int, int]:
    height, width = image_size(path)
    if sizes is None:
        return height, width
    for size in sizes:
        wanted = (size, size) if isinstance(size, int) else (size[0], size[1])
        if wanted[0] <= height and wanted[1] <= width:
            return wanted
    known = ",".join(str(size) if isinstance(size, int) else f"{size[1]}x{size[0]}" for size in sizes)
    fits = min(height, width) // 32 * 32
    smaller = f"Add a size that fits, as --size {known},{fits}, or take" if fits else "Take"
    raise InputError(
        f"{path} has {width}x{height} pixels, too few to score at {known}. Photos are never enlarged. "
        f"{smaller} it out of the folder."
    )


class _Deck:
    """Mask files, dealt from a shuffled deck per size and band."""

    def __init__(self, root: Path, invert: bool, rng: np.random.Generator) -> None:
        self.root, self.invert, self.rng = root, invert, rng
        self.masks = find_masks(root, invert=invert)
        self.decks: dict[tuple[str, tuple[int, int]], Iterator[str]] = {}

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        key = (band, size)
        if key not in self.decks:
            self.decks[key] = self._deal(band, size)
        return next(self.decks[key])

    def _deal(self, band: str, size: tuple[int, int]) -> Iterator[str]:
        paths = self.masks.get(band, [])
        order = self.rng.permutation(len(paths))
        kept: list[str] = []
        for place in order:
            path = paths[place]
            if band_of(hole_fraction(resize_hole(to_hole(path, invert=self.invert), size))) == band:
                kept.append(path.relative_to(self.root).as_posix())
                yield kept[-1]
        if not kept:
            raise InputError(f"no mask in {self.root} has a share in the band {band} at {size[0]}x{size[1]} pixels.")
        while True:
            yield from kept


class _Row:
    """Mask files in their own order: the one at the image's place, or the next that keeps its band."""

    def __init__(self, root: Path, invert: bool) -> None:
        self.root, self.invert = root, invert
        self.masks = find_masks(root, invert=invert)
        self.fits: dict[tuple[Path, tuple[int, int]], bool] = {}

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        paths = self.masks.get(band, [])
        for step in range(len(paths)):
            path = paths[(place + step) % len(paths)]
            if (path, size) not in self.fits:
                hole = resize_hole(to_hole(path, invert=self.invert), size)
                self.fits[path, size] = band_of(hole_fraction(hole)) == band
            if self.fits[path, size]:
                return path.relative_to(self.root).as_posix()
        raise InputError(f"no mask in {self.root} has a share in the band {band} at {size[0]}x{size[1]} pixels.")


class _Painted:
    """Holes from seeds."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def draw(self, band: str, size: tuple[int, int], place: int) -> str:
        seed = int(self.rng.integers(2**32))
        return f"{GENERATED}{seed}:{_checksum(_paint(seed, band, size))}"


def _paint(seed: int, band: str, size: tuple[int, int]) -> Tensor:
    return HoleGenerator(bands=[band])(*size, np.random.default_rng(seed))


def _checksum(hole: Tensor) -> str:
    return f"{zlib.crc32(np.packbits(hole.to(torch.bool).numpy()).tobytes()):08x}"
