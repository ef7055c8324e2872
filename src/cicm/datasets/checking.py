"""Is a data set complete? What was found, what was expected, what is wrong, and what to do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cicm.conventions import InputError
from cicm.datasets.classes import classes_of
from cicm.datasets.masks import expected_share, fits, measured_polarity, white_share
from cicm.datasets.tree import Layout, Problem, SplitFiles, Tree
from cicm.files import evenly_spaced
from cicm.photos.headers import image_size
from cicm.photos.labels import VOID, read_labels
from cicm.photos.photo import read_image

Depth = Literal["names", "sample", "read"]
"""Names and numbers alone; also sizes of files and the headers of some; or every picture decoded."""

Progress = Callable[[str, int, int], None]  # (split, pictures done, pictures of the split)

_SAMPLES = 48  # pictures of a split whose headers are read at the depth "sample"

_COLOURS = {
    "white": "white means missing, by the area of the masks",
    "black": "black means missing, by the area of the masks; evaluate with --mask-polarity black",
    "unknown": "which colour means missing can't be told from this band's areas",
}

_THREADS = max(2, min(8, os.cpu_count() or 2))  # threads that decode

_CHUNK = 64  # pictures that are handed to the threads at once: what is decoded at a time is bounded by their number


@dataclass(frozen=True)
class SplitReport:
    """One split.

    Args:
        expected: in a complete copy; 0 where any number is right.
        labels: label maps that are there; None where the split has none.
    """

    name: str
    found: int
    expected: int
    labels: int | None = None
    opened: int = 0
    sizes: str = ""


@dataclass(frozen=True)
class Report:
    """What a check found."""

    layout: str
    title: str
    kind: str
    root: str
    depth: Depth
    splits: tuple[SplitReport, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {**asdict(self), "complete": self.complete}


def check(
    layout: Layout,
    root: str | Path,
    splits: Sequence[str] = (),
    *,
    depth: Depth = "sample",
    progress: Progress = lambda split, done, total: None,
) -> Report:
    """Look at a data set's folder; changes nothing.

    Args:
        splits: which ones; none for all (of a layout that takes any number: those that are there).

    Raises:
        InputError: no such folder or split.
    """
    tree = Tree(root)
    chosen = [layout.check_split(split) for split in splits] or _splits_here(layout, tree)
    reports, notes = [], []
    colours: dict[str, str] = {}
    for split in dict.fromkeys(chosen):
        found = layout.find(layout, tree, split)
        _count(layout, tree, split, found)
        notes += found.notes
        opened, sizes = 0, ""
        if depth != "names":
            _no_empty_files(tree, split, [*found.photos, *(label for label in found.labels or () if label)])
            opened, sizes = _opened(layout, tree, split, found, depth == "read", progress)
        if depth == "read" and found.labels:
            notes += _classes_in(layout, tree, split, [label for label in found.labels if label])
        labels = None if found.labels is None else sum(label is not None for label in found.labels)
        reports.append(SplitReport(split, len(found.photos), layout.counts[split], labels, opened, sizes))
        if layout.kind == "masks" and depth != "names" and found.photos:
            colours[split] = _polarity(layout, tree, split, found, every=depth == "read")
            notes.append(f"{split}: {_COLOURS[colours[split]]}")
    if {"white", "black"} <= set(colours.values()):
        told = ", ".join(f"{colour} in {split}" for split, colour in colours.items())
        tree.report(f"the colour that means missing changes: {told}", "Turn one kind over.")
    return Report(
        layout.name,
        layout.title,
        layout.kind,
        str(root),
        depth,
        tuple(reports),
        tuple(tree.problems),
        tuple(dict.fromkeys(notes)),
    )


def _splits_here(layout: Layout, tree: Tree) -> list[str]:
    if any(layout.counts.values()) or layout.kind == "masks":
        return list(layout.counts)
    return [split for split in layout.counts if split != "all" and tree.first_folder(split) is not None] or ["all"]


def _count(layout: Layout, tree: Tree, split: str, found: SplitFiles) -> None:
    expected = layout.counts[split]
    explained = any(problem.stops and problem.split in ("", split) for problem in tree.problems)
    if explained and (not expected or len(found.photos) < expected):
        return  # the number stands in the report of the split; why it is too low was told
    if not (expected or found.photos):
        tree.report(f"there are no {layout.kind}", "Check the path.", split=split)
    if expected and len(found.photos) != expected:
        tree.report(
            f"{len(found.photos):,} {layout.kind} were found, a complete copy has {expected:,}",
            f"Get it whole: {layout.get.split(';')[0]}."
            if len(found.photos) < expected
            else "Look whether two data sets lie in one folder.",
            split=split,
            count=abs(expected - len(found.photos)),
            stops=False,
        )


def _no_empty_files(tree: Tree, split: str, paths: Iterable[str]) -> None:
    empty = []
    for path in paths:
        try:
            if os.stat(tree.root / path).st_size == 0:
                empty.append(path)
        except OSError:
            empty.append(path)
    if empty:
        tree.report(f"{len(empty):,} files are empty", "Copy them again.", empty, split=split)


def _opened(
    layout: Layout, tree: Tree, split: str, found: SplitFiles, every: bool, progress: Progress
) -> tuple[int, str]:
    """Decode every picture and label, or read the headers of some pictures, evenly spread, and of their labels."""

    def size_of(path: str) -> tuple[int, int] | InputError:
        try:
            if not every:
                return image_size(tree.root / path)
            height, width, _ = read_image(tree.root / path).shape
            return height, width
        except InputError as error:
            return error

    places = evenly_spaced(range(len(found.photos)), len(found.photos) if every else _SAMPLES)
    photos = [found.photos[place] for place in places]
    labels = [label for place in places if found.labels and (label := found.labels[place])]
    paths = [*photos, *(labels if every else ())]
    sizes: dict[str, tuple[int, int]] = {}
    same: dict[tuple[int, int], tuple[int, int]] = {}  # millions of photos share a few sizes
    broken, done = [], 0
    waiting = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        while chunk := list(islice(waiting, _CHUNK)):
            for path, size in zip(chunk, pool.map(size_of, chunk)):
                if isinstance(size, InputError):
                    broken.append(_named(tree, path, size))
                else:
                    sizes[path] = same.setdefault(size, size)
            done += len(chunk)
            if every:
                progress(split, done, len(paths))
    if broken:
        which = "" if every else f"of {len(paths)} that were opened "
        tree.report(f"{len(broken):,} files {which}can't be read", "Copy or download them again.", broken, split=split)
    by_place = {place: sizes[path] for place, path in zip(places, photos) if path in sizes}
    look = (lambda path: sizes[path.relative_to(tree.root).as_posix()]) if every else image_size
    _compare_sizes(layout, tree, split, found, by_place, look)
    return len(paths), _in_words(by_place.values())


def _classes_in(layout: Layout, tree: Tree, split: str, labels: Sequence[str]) -> list[str]:
    """Count the classes of every label map; values that are none are a problem, maps with only void a note."""
    classes = classes_of(layout.name)
    counts, void, only_void = np.zeros(len(classes), dtype=np.int64), 0, 0
    wrong = []

    def count(path: str) -> np.ndarray | InputError:
        try:
            return np.bincount(read_labels(tree.root / path, classes).ravel(), minlength=VOID + 1)
        except InputError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as pool:
        waiting = iter(labels)
        while chunk := list(islice(waiting, _CHUNK)):
            for path, found in zip(chunk, pool.map(count, chunk)):
                if isinstance(found, InputError):
                    wrong.append(_named(tree, path, found))
                    continue
                counts += found[: len(classes)]
                void += int(found[VOID])
                only_void += int(found[VOID] == found.sum())
    if wrong:
        what = f"{len(wrong):,} labels can't be read, or hold values outside the classes"
        tree.report(what, "Unpack them again, or convert them.", wrong, split=split, stops=False)
    whole = max(1, int(counts.sum()) + void)
    shares = ", ".join(f"{name} {number / whole:.1%}" for name, number in zip(classes.names, counts) if number)
    told = [f"{split}: classes in {len(labels) - len(wrong):,} label maps: {shares or 'none'}; void {void / whole:.1%}"]
    return told + ([f"{split}: {only_void:,} label maps hold nothing but void"] if only_void else [])


def _named(tree: Tree, path: str, error: InputError) -> str:
    reason = str(error).replace(str(tree.root / path), "").strip(" :;.")
    return f"{path} ({reason})"


def _compare_sizes(
    layout: Layout,
    tree: Tree,
    split: str,
    found: SplitFiles,
    sizes: dict[int, tuple[int, int]],
    size_of: Callable[[Path], tuple[int, int]],
) -> None:
    """Photos of another size than the layout's, and labels of another size than their photo's."""
    if layout.size and (other := [place for place, size in sizes.items() if size != layout.size]):
        height, width = layout.size
        tree.report(
            f"{len(other):,} of {len(sizes):,} {layout.kind} are not {width}x{height} (width x height)",
            "They were resized; scores on them are not those of the original."
            if layout.kind == "photos"
            else "They were resized; their shares may have left their bins.",
            [f"{found.photos[place]} ({sizes[place][1]}x{sizes[place][0]})" for place in other],
            split=split,
            count=len(other),
            stops=False,
        )
    apart = []
    for place, size in sizes.items():
        label = found.labels[place] if found.labels else None
        if label is None:
            continue
        try:
            if size_of(tree.root / label) != size:
                apart.append(label)
        except (InputError, KeyError):  # not there among the sizes: it can't be read
            apart.append(label)
    if apart:
        tree.report(
            f"{len(apart):,} labels can't be read or are not of their photo's size",
            "Unpack the labels again.",
            apart,
            split=split,
            stops=False,
        )


def _in_words(sizes: Iterable[tuple[int, int]]) -> str:
    """Width x height of pictures: the one that all have, or the least and the largest sides.

    Example:
        >>> _in_words([(218, 178), (218, 178)]), _in_words([(256, 300), (512, 128)])
        ('178x218', '128 to 300 wide, 256 to 512 high')
    """
    different = set(sizes)
    if not different:
        return ""
    if len(different) == 1:
        height, width = different.pop()
        return f"{width}x{height}"
    heights, widths = zip(*different)
    return f"{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"


def _polarity(layout: Layout, tree: Tree, split: str, found: SplitFiles, *, every: bool) -> str:
    """Measure which colour means missing; report masks that are not of their bin."""
    shares: dict[str, float] = {}

    def share(path: str | Path) -> float:
        name = Path(path).relative_to(tree.root).as_posix()
        if name not in shares:
            try:
                shares[name] = white_share(path)
            except InputError:
                shares[name] = -1.0  # fits nowhere; broken files were named already
        return shares[name]

    if every:
        with ThreadPoolExecutor(_THREADS) as pool:
            waiting = iter(found.photos)
            while chunk := list(islice(waiting, _CHUNK)):
                list(pool.map(share, [tree.root / path for path in chunk]))
    polarity, right, opened = measured_polarity(layout, tree.root, found.photos, share=share)
    if 2 * right < opened:
        tree.report(
            f"only {right} of {opened} masks that were opened have the share that their place says, in either colour",
            "Look whether they were sorted by another rule.",
            split=split,
        )
        return "unknown"
    if every and polarity != "unknown":
        wrong = [
            f"{path} ({missing:.1%})"
            for path in found.photos
            if not fits(
                missing := shares[path] if polarity == "white" else 1 - shares[path], expected_share(layout, path)
            )
        ]
        if wrong:
            what = f"{len(wrong):,} masks do not have the share that their place says"
            tree.report(what, "Unpack them again, or sort them anew.", wrong, split=split)
    return polarity
