"""A list of pairs as a CSV file, with the hash of its rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from cicm.conventions import BANDS, InputError
from cicm.files import check_output, digest_of, read_bounded, reason_of, write_atomic

GENERATED = "generated:"  # beginning of a `mask` that is painted from a seed instead of read from a file

_LARGEST_FILE = 200_000_000  # bytes of a list that are read at most

_LARGEST_SIDE = 65_535


class Pair(NamedTuple):
    """One image with its hole.

    Args:
        mask: posix path below the folder of masks, or `generated:SEED:CHECKSUM`.
        band: the band of the hole at the size it is scored at.
        height: of image and hole when scored; a larger image is cut in the middle.
    """

    image: str
    mask: str
    band: str
    height: int
    width: int


def pairs_hash(pairs: Sequence[Pair]) -> str:
    """SHA-256 over the list: every field of every pair, in order. Not over the pixels behind it.

    Example:
        >>> pairs_hash([Pair("a.png", "b.png", "0-20", 128, 128)])[:16]
        '83999eaa7cbdf0ed'
    """
    return digest_of(_text(pairs).encode())


def write_pairs(path: str | Path, pairs: Sequence[Pair], *, overwrite: bool = False) -> str:
    """Write the list as CSV, whole or not at all; a comment in the first line holds its hash.

    Returns:
        The hash.

    Raises:
        InputError: an empty or faulty list, a file that exists already (without `overwrite`), or can't be written.
    """
    checked = list(_checked(enumerate(([*map(str, pair)] for pair in pairs), 1), "pair"))
    digest = pairs_hash(checked)
    file = check_output(path, overwrite=overwrite, what="list of pairs")
    try:
        write_atomic(file, f"# cicm pairs sha256 {digest}\n{_text(checked)}", overwrite=overwrite)
    except OSError as problem:
        raise InputError(f"can't write {file}: {reason_of(problem)}") from problem
    return digest


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a list that `write_pairs` wrote, or one made by hand without the comment.

    The first column is called `image`, or `photo` as in lists of boxes.

    Raises:
        InputError: a file that can't be read; wrong columns; a row with a path that leaves its folder, an unknown band
            or a faulty size; a pair that comes twice; no pair; a hash that does not fit the rows.
    """
    try:
        text = read_bounded(path, _LARGEST_FILE, "list of pairs").decode()
    except UnicodeDecodeError as problem:
        raise InputError(f"expected a list of pairs (CSV); {path} is not a text file.") from problem
    first, _, rest = text.partition("\n")
    stated = first.removeprefix("# cicm pairs sha256 ").strip() if first.startswith("# cicm pairs sha256 ") else None
    rows = csv.reader(io.StringIO(text if stated is None else rest), strict=True)
    try:
        columns = next(rows, [])
        if columns not in (list(Pair._fields), ["photo", *Pair._fields[1:]]):
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
            elif not (_number(height, 1, _LARGEST_SIDE) and _number(width, 1, _LARGEST_SIDE)):
                problem = f"height and width must be 1 to {_LARGEST_SIDE}, got {height!r} and {width!r}"
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
