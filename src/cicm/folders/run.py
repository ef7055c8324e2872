"""A folder of photos in, a folder of filled photos out: done in parallel, and taken up again after a kill."""

from __future__ import annotations

import errno
import os
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cicm.conventions import InputError, notices_kept
from cicm.files import digest_of, disk_failure, is_inside, place, reason_of
from cicm.folders.assigning import Job
from cicm.folders.journal import Inputs, Journal
from cicm.folders.outcome import Outcome, Summary
from cicm.folders.plan import FolderTask
from cicm.photos.formats import ENDINGS
from cicm.photos.headers import check_header
from cicm.photos.photo import open_photo, save_photo
from cicm.terminal import shown

if TYPE_CHECKING:
    from cicm.folders.engine import Engine
    from cicm.inference.painter import PictureInpainter

_BYTES_PER_PIXEL = 40  # what a photo takes while it is read, filled and written: measured on 24 megapixels, rounded up
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


class Filler:
    """Does one job after another, each from the file to the file; an error stays with its photo.

    Args:
        task: what is asked for.
        ram: bytes that the pictures in work may take together.
        proven: asked before an existing result is refused, if several processes share the work.
    """

    def __init__(
        self,
        task: FolderTask,
        journal: Journal,
        ram: int,
        proven: Callable[[Job, Inputs], bool] = lambda job, inputs: False,
    ) -> None:
        from cicm.folders.engine import Budget

        self.task, self.journal, self.proven = task, journal, proven
        self.budget = Budget(ram)
        self._safe: set[Path] = set()

    def __call__(self, job: Job, inpainter: PictureInpainter) -> Outcome:
        """Fill one photo; never raises for what is wrong with it."""
        from cicm.folders.engine import Stopped

        began = time.perf_counter()
        try:
            outcome = self._fill(job, inpainter)
        except Stopped:
            raise
        except Exception as error:
            known = isinstance(error, InputError)
            told = str(error) if known else f"unexpected {type(error).__name__}: {reason_of(error)}"
            full = getattr(disk_failure(error), "errno", None) in _NO_ROOM
            outcome = Outcome(job.photo, job.output, "failed", told, ends_run=full)
            try:
                self.journal.failed(job.key, told)
            except OSError:
                outcome = replace(outcome, ends_run=True)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _fill(self, job: Job, inpainter: PictureInpainter) -> Outcome:
        from cicm.inference.painter import LARGE_HOLE

        task = self.task
        file, final = task.photos / job.photo, task.out / job.output
        inputs = task.inputs(job)  # before the photo is read, so that a later change shows
        if os.path.lexists(final):
            if self.proven(job, inputs):
                return Outcome(job.photo, job.output, "already")
            if not task.overwrite:
                raise InputError(
                    f"the result {shown(final)} exists, and no journal proves that it is one. "
                    "Move it away, or replace it with --overwrite."
                )
            if final.is_dir():
                raise InputError(f"the result {shown(final)} is a folder. Move it away.")
        height, width = check_header(file)
        with self.budget.hold(height * width * _BYTES_PER_PIXEL):
            photo = open_photo(file)
            with notices_kept() as told:
                seen, hole = task.masks.apply(photo, job, task.photos)
            repaired, report = inpainter.fill_photo(seen, hole)
            staged = self.journal.parts / (secrets.token_hex(8) + Path(job.output).suffix)
            notes = [*photo.notes, *told, *save_photo(repaired, staged), *report.notes]
        if ENDINGS[file.suffix.lower()] != photo.format:
            notes.append(f"the file's content is {photo.format}, which its name does not say")
        if report.missing > LARGE_HOLE:
            notes.append(f"{report.missing:.0%} of the picture was filled. Does the mask need --invert?")
        try:
            self.journal.ready(job.key, job.output, inputs, staged.stat().st_size, digest_of(staged))
            self._make_folder(final.parent)
            place(staged, final, overwrite=task.overwrite)
            self.journal.done(job.key)
        finally:
            staged.unlink(missing_ok=True)
        details = {item.name: getattr(report, item.name) for item in fields(report) if item.name != "seconds"}
        return Outcome(job.photo, job.output, "done", notes=tuple(notes), details=details)

    def _make_folder(self, folder: Path) -> None:
        """Make a result's folder, below the folder of results and nowhere else."""
        if folder in self._safe:
            return
        folder.mkdir(parents=True, exist_ok=True)
        if not is_inside(folder, self.task.out):
            raise InputError(f"{shown(folder)} is a link out of the folder of results. Take the link away.")
        self._safe.add(folder)


