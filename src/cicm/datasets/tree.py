"""A data set's folder, looked into without leaving it; whatever is wrong there is written down, never passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from cicm.conventions import InputError
from cicm.files import is_inside, reason_of, walk
from cicm.photos.formats import ENDINGS
from cicm.terminal import shown

MOST_NAMED = 1000  # paths that one problem names at most; the others are counted

_LONGEST_LINE = 4096  # characters of a line of a list; a longer one is no line of it


@dataclass(frozen=True)
class Problem:
    """Something that is not as the layout says.

    Args:
        paths: the first of them, at most `MOST_NAMED`, as paths below the root or lines of a list.
        stops: the list of photos can't be relied on, so that nothing is trained or scored on it.
    """

    what: str
    do: str
    split: str = ""
    count: int = 1
    paths: tuple[str, ...] = ()
    stops: bool = True

    def __str__(self) -> str:
        first = f", first {shown(self.paths[0])}" if self.paths else ""
        return f"{self.split + ': ' if self.split else ''}{self.what}{first}. {self.do}"


@dataclass
class SplitFiles:
    """What a layout finds of one split.

    Args:
        photos: posix paths below the root, in an order that depends on the data set alone.
        labels: one per photo, None where it has none; None where the split has no label maps at all.
    """

    photos: list[str] = field(default_factory=list)
    labels: list[str | None] | None = None
    notes: list[str] = field(default_factory=list)


class Tree:
    """The folder of a data set.

    Links to files inside are followed; a link that leads out, or to a folder, is a problem. Hidden files are left out.

    Raises:
        InputError: no such folder.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            what = "is a file" if self.root.exists() else "does not exist"
            raise InputError(f"expected the folder of a data set; {root} {what}. Check the path.")
        self.problems: list[Problem] = []
        self._images: dict[str, list[str]] = {}

    def report(
        self, what: str, do: str, paths: Iterable[str] = (), *, split: str = "", count: int = 0, stops: bool = True
    ) -> None:
        """Write a problem down, once."""
        named = tuple(paths)
        problem = Problem(what, do, split, count or max(1, len(named)), named[:MOST_NAMED], stops)
        if problem not in self.problems:
            self.problems.append(problem)

    def first_folder(self, *names: str) -> str | None:
        """The first of these that is a folder here; "" names the root."""
        return next((name for name in names if (self.root / name).is_dir()), None)

    def first_file(self, *names: str) -> str | None:
        """The first of these that is a file here."""
        return next((name for name in names if (self.root / name).is_file()), None)

    def folders(self, folder: str = "") -> list[str]:
        """Names of the folders in a folder, sorted, without hidden ones."""
        try:
            with os.scandir(self.root / folder) as entries:
                return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        except OSError as error:
            self.report(f"{folder or 'the folder'} can't be listed: {reason_of(error)[:-1]}", "Mend its permissions.")
            return []

    def images(self, folder: str = "") -> list[str]:
        """All image files below a folder, as sorted posix paths below the root."""
        if folder not in self._images:
            self._images[folder] = self._walk(folder)
        return self._images[folder]

    def lines(self, name: str) -> Iterator[tuple[int, str]]:
        """(number from 1, text) of each line that isn't empty; a list that can't be read ends early and is reported."""
        if not is_inside(self.root / name, self.root):
            self.report("a list is a link out of the folder", "Copy the file here.", [name])
            return
        try:
            with open(self.root / name, encoding="utf-8", newline=None) as file:
                number = 0
                while text := file.readline(_LONGEST_LINE + 1):
                    number += 1
                    if len(text) > _LONGEST_LINE:
                        self.report(f"line {number} of a list has no end", "Download the list again.", [name])
                        return
                    if text.strip():
                        yield number, text.strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = reason_of(error)[:-1] if isinstance(error, OSError) else "not a text file"
            self.report(f"a list can't be read ({reason})", "Download the list again.", [name])

    def rows(self, name: str, columns: int, *, read: Callable[[list[str]], bool], heads: int = 0) -> None:
        """Hand each row of a list to `read`; rows that have other columns, or that it refuses, are reported.

        Args:
            columns: how many words or comma-separated values a row has.
            read: takes a row; False when it makes no sense.
            heads: how many first lines may be titles: refused without a word.
        """
        bad = []
        for number, text in self.lines(name):
            row = [part.strip() for part in text.split(",")] if "," in text else text.split()
            if (len(row) != columns or not read(row)) and number > heads:
                bad.append(f"{name} line {number}: {text[:80]}")
        if bad:
            self.report(f"{name} has {len(bad):,} lines that make no sense", "Download the list again.", bad)

    def present(self, listed: list[str], there: Iterable[str], split: str, name: str) -> list[str]:
        """Those of a list that are there, in its order; absent, doubled and escaping ones are reported."""
        known = set(there)
        kept = [path for path in dict.fromkeys(listed) if path in known]
        if len(kept) < len(listed):
            outside = [path for path in listed if not _stays_inside(path)]
            absent = [path for path in dict.fromkeys(listed) if path not in known and _stays_inside(path)]
            seen: set[str] = set()
            doubled = [path for path in listed if path in seen or seen.add(path)]  # type: ignore[func-returns-value]
            again = "Download the list again."
            unpack = "Unpack the archive again; for a part of the data set use the layout `folder`."
            for paths, what, do in (
                (outside, f"{name} names {len(outside):,} paths outside", again),
                (absent, f"{len(absent):,} photos that {name} names are absent", unpack),
                (doubled, f"{name} names {len(doubled):,} photos twice", again),
            ):
                if paths:
                    self.report(what, do, paths, split=split)
        return kept

    def surplus(self, there: Iterable[str], listed: Iterable[str], name: str, split: str = "") -> None:
        """Report photos that no list names."""
        if more := sorted(set(there).difference(listed)):
            self.report(
                f"{len(more):,} photos are not in {name} and left out",
                "Take them away if they are not of this data set.",
                more,
                split=split,
                stops=False,
            )

    def missing(self, what: str, do: str, split: str = "") -> None:
        """Report that a part isn't there."""
        self.report(f"{what} is missing", do, split=split)

    def _walk(self, folder: str) -> list[str]:
        if not is_inside(self.root / folder, self.root):
            self.report("a folder is a link out of the data set", "Copy what it leads to.", [folder])
            return []
        try:
            listing = walk(
                self.root / folder, lambda name: os.path.splitext(name)[1].lower() in ENDINGS, inside=self.root
            )
        except InputError as error:
            self.report(f"a folder can't be listed ({error})", "Mend its permissions.", [folder])
            return []
        start = f"{folder}/" if folder else ""
        reasons: dict[str, list[str]] = {}
        for path, wrong in listing.problems:
            reasons.setdefault(wrong, []).append(start + path)
        for wrong, paths in reasons.items():
            what, _, do = wrong.partition(". ")
            self.report(f"{len(paths):,} paths are left out: {what}", do or "Mend it.", paths)
        return [start + path for path in listing.files]


