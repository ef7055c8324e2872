"""Which photos of a folder are filled, and what marks each: mask files, transparency, a colour, a list of boxes."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from cicm.conventions import InputError
from cicm.files import Listing, check_readable, walk
from cicm.folders.boxes import read_boxes
from cicm.photos.formats import ENDINGS
from cicm.photos.marking import Marks, check_colour, check_grow, mark
from cicm.photos.photo import Photo
from cicm.photos.pixels import Box
from cicm.terminal import several, shown


def is_picture(name: str) -> bool:
    """Whether a file's name has the ending of a picture that is read."""
    return os.path.splitext(name)[1].lower() in ENDINGS


@dataclass(frozen=True, slots=True)
class Job:
    """One result.

    Args:
        key: names the job in the journal; the photo's path.
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
class Assigned:
    """Photos with their masks.

    Args:
        jobs: one for each result, still without its name.
        missing: (photo, why it has no mask).
    """

    jobs: tuple[Job, ...]
    missing: tuple[tuple[str, str], ...] = ()
    unused: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MaskSource:
    """Says where a photo is to be filled.

    Args:
        invert: fill what would be kept, and keep what would be filled.
        grow: pixels by which the hole is grown to all sides, after inverting.
    """

    invert: bool = False
    grow: int = 0

    def __post_init__(self) -> None:
        check_grow(self.grow)

    def assign(self, root: Path, found: Listing) -> Assigned:
        """Which of the files found are photos, and what belongs to each."""
        raise NotImplementedError

    def where(self, root: Path, mask: str) -> Path:
        """The file of a job's mask, for photos below `root`."""
        raise NotImplementedError

    def absolute(self) -> Self:
        """The same, for a process that starts in another folder."""
        named = vars(self).items()
        paths: dict[str, Any] = {name: value.absolute() for name, value in named if isinstance(value, Path)}
        return replace(self, **paths)

    def settings(self) -> dict[str, Any]:
        """What decides about results, as plain data for the journal."""
        return {"masks": type(self).__name__, "invert": self.invert, "grow": self.grow}

    def marks(self, job: Job, root: Path) -> Marks:
        """What marks the photo of a job, for photos below `root`."""
        raise NotImplementedError

    def apply(self, photo: Photo, job: Job, root: Path) -> tuple[Photo, np.ndarray]:
        """The photo as it is to be filled, and its hole, (H, W) bool, with something in it."""
        pixels, hole = mark(photo.pixels, self.marks(job, root))
        return photo.with_pixels(pixels), hole


# Mask files


@dataclass(frozen=True, kw_only=True)
class _MaskFiles(MaskSource):
    def marks(self, job: Job, root: Path) -> Marks:
        files = tuple(self.where(root, mask) for mask in job.masks)
        return Marks(masks=files, invert=self.invert, grow=self.grow)


@dataclass(frozen=True)
class MaskFolder(_MaskFiles):
    """A folder that mirrors that of the photos.

    The mask of `sub/a.jpg` is `sub/a.jpg` there, else `sub/a.jpg.png` (any picture's ending), else the one file whose
    name without its ending is `sub/a`.
    """

    root: Path

    def assign(self, root: Path, found: Listing) -> Assigned:
        masks = walk(self.root, is_picture, "masks")
        if not masks.files:
            raise InputError(f"there is no mask in {shown(self.root)}. Give the folder that holds the masks.")
        photos = _outside(root, found.files, self.root)
        exact, stems = set(masks.files), defaultdict(list)
        for mask in masks.files:
            stems[os.path.splitext(mask)[0]].append(mask)
        jobs, missing, used = [], [], set()
        reasons = dict(masks.problems)
        for photo in photos:
            stem = os.path.splitext(photo)[0]
            choices = [photo] if photo in exact else stems.get(photo) or stems.get(stem) or []
            used.update(choices)
            if len(choices) == 1:
                jobs.append(Job(photo, photo, (choices[0],)))
            elif choices:
                missing.append((photo, f"it has several masks: {several(choices)}. Leave one."))
            elif why := next((why for mask, why in reasons.items() if os.path.splitext(mask)[0] == stem), ""):
                missing.append((photo, f"its mask can't be used: {why}"))
            else:
                missing.append((photo, f"it has no mask: expected {shown(stem)}.png or alike in {shown(self.root)}."))
        return Assigned(tuple(jobs), tuple(missing), tuple(mask for mask in masks.files if mask not in used))

    def where(self, root: Path, mask: str) -> Path:
        return self.root / mask


