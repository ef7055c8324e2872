"""What is to be done in a folder of photos: which files, which masks, and the name of each result.

Nothing here opens a picture, so that a scan of many thousands of files takes a second.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cicm.conventions import InputError
from cicm.files import reason_of
from cicm.photos.formats import ENDINGS
from cicm.photos.pixels import Box


@dataclass(frozen=True, slots=True)
class Job:
    """One result.

    Args:
        key: names the job in the journal; the photo's path, with its mask's after a NUL where each mask is a job.
        photo: path below the folder of photos, with "/".
        masks: paths of the mask files, below the folder that the mask source knows; united.
        boxes: places to fill, of a list of boxes.
        output: path below the folder of results, with "/".
    """

    key: str
    photo: str
    masks: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    output: str = ""


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Args:
        files: pictures by their endings, paths below the folder with "/", in the order of these paths.
        problems: (path, what is wrong) of what was left out although it looks like a picture or may hold some.
    """

    files: tuple[str, ...]
    problems: tuple[tuple[str, str], ...] = ()


def scan(root: Path, what: str = "photos") -> Found:
    """All pictures below a folder, however deep, in the same order on every machine.

    Hidden files and folders are left out. A link to a picture inside the folder is a picture; links that lead out of
    the folder, or to nothing, are not followed but named.

    Raises:
        InputError: no such folder, not a folder, or one that can't be listed.
    """
    if not root.exists():
        raise InputError(f"expected a folder of {what}; {shown(root)} does not exist. Check the path.")
    if not root.is_dir():
        raise InputError(f"expected a folder of {what}; {shown(root)} is a file. Give the folder that holds it.")
    real = os.path.realpath(root)
    files: list[str] = []
    problems: list[tuple[str, str]] = []
    suspects: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(root, below)) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    path = below + entry.name
                    pictorial = os.path.splitext(entry.name)[1].lower() in ENDINGS
                    if entry.is_symlink():
                        if pictorial or entry.is_dir():
                            _judge_link(real, path, pictorial, files, problems)
                    elif entry.is_dir(follow_symlinks=False):
                        waiting.append(path + "/")
                        if pictorial:
                            suspects.append(path + "/")
                    elif pictorial and entry.is_file(follow_symlinks=False):
                        files.append(path)
                    elif pictorial:
                        problems.append((path, "it is a device or a pipe, not a file. Save the picture to a file."))
        except OSError as error:
            if not below:
                raise InputError(f"the folder {shown(root)} can't be listed: {reason_of(error)}") from error
            problems.append((below, f"this folder can't be listed: {reason_of(error)}"))
    files.sort()
    for path in suspects:
        after = bisect_left(files, path)
        if after == len(files) or not files[after].startswith(path):
            problems.append((path, "it is a folder with a picture's name, and has no picture in it."))
    return Found(tuple(files), tuple(sorted(problems)))


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


def shown(path: object) -> str:
    """A path as one line of text that any terminal can show: control characters and broken bytes are escaped.

    Example:
        >>> shown("two\\nlines")
        'two\\\\nlines'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(path))


def several(names: Sequence[str], most: int = 3) -> str:
    """The first few names of many, for a message.

    Example:
        >>> several(["a", "b", "c", "d"], 2)
        'a, b and 2 more'
    """
    head = ", ".join(shown(name) for name in names[:most])
    return head if len(names) <= most else f"{head} and {len(names) - most} more"


def _judge_link(real: str, path: str, pictorial: bool, files: list[str], problems: list[tuple[str, str]]) -> None:
    target = os.path.realpath(os.path.join(real, path))
    inside = target == real or target.startswith(real.rstrip(os.sep) + os.sep)
    if not os.path.exists(target):
        problems.append((path, "it is a link to nothing. Take it away, or put the file there."))
    elif not inside:
        problems.append((path, "it is a link out of the folder, which is not followed. Copy what it leads to."))
    elif pictorial and os.path.isfile(target):
        files.append(path)
    # a link to a folder inside leads only to what is found without it


def _folded(path: str) -> str:
    """What a path is on a file system that knows neither case nor ways to write an accent."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
