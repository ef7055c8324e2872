"""Data sets by the layouts in which they are published: where the photos of a split are, and whether all are there.

Paths come in an order that depends on the data set alone, so that two machines with the same files agree. A data set
that is damaged or incomplete is refused with the reason; `cicm data check` tells everything at once.
"""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path

from cicm.conventions import InputError
from cicm.datasets import faces, folders, labelled, masks, places
from cicm.datasets.classes import CLASSES, classes_of
from cicm.datasets.tree import Layout, Problem, SplitFiles, Tree

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        places.STANDARD,
        places.STANDARD_LARGE,
        places.CHALLENGE,
        places.CHALLENGE_LARGE,
        faces.CELEBA,
        faces.CELEBA_HQ,
        labelled.CITYSCAPES,
        labelled.OUTDOOR,
        labelled.CAMVID,
        folders.FOLDER,
        masks.NVIDIA,
        masks.BAND_FOLDERS,
    )
}
"""Every layout by its name."""


def layout_named(name: str, kind: str | None = None) -> Layout:
    """The layout of a name.

    Raises:
        InputError: an unknown name, with the nearest known one; a layout of the other kind.
    """
    known = [one for one, layout in LAYOUTS.items() if kind in (None, layout.kind)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}."
        what = f"{name} is a layout of {LAYOUTS[name].kind}" if name in LAYOUTS else f"unknown layout {name!r}"
        raise InputError(f"{what}; {hint} See cicm data list.")
    return LAYOUTS[name]


def find(layout: Layout, root: str | Path, split: str) -> SplitFiles:
    """The photos of a split, and their labels.

    A copy with fewer or more photos than the complete one has is told with a warning: it may be meant.

    Raises:
        InputError: no such folder or split; a list or files missing, links that lead out, nothing found.
    """
    tree = Tree(root)
    found = layout.find(layout, tree, layout.check_split(split))
    if stopping := [problem for problem in tree.problems if problem.stops]:
        more = f" And {len(stopping) - 1} more, see cicm data check {layout.name}." if len(stopping) > 1 else ""
        raise InputError(f"{root} is no complete {layout.name}: {stopping[0]}{more}")
    if not found.photos:
        raise InputError(f"{root} has no photos of {layout.name}'s {split}. See cicm data check {layout.name}.")
    told = [str(problem) for problem in tree.problems]
    expected = layout.counts[split]
    if expected and len(found.photos) != expected:
        told.append(f"{split}: {len(found.photos):,} {layout.kind}, a complete copy has {expected:,}.")
    for text in told:
        warnings.warn(f"{layout.name} in {root}: {text}", stacklevel=3)
    return found


def photos_of(root: str | Path, layout: str, split: str) -> list[Path]:
    """The photos of a data set's split, as paths that begin with `root`.

    Raises:
        InputError: an unknown layout or split, or whatever is wrong with the folder.

    Example:
        >>> from PIL import Image
        >>> root = getfixture("tmp_path")
        >>> (root / "train").mkdir()
        >>> Image.new("RGB", (8, 8)).save(root / "train" / "a.png")
        >>> [path.relative_to(root).as_posix() for path in photos_of(root, "folder", "train")]
        ['train/a.png']
    """
    return [Path(root, path) for path in find(layout_named(layout, "photos"), root, split).photos]


def labels_of(root: str | Path, layout: str, split: str) -> list[Path | None]:
    """The label map of each photo of `photos_of`, in its order; None where a photo has none."""
    found = find(layout_named(layout, "photos"), root, split)
    labels = found.labels or [None] * len(found.photos)
    return [None if path is None else Path(root, path) for path in labels]