@dataclass(frozen=True)
class OneMask(_MaskFiles):
    """One mask file for all photos, which then are all of its size."""

    file: Path

    def assign(self, root: Path, found: Listing) -> Assigned:
        check_readable(self.file, "mask")
        photos = _outside(root, found.files, self.file)
        return Assigned(tuple(Job(photo, photo, (self.file.name,)) for photo in photos))

    def where(self, root: Path, mask: str) -> Path:
        return self.file


@dataclass(frozen=True)
class MaskBeside(_MaskFiles):
    """Masks beside the photos: with the suffix `_mask`, the mask of `a.jpg` is `a_mask.png`, of any picture's ending.

    Numbers may follow (`a_mask000.png`, `a_mask001.png`, as LaMa has them). Several masks of a photo are united.
    """

    suffix: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.suffix or "/" in self.suffix or "." in self.suffix:
            raise InputError(
                f"a mask's suffix is what stands between the photo's name and the ending, such as _mask; "
                f"got {self.suffix!r}."
            )

    def assign(self, root: Path, found: Listing) -> Assigned:
        pattern = re.compile(rf"(.*[^/]){re.escape(self.suffix)}[0-9]*", re.DOTALL)
        photos, masks = [], defaultdict(list)
        for file in found.files:
            if match := pattern.fullmatch(os.path.splitext(file)[0]):
                masks[match[1]].append(file)
            else:
                photos.append(file)
        jobs, missing = [], []
        for photo in photos:
            stem = os.path.splitext(photo)[0]
            own = masks.get(stem, [])
            if not own:
                missing.append((photo, f"it has no mask: expected {shown(stem + self.suffix)}.png or alike beside it."))
            else:
                jobs.append(Job(photo, photo, tuple(own)))
        stems = {os.path.splitext(photo)[0] for photo in photos}
        unused = tuple(mask for stem, own in masks.items() if stem not in stems for mask in own)
        return Assigned(tuple(jobs), tuple(missing), unused)

    def where(self, root: Path, mask: str) -> Path:
        return root / mask

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "suffix": self.suffix, "each": False}  # "each": journals of the first versions


# The photo itself


@dataclass(frozen=True, kw_only=True)
class _InThePhoto(MaskSource):
    def assign(self, root: Path, found: Listing) -> Assigned:
        return Assigned(tuple(Job(photo, photo) for photo in found.files))


@dataclass(frozen=True)
class MaskAlpha(_InThePhoto):
    """Fill where the photo is transparent: opacity below one half. What was filled is opaque afterwards."""

    def marks(self, job: Job, root: Path) -> Marks:
        return Marks(alpha=True, invert=self.invert, grow=self.grow)


@dataclass(frozen=True)
class MaskColour(_InThePhoto):
    """Fill where the photo has a colour.

    Args:
        colour: red, green and blue, 0 to 255.
        tolerance: largest difference in any of the three that still counts.
    """

    colour: tuple[int, int, int]
    tolerance: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_colour(self.colour, self.tolerance)

    def settings(self) -> dict[str, Any]:
        return {**super().settings(), "colour": list(self.colour), "tolerance": self.tolerance}

    def marks(self, job: Job, root: Path) -> Marks:
        return Marks(colour=self.colour, tolerance=self.tolerance, invert=self.invert, grow=self.grow)


@dataclass(frozen=True)
class MaskBoxes(_InThePhoto):
    """Fill boxes from a list: CSV with the columns photo, left, top, right, bottom, or a JSON list of such objects.

    Pixels count from 0 at the left and at the top; right and bottom are the first that are not filled. A photo may have
    several rows. It is named by its path below the folder of photos.
    """

    file: Path

    def assign(self, root: Path, found: Listing) -> Assigned:
        known = set(found.files)
        boxes: dict[str, list[Box]] = defaultdict(list)
        for photo, box in read_boxes(self.file):
            other = photo.replace("\\", "/").removeprefix("./")
            boxes[photo if photo in known else other].append(box)
        jobs = [Job(photo, photo, boxes=tuple(boxes[photo])) for photo in found.files if photo in boxes]
        reason = f"it has no box in {shown(self.file)}."
        missing = [(photo, reason) for photo in found.files if photo not in boxes]
        return Assigned(tuple(jobs), tuple(missing), tuple(photo for photo in boxes if photo not in known))

    def marks(self, job: Job, root: Path) -> Marks:
        return Marks(boxes=job.boxes, invert=self.invert, grow=self.grow)


def _outside(root: Path, files: Sequence[str], other: Path) -> Sequence[str]:
    """The files that are neither `other` nor below it, for masks that are kept among the photos."""
    real, place = os.path.realpath(root), os.path.realpath(other)
    if not place.startswith(real.rstrip(os.sep) + os.sep):
        return files
    below = Path(place).relative_to(real).as_posix()
    return [file for file in files if file != below and not file.startswith(below + "/")]
