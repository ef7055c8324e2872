"""The names of a folder's results, and which of the photos a shard does. Opens no file."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from cicm.photos.formats import ENDINGS


def named(wanted: Iterable[tuple[str, str]], ending: str | None, taken: Mapping[str, str]) -> dict[str, str]:
    """A result's name for each job, no two alike on any file system.

    Each result is called as its photo. Where two names differ only in case or in how an accent is written, the later
    one gets `~2`; where another ending is asked for and the name with it is taken, the old ending stays before the new.

    Args:
        wanted: (key, path that the result would have), in the order of the photos.
        ending: of all results, such as ".png"; None keeps each its own.
        taken: key -> name from an earlier run, which stays.

    Returns:
        key -> path of the result.

    Example:
        >>> named([("A.jpg", "A.jpg"), ("a.jpg", "a.jpg"), ("a.png", "a.png")], None, {})
        {'A.jpg': 'A.jpg', 'a.jpg': 'a~2.jpg', 'a.png': 'a.png'}
        >>> named([("a.jpg", "a.jpg"), ("a.png", "a.png")], ".png", {})
        {'a.jpg': 'a.jpg.png', 'a.png': 'a.png'}
    """
    wanted = list(wanted)
    used = {_folded(parent) for parent in {path.rpartition("/")[0] for _, path in wanted}}
    used |= {_folded(str(above)) for path in list(used) for above in PurePosixPath(path).parents}
    names = {key: taken[key] for key, _ in wanted if key in taken}
    used |= {_folded(path) for path in names.values()}
    kind = ENDINGS[ending] if ending else None

    def keeps(path: str) -> bool:
        return kind is None or ENDINGS.get(os.path.splitext(path)[1].lower()) == kind

    # Those that keep their ending choose first, so that a.png stays a.png whatever a.jpg becomes.
    for key, path in sorted((pair for pair in wanted if pair[0] not in names), key=lambda pair: not keeps(pair[1])):
        stem, old = os.path.splitext(path)
        candidates = [path] if keeps(path) else [f"{stem}{ending}", f"{path}{ending}"]
        stem, old = os.path.splitext(candidates[-1])
        count = 1
        while (free := next((name for name in candidates if _folded(name) not in used), None)) is None:
            count += 1
            candidates = [f"{stem}~{count}{old}"]
        names[key] = free
        used.add(_folded(free))
    return {key: names[key] for key, _ in wanted}


def in_shard(key: str, shard: tuple[int, int]) -> bool:
    """Whether a job belongs to shard (number from 1, of how many): by its key alone, so that new photos move no other.

    Example:
        >>> sum(in_shard("a.png", (number, 7)) for number in range(1, 8))
        1
    """
    number, count = shard
    digest = hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % count == number - 1


def _folded(path: str) -> str:
    """What a path is on a file system that knows neither case nor ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
