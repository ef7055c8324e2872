"""What a run would do: the headers of photos and masks are read, a few photos are timed, nothing is written."""

from __future__ import annotations

import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cicm.conventions import InputError
from cicm.files import evenly_spaced
from cicm.folders.assigning import Job
from cicm.folders.plan import FolderPlan, FolderTask
from cicm.folders.run import quietly
from cicm.photos.headers import check_header
from cicm.photos.photo import open_photo, save_photo

if TYPE_CHECKING:
    from cicm.inference.painter import PictureInpainter

_SAMPLE = 2000  # most photos whose headers are read


@dataclass
class Preview:
    """What a dry run found.

    Args:
        jobs: photos whose headers were read; all, evenly spaced ones, or the first ones up to the limit.
        sizes: (height, width) of those that can be read.
        faults: (photo, what is wrong) as far as headers and names tell.
        tried: (photo, what is wrong) of the timed photos.
    """

    plan: FolderPlan
    jobs: list[Job] = field(default_factory=list)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)


def preview(task: FolderTask, plan: FolderPlan) -> Preview:
    """Check the headers of the photos that would be filled, and of their masks; writes nothing."""
    found = Preview(plan)
    for job in plan.todo[:_SAMPLE] if task.limit else evenly_spaced(plan.todo, _SAMPLE):
        if task.limit and len(found.jobs) - len(found.faults) >= task.limit:
            break
        found.jobs.append(job)
        try:
            found.sizes.append(_checked(task, job))
        except InputError as error:
            found.faults.append((job.photo, str(error)))
    return found


def _checked(task: FolderTask, job: Job) -> tuple[int, int]:
    """(height, width) of a photo that can be filled, as far as headers and names tell."""
    height, width = check_header(task.photos / job.photo)
    if not task.overwrite and os.path.lexists(task.out / job.output):
        raise InputError("its result exists, and no journal proves that it is one.")
    for mask in job.masks:
        tall, wide = check_header(task.masks.where(task.photos, mask))
        if (tall, wide) != (height, width):
            raise InputError(f"its mask is {wide}x{tall}, the photo {width}x{height} (width x height).")
    for box in job.boxes:
        if box[2] > width or box[3] > height:
            raise InputError(f"the box {box} is not inside the picture of {width}x{height}.")
    return height, width


def time_some(found: Preview, task: FolderTask, inpainter: PictureInpainter, count: int = 3) -> None:
    """Fill a few of the photos, spread over the folder, into a folder that is thrown away."""
    faulty = {photo for photo, _ in found.faults}
    chosen = evenly_spaced([job for job in found.jobs if job.photo not in faulty], count)
    with tempfile.TemporaryDirectory() as place, quietly():
        for number, job in enumerate([*chosen[:1], *chosen]):  # the first one twice: it warms up
            began = time.perf_counter()
            try:
                photo, hole = task.masks.apply(open_photo(task.photos / job.photo), job, task.photos)
                save_photo(inpainter.fill_photo(photo, hole)[0], Path(place, f"{number}{Path(job.output).suffix}"))
            except InputError as error:
                found.tried += [(job.photo, str(error))] if number else []
            else:
                found.seconds += [time.perf_counter() - began] if number else []