Finder = Callable[["Layout", Tree, str], SplitFiles]
"""(layout, folder, split) -> what is there; problems go to the folder's list."""


@dataclass(frozen=True)
class Layout:
    """A data set as it is published: which files, where, how many.

    Args:
        name: as `--layout` takes it.
        counts: split -> photos (or masks) of a complete copy; 0 where any number is right.
        expects: what has to lie in the folder, one fact a line.
        terms: on which terms, in short; "known" where they were not read again for this line.
        find: gives the photos of a split.
        size: (height, width) of every photo, where they all have one.
        labels: splits that come with a label map for every photo.
    """

    name: str
    title: str
    counts: Mapping[str, int]
    expects: tuple[str, ...]
    get: str
    terms: str
    paper: str
    find: Finder
    size: tuple[int, int] | None = None
    kind: str = "photos"
    labels: tuple[str, ...] = ()

    def check_split(self, split: str) -> str:
        """Refuse a split that this layout doesn't have; gives it back."""
        if split not in self.counts:
            raise InputError(f"the splits of {self.name} are {', '.join(self.counts)}; got {split!r}.")
        return split


def _stays_inside(path: str) -> bool:
    """Whether a path of a list is a plain relative one.

    Example:
        >>> [_stays_inside(path) for path in ["a/b.jpg", "../b.jpg", "a/../../b.jpg", "C:/b.jpg", ""]]
        [True, False, False, False, False]
    """
    parts = PurePosixPath(path).parts
    rooted = bool(parts) and (parts[0].startswith("/") or ":" in parts[0])
    return bool(parts) and "\\" not in path and "\0" not in path and ".." not in parts and not rooted
