"""Mask files by index and by folder, and which of their colours means missing: measured, never assumed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from cicm.conventions import BANDS, InputError, band_of_range, range_of
from cicm.datasets.tree import Layout, SplitFiles, Tree
from cicm.photos.masks import missing_pixels

Polarity = Literal["white", "black", "unknown"]  # the colour that means missing

_BINS = 6  # NVIDIA's masks are sorted by ten percent of missing share, equally many in each

_SLACK = 0.02  # how far a share may lie outside its bin: files are sorted at one size and often stored at another


def _find_nvidia(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    folder = tree.first_folder("mask/testing_mask_dataset", "testing_mask_dataset", "test_mask", "")
    assert folder is not None, "the root is a folder"
    there = tree.images(folder)
    numbers = {int(stem): path for path in there if (stem := _stem(path)).isdecimal() and stem.isascii()}
    total = sum(layout.counts.values())
    strangers = sorted(set(there).difference(numbers.values()))
    strangers += [path for number, path in sorted(numbers.items()) if number >= total]
    if strangers:
        what = f"{len(strangers):,} pictures are none of the {total:,} numbered masks, or of a number that comes twice"
        tree.report(what, "Give the folder of the test masks alone.", strangers)
    before = list(layout.counts).index(split)
    first = sum(list(layout.counts.values())[:before])
    wanted = range(first, first + layout.counts[split])
    if absent := [f"{number:05}.png" for number in wanted if number not in numbers]:
        what = f"{len(absent):,} of the masks {first:05} to {wanted[-1]:05} are absent"
        tree.report(what, "Unpack test_mask.zip again: a mask's number tells its share.", absent, split=split)
    return SplitFiles([numbers[number] for number in wanted if number in numbers])


def _find_bands(layout: Layout, tree: Tree, split: str) -> SplitFiles:
    strangers = [name for name in tree.folders() if band_of_range(name) is None]
    strangers += [path for path in tree.images() if "/" not in path]
    if strangers:
        what = f"{len(strangers):,} folders or files are none of {', '.join(BANDS)} or ten percent of them"
        tree.report(what, "Give a folder that holds the masks and nothing else.", strangers)
    names = [name for name in tree.folders() if band_of_range(name) == split]
    if not names:
        tree.missing(f"a folder of the band {split}", f"Name it {split} (or 0%-20%, 10-20 and the like).", split)
    return SplitFiles([path for name in names for path in tree.images(name)])


def expected_share(layout: Layout, path: str) -> tuple[float, float]:
    """(low, high) share of missing pixels that a mask's place says it has.

    Example:
        >>> expected_share(NVIDIA, "mask/testing_mask_dataset/02500.png"), expected_share(BAND_FOLDERS, "40-60/a.png")
        ((0.1, 0.2), (0.4, 0.6))
    """
    if layout.find is _find_bands:
        shares = range_of(path.partition("/")[0])
        assert shares is not None, f"{path} lies in a folder of a band"
        return shares
    bin_ = int(_stem(path)) * _BINS // sum(layout.counts.values())
    return bin_ / 10, (bin_ + 1) / 10


def white_share(path: str | Path) -> float:
    """Share of a mask's pixels that are white."""
    missing = missing_pixels(path)
    return int(missing.sum()) / missing.size


def fits(share: float, expected: tuple[float, float]) -> bool:
    """Whether a share lies where it should, with some slack at both ends."""
    return expected[0] - _SLACK < share <= expected[1] + _SLACK


def measured_polarity(
    layout: Layout,
    root: str | Path,
    masks: Sequence[str],
    *,
    samples: int = 7,
    share: Callable[[str | Path], float] = white_share,
) -> tuple[Polarity, int, int]:
    """Which colour means missing, by the area of a few masks of each bin.

    A mask of 50 to 60 percent is one of 40 to 50 when turned over; so each is compared with its own bin, and the other
    bins decide where that is not enough.

    Returns:
        The colour, how many of the opened ones lie in their bin under it, how many were opened.
    """
    bins: dict[tuple[float, float], list[str]] = {}
    for path in masks:
        bins.setdefault(expected_share(layout, path), []).append(path)
    votes: Counter[str] = Counter()
    opened = 0
    for expected, paths in bins.items():
        for path in paths[:: max(1, len(paths) // samples)][:samples]:
            white = share(Path(root, path))
            opened += 1
            votes["white"] += fits(white, expected)
            votes["black"] += fits(1 - white, expected)
    if votes["white"] == votes["black"]:
        return "unknown", votes["white"], opened
    best: Polarity = "white" if votes["white"] > votes["black"] else "black"
    return best, votes[best], opened


def inverted(root: str | Path) -> bool:
    """Whether black means missing in a folder of masks: measured by NVIDIA's numbers, or by folders of bands.

    Raises:
        InputError: a folder that is laid out otherwise, so that nothing tells a mask's area; or areas that fit neither.
    """
    tree = Tree(root)
    layout = BAND_FOLDERS if any(band_of_range(name) for name in tree.folders()) else NVIDIA
    masks = [path for split in layout.counts for path in layout.find(layout, tree, split).photos]
    if not masks:
        raise InputError(
            f"the colour that means missing can't be measured in {root}: the masks are neither numbered 00000 to 11999 "
            f"nor in folders of bands ({', '.join(BANDS)}). Say it: white or black."
        )
    polarity, right, opened = measured_polarity(layout, root, masks)
    if polarity == "unknown" or 2 * right < opened:
        raise InputError(
            f"the colour that means missing can't be told in {root}: {right} of {opened} masks have the area that "
            "their place says, whichever it is. Say it: white or black."
        )
    return polarity == "black"


def _stem(path: str) -> str:
    return path.rsplit("/", 1)[-1].rpartition(".")[0]


NVIDIA = Layout(
    "nvidia-masks",
    "NVIDIA's irregular test masks, by number",
    dict.fromkeys(BANDS, 4_000),
    (
        "00000.png to 11999.png, 512x512, also in mask/testing_mask_dataset/",
        "2,000 for each ten percent of missing share, of each the first 1,000 with a border that stays free",
    ),
    "https://nv-adlr.github.io/publication/partialconv-inpainting",
    "read: (C) 2018 NVIDIA, CC BY-NC-SA 4.0, research only",
    "the bands 0-20, 20-40 and 40-60, most likely these masks; which mask goes with which photo is not said",
    _find_nvidia,
    (512, 512),
    kind="masks",
)

BAND_FOLDERS = Layout(
    "mask-bands",
    "masks in a folder per band",
    dict.fromkeys(BANDS, 0),
    ("0-20/, 20-40/, 40-60/, or 0%-20%/ and so on, or ten percent each (0-10/, 10-20/, ...)",),
    "your own; MISF and JPGNet were tested on such folders",
    "yours",
    "likely",
    _find_bands,
    kind="masks",
)