class FolderRun:
    """One run over a folder: iterate over it, once, for the outcomes as they come.

    Args:
        inpainter: fills; its settings and weights are part of the results' settings.
        task: what is asked for.

    Raises:
        InputError: what `FolderTask.plan` refuses; another run is writing to the same folder.
    """

    def __init__(self, inpainter: PictureInpainter, task: FolderTask, engine: Engine | None = None) -> None:
        from cicm.folders.engine import Engine

        self.inpainter, self.task, self.engine = inpainter, task, engine or Engine()
        self.settings = task.settings(inpainter)
        self.plan = task.plan(self.settings)
        self.summary = Summary()

    def __iter__(self) -> Iterator[Outcome]:
        summary = self.summary
        for outcome in self.plan.known:
            summary.count(outcome)
            yield outcome
        left = len(self.plan.todo)
        if not left:
            if self.plan.resumed:
                with open_journal(self.task, self.settings) as journal:
                    journal.end(self.plan.resumed)
            return
        began = time.perf_counter()
        with open_journal(self.task, self.settings) as journal, quietly():
            for outcome in self._work(journal):
                left -= 1
                summary.count(outcome)
                if outcome.ends_run:
                    summary.stopped = summary.stopped or f"{shown(outcome.photo)}: {shown(outcome.error)}"
                summary.not_begun = 0 if summary.done == self.task.limit else left
                summary.seconds = time.perf_counter() - began
                yield outcome
            if self.task.overwrite and not left and not summary.stopped:
                journal.end(self.plan.resumed)

    def _work(self, journal: Journal) -> Iterator[Outcome]:
        """Do what the plan holds."""
        filler, stop = Filler(self.task, journal, self.engine.ram), threading.Event()
        quota = _Quota(self.task.limit, stop)

        def work(job: Job, inpainter: PictureInpainter) -> Outcome:
            outcome = filler(job, inpainter)
            quota.count(outcome)
            if outcome.ends_run:
                stop.set()  # here, so that this worker begins no other
            return outcome

        return self.engine.run(quota.jobs(self.plan.todo), work, self.inpainter, stop)


class _Quota:
    """Ends a run after so many results: a job begins only if all jobs in work can become results."""

    def __init__(self, limit: int | None, stop: threading.Event) -> None:
        self._free = threading.Semaphore(limit) if limit else None
        self._left, self._stop, self._lock = limit or 0, stop, threading.Lock()

    def jobs(self, jobs: Iterable[Job]) -> Iterator[Job]:
        for job in jobs:
            while self._free and not self._free.acquire(timeout=0.05):
                if self._stop.is_set():
                    return
            yield job

    def count(self, outcome: Outcome) -> None:
        if self._free and outcome.status == "done":
            with self._lock:
                self._left -= 1
                if not self._left:
                    self._stop.set()
        elif self._free:
            self._free.release()


def fill_folder(inpainter: PictureInpainter, task: FolderTask, engine: Engine | None = None) -> Summary:
    """Fill the photos of a folder.

    Raises:
        InputError: what `FolderRun` refuses. Photos that fail are counted; iterate over a `FolderRun` to see why.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> from cicm.assembly import ModelConfig, build
        >>> from cicm.folders import FolderTask, OneMask, fill_folder
        >>> from cicm.inference import Inpainter
        >>> place = Path(tempfile.mkdtemp())
        >>> (place / "photos").mkdir()
        >>> Image.new("RGB", (40, 32), "teal").save(place / "photos" / "sea.png")
        >>> mask = Image.new("L", (40, 32))
        >>> mask.paste(255, (4, 4, 9, 9))
        >>> mask.save(place / "mask.png")
        >>> inpainter = Inpainter(build(ModelConfig("unet", {"width": 4})), device="cpu")
        >>> task = FolderTask(place / "photos", place / "out", OneMask(place / "mask.png"))
        >>> fill_folder(inpainter, task).done, fill_folder(inpainter, task).already
        (1, 1)
    """
    run = FolderRun(inpainter, task, engine)
    for _ in run:
        pass
    return run.summary


def open_journal(task: FolderTask, settings: dict[str, Any], name: str = "", run: str = "") -> Journal:
    """The journal of a run, in the folder of results; the folder is made if it is not there.

    Raises:
        InputError: it can't be made, or another run holds it.
    """
    number, count = task.shard
    shard = f"{number}-of-{count}" if count > 1 else ""
    try:
        task.out.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {shown(task.out)} can't be made: {reason_of(error)}") from error
    name = "-".join(part for part in (shard, name) if part)
    return Journal(task.out, settings, name=name, run=run, replacing=task.overwrite)


class quietly(warnings.catch_warnings):
    """Without warnings: libraries warn about how files are made, and our own about large holes are notes here."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        warnings.simplefilter("ignore")
