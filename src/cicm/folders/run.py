"""A folder of photos in, a folder of filled photos out: planned, done in parallel, and taken up again after a kill."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import statistics
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cicm.conventions import InputError
from cicm.files import check_readable, reason_of, walk
from cicm.folders.jobs import in_shard, named
from cicm.folders.journal import Inputs, Journal, Ledger, digest_of, digest_of_settings, read_ledger
from cicm.folders.marking import Job, MaskFolder, MaskSource, OneMask, is_picture
from cicm.photos.formats import ENDINGS
from cicm.photos.headers import image_size
from cicm.photos.photo import open_photo, save_photo
from cicm.terminal import shown

if TYPE_CHECKING:
    from cicm.folders.engine import Engine
    from cicm.inference.pictures import PictureInpainter

BYTES_PER_PIXEL = 40
"""What a pixel of a photo takes while it is read, filled and written: measured on 24 megapixels, and rounded up."""

SAMPLE = 2000
"""Most photos whose headers a dry run looks at."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS}


@dataclass(frozen=True)
class Outcome:
    """What became of one photo.

    Args:
        photo: path below the folder of photos.
        output: path of the result below the folder of results; empty if there is none.
        status: "done"; "already" where an earlier run's result is proven; "failed"; "skipped" for want of a mask.
        error: what was wrong.
        notes: what a reader may want to know, such as something that could not be kept.
        seconds: from opening the photo to the result in its place.
        details: width, height, missing share, and whatever else the inpainter reports.
        ends_run: nothing after it can succeed, as with a full disk.
    """

    photo: str
    output: str
    status: str
    error: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)
    ends_run: bool = False


@dataclass(frozen=True)
class FolderTask:
    """What is asked for.

    Args:
        photos: folder, searched however deep; nothing is written into it.
        out: folder of results, with the same tree; made if its parent exists.
        masks: where the holes come from.
        ending: of all results, such as ".png"; None keeps each photo's.
        overwrite: results that exist may be replaced. Those that the journal proves are left in either case.
        missing: "fail" or "skip" a photo without a mask.
        shard: (number from 1, of how many); the part of the photos that this run does.
        limit: most photos that this run fills.

    Raises:
        InputError: a value that is none of these; a folder of results that overlaps what is read.
    """

    photos: Path
    out: Path
    masks: MaskSource
    ending: str | None = None
    overwrite: bool = False
    missing: str = "fail"
    shard: tuple[int, int] = (1, 1)
    limit: int | None = None

    def __post_init__(self) -> None:
        number, count = self.shard
        if not 1 <= number <= count:
            raise InputError(f"a shard is a number of 1 to how many there are, such as 3/64; got {number}/{count}.")
        if self.ending is not None and self.ending not in ENDINGS:
            raise InputError(f"results can be {', '.join(ENDINGS)}; got {self.ending!r}.")
        if self.missing not in ("fail", "skip"):
            raise InputError(f"a photo without a mask can fail or skip; got {self.missing!r}.")
        if self.limit is not None and self.limit < 1:
            raise InputError(f"the limit must be at least 1; got {self.limit}.")
        self._check_places()

    def _check_places(self) -> None:
        out = os.path.realpath(self.out)
        if os.path.lexists(self.out) and not os.path.isdir(out):
            raise InputError(f"expected a folder for the results; {shown(self.out)} is a file. Name a folder.")
        if not os.path.isdir(os.path.dirname(out)):
            raise InputError(f"the folder {shown(self.out.parent)} does not exist. Make it first.")
        read = {"photos": self.photos}
        if isinstance(self.masks, MaskFolder):
            read["masks"] = self.masks.root
        for what, folder in read.items():
            place = os.path.realpath(folder)
            if os.path.commonpath([out, place]) in (out, place):
                raise InputError(
                    f"results must not get mixed up with {what}: {shown(self.out)} and {shown(folder)} lie one in the "
                    "other. Choose a folder beside them."
                )
        if isinstance(self.masks, OneMask) and os.path.realpath(self.masks.file).startswith(out + os.sep):
            raise InputError(f"the mask {shown(self.masks.file)} lies in the folder of results. Move it elsewhere.")

    def settings(self, inpainter: PictureInpainter) -> dict[str, Any]:
        """All that decides about results, as plain data."""
        own = {k: v for k, v in vars(inpainter).items() if isinstance(v, (int, float, str)) and not k.startswith("_")}
        return {**own, **self.masks.settings(), "ending": self.ending or "as it was", "model": name_of(inpainter.model)}

    def plan(self, settings: dict[str, Any] | None = None) -> FolderPlan:
        """Look at the folders and at the journals; opens no picture and writes nothing.

        Args:
            settings: of this run; without them a result made with other ones counts as one of these.

        Raises:
            InputError: folders that can't be read, no photo at all, or results that were made with other settings
                while `overwrite` is off.
        """
        found = walk(self.photos, is_picture, "photos")
        if not found.files:
            about = f" {found.problems[0][0]}: {found.problems[0][1]}" if found.problems else ""
            raise InputError(
                f"{shown(self.photos)} is a folder without a photo ({', '.join(ENDINGS)}), also in its subfolders."
                f"{shown(about)} Check the path."
            )
        assigned = self.masks.assign(self.photos, found)
        ledger = read_ledger(self.out)
        wanted = [(job.key, assigned.names.get(job.key, job.photo)) for job in assigned.jobs]
        taken = {
            key: ledger.entries[key].output
            for key, path in wanted
            if key in ledger.entries
            and _ending(ledger.entries[key].output) == (self.ending or _ending(path))  # else it was asked for otherwise
        }
        outputs = named(wanted, self.ending, taken)
        plan = FolderPlan(unused=assigned.unused, damaged=ledger.damaged)
        if self.shard[0] == 1:  # told once, not by each shard
            plan.known += [Outcome(path, "", "failed", why) for path, why in found.problems]
        status = "failed" if self.missing == "fail" else "skipped"
        plan.known += [
            Outcome(photo, "", status, why) for photo, why in assigned.missing if in_shard(photo, self.shard)
        ]
        plan.with_mask = len({job.photo for job in assigned.jobs})
        plan.without_mask = len(assigned.missing)
        others: list[Job] = []
        for job in assigned.jobs:
            if in_shard(job.key, self.shard):
                self._place(replace(job, output=outputs[job.key]), ledger, settings, plan, others)
        if others:
            raise InputError(self._refusal(others, ledger, settings or {}))
        if self.limit is not None:
            del plan.todo[self.limit :]
        return plan

    def _place(
        self, job: Job, ledger: Ledger, settings: dict[str, Any] | None, plan: FolderPlan, others: list[Job]
    ) -> None:
        """Decide whether a job is to be done."""
        if not ledger.proves(job.key, self.out):
            plan.todo.append(job)
            return
        entry = ledger.entries[job.key]
        same_settings = settings is None or entry.settings == digest_of_settings(settings)
        try:
            same_inputs = entry.inputs == self.inputs(job)
        except InputError:  # said in its turn
            same_inputs = False
        if same_settings and same_inputs:
            plan.known.append(Outcome(job.photo, job.output, "already"))
        elif self.overwrite:
            plan.todo.append(job)
        elif not same_settings:
            others.append(job)
        else:
            plan.known.append(
                Outcome(
                    job.photo,
                    job.output,
                    "failed",
                    "the photo or its mask has changed since its result was written. Redo it with --overwrite.",
                )
            )

    def _refusal(self, others: list[Job], ledger: Ledger, settings: dict[str, Any]) -> str:
        then = ledger.settings.get(ledger.entries[others[0].key].settings, {})
        changes = [
            f"{name} was {then.get(name)}, now {settings.get(name)}"
            for name in dict.fromkeys((*then, *settings))
            if then.get(name) != settings.get(name)
        ]
        return (
            f"{shown(self.out)} holds {len(others)} results made with other settings "
            f"({'; '.join(map(shown, changes)) or 'unknown ones'}). "
            "Choose another folder, or redo them with --overwrite."
        )

    def inputs(self, job: Job) -> Inputs:
        """What a result is made of, as the journal keeps it.

        Raises:
            InputError: a file that is not there.
        """
        found: Inputs = []
        files = [(job.photo, self.photos / job.photo), *((m, self.masks.where(self.photos, m)) for m in job.masks)]
        for name, file in files:
            try:
                told = file.stat()
            except (OSError, ValueError) as error:
                raise InputError(f"{shown(file)}: {reason_of(error)}") from error
            found.append([name, told.st_size, told.st_mtime_ns])
        if job.boxes:
            digest = hashlib.blake2b(repr(job.boxes).encode(), digest_size=8).hexdigest()
            found.append(["boxes", len(job.boxes), digest])
        return found


@dataclass
class FolderPlan:
    """What a run would do.

    Args:
        todo: jobs to do, in the order of the photos.
        known: outcomes that are certain already: results that are proven, photos without a mask, what is no photo.
        unused: masks or rows that belong to no photo.
        with_mask: photos that have one, whatever the shard.
        without_mask: those that have none.
        damaged: lines of the journals that could not be read.
    """

    todo: list[Job] = field(default_factory=list)
    known: list[Outcome] = field(default_factory=list)
    unused: tuple[str, ...] = ()
    with_mask: int = 0
    without_mask: int = 0
    damaged: int = 0

    def count(self, status: str) -> int:
        """Of the known outcomes."""
        return sum(outcome.status == status for outcome in self.known)


@dataclass
class Summary:
    """How a run went.

    Args:
        done: photos filled by this run.
        already: results of earlier runs that were proven.
        failed: photos without a result.
        skipped: photos without a mask, left out as asked.
        not_begun: photos that were left when the run ended early.
        seconds: of the run, without looking at the folders.
        stopped: why it ended early.
    """

    done: int = 0
    already: int = 0
    failed: int = 0
    skipped: int = 0
    not_begun: int = 0
    seconds: float = 0.0
    stopped: str = ""

    @property
    def photos_per_second(self) -> float:
        """Of those filled."""
        return self.done / self.seconds if self.seconds else 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing failed and nothing was left."""
        return not self.failed and not self.not_begun


class Filler:
    """Does one job after another, each from the file to the file; an error stays with its photo.

    Args:
        task: what is asked for.
        journal: open, of the run.
        memory: bytes that pictures in work may take together.
        proven: asked before an existing result is refused, where several processes share the work.
    """

    def __init__(
        self,
        task: FolderTask,
        journal: Journal,
        memory: int,
        proven: Callable[[Job, Inputs], bool] = lambda job, inputs: False,
    ) -> None:
        from cicm.folders.engine import Budget

        self.task, self.journal, self.proven = task, journal, proven
        self.budget = Budget(memory)
        self._out = os.path.realpath(task.out)
        self._safe: set[str] = set()

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
            cause = error.__cause__ if known else error
            outcome = Outcome(job.photo, job.output, "failed", told, ends_run=getattr(cause, "errno", None) in _NO_ROOM)
            try:
                self.journal.failed(job.key, told)
            except OSError:
                outcome = replace(outcome, ends_run=True)
        return replace(outcome, seconds=time.perf_counter() - began)

    def _fill(self, job: Job, inpainter: PictureInpainter) -> Outcome:
        from cicm.inference.pictures import LARGE_HOLE

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
        check_readable(file, "photo")
        height, width = image_size(file)
        with self.budget.hold(height * width * BYTES_PER_PIXEL):
            photo = open_photo(file)
            seen, hole = task.masks.apply(photo, job, task.photos)
            repaired, report = inpainter.fill_photo(seen, hole)
            staged = self.journal.parts / (secrets.token_hex(8) + Path(job.output).suffix)
            notes = [*photo.notes, *save_photo(repaired, staged)]
        if ENDINGS[file.suffix.lower()] != photo.format:
            notes.append(f"the photo is a {photo.format} by its content, whatever its name says")
        if report.missing > LARGE_HOLE:
            notes.append(f"{report.missing:.0%} of the picture was filled; is the mask the other way round?")
        try:
            self.journal.ready(job.key, job.output, inputs, staged.stat().st_size, digest_of(staged))
            self._move(staged, final)
            self.journal.done(job.key)
        finally:
            staged.unlink(missing_ok=True)
        details = {item.name: getattr(report, item.name) for item in fields(report) if item.name != "seconds"}
        return Outcome(job.photo, job.output, "done", notes=tuple(notes), details=details)

    def _move(self, staged: Path, final: Path) -> None:
        """Put a whole file in its place, in one step, below the folder of results and nowhere else."""
        parent = str(final.parent)
        if parent not in self._safe:
            final.parent.mkdir(parents=True, exist_ok=True)
            real = os.path.realpath(parent)
            if real != self._out and not real.startswith(self._out.rstrip(os.sep) + os.sep):
                raise InputError(f"{shown(parent)} is a link out of the folder of results. Take the link away.")
            self._safe.add(parent)
        if self.task.overwrite:
            os.replace(staged, final)
            return
        try:
            os.link(staged, final)  # unlike a rename it fails where something has come up meanwhile
        except FileExistsError as error:
            raise InputError(f"the result {shown(final)} appeared meanwhile, and is left alone.") from error
        except OSError:  # a file system without links
            if os.path.lexists(final):
                raise InputError(f"the result {shown(final)} appeared meanwhile, and is left alone.") from None
            os.replace(staged, final)


class FolderRun:
    """One run over a folder: iterate over it, once, for the outcomes as they come.

    Args:
        inpainter: fills; its settings and weights name the results' settings.
        task: what is asked for.
        engine: how much happens at a time.
        stop_on_error: begin nothing more after the first failure.

    Raises:
        InputError: what `FolderTask.plan` refuses; another run is writing to the same folder.
    """

    def __init__(
        self,
        inpainter: PictureInpainter,
        task: FolderTask,
        engine: Engine | None = None,
        *,
        stop_on_error: bool = False,
    ) -> None:
        from cicm.folders.engine import Engine

        self.inpainter, self.task, self.engine = inpainter, task, engine or Engine()
        self.stop_on_error = stop_on_error
        self.settings = task.settings(inpainter)
        self.plan = task.plan(self.settings)
        self.summary = Summary()

    def __iter__(self) -> Iterator[Outcome]:
        summary, stop = self.summary, threading.Event()
        for outcome in self.plan.known:
            yield self._counted(outcome, stop)
        summary.not_begun = len(self.plan.todo)
        if not self.plan.todo or stop.is_set():
            return
        began = time.perf_counter()
        with open_journal(self.task, self.settings) as journal, _quietly():
            filler = Filler(self.task, journal, self.engine.memory)

            def work(job: Job, inpainter: PictureInpainter) -> Outcome:
                outcome = filler(job, inpainter)
                if self._ends(outcome):
                    stop.set()  # here, so that this worker begins no other
                return outcome

            for outcome in self.engine.run(self.plan.todo, work, self.inpainter, stop):
                summary.not_begun -= 1
                summary.seconds = time.perf_counter() - began
                yield self._counted(outcome, stop)

    def _counted(self, outcome: Outcome, stop: threading.Event) -> Outcome:
        summary = self.summary
        setattr(summary, outcome.status, getattr(summary, outcome.status) + 1)
        if self._ends(outcome):
            summary.stopped = summary.stopped or f"{shown(outcome.photo)}: {shown(outcome.error)}"
            stop.set()
        return outcome

    def _ends(self, outcome: Outcome) -> bool:
        return outcome.ends_run or (self.stop_on_error and outcome.status == "failed")


def fill_folder(
    inpainter: PictureInpainter, task: FolderTask, engine: Engine | None = None, *, stop_on_error: bool = False
) -> Summary:
    """Fill the photos of a folder.

    Raises:
        InputError: what `FolderRun` refuses. What is wrong with single photos is counted; iterate over a `FolderRun` to
            see it.

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
    run = FolderRun(inpainter, task, engine, stop_on_error=stop_on_error)
    for _ in run:
        pass
    return run.summary


def open_journal(task: FolderTask, settings: dict[str, Any], name: str = "", run: str = "") -> Journal:
    """The journal of a run, in the folder of results, which is made if it is not there.

    Raises:
        InputError: it can't be made, or another run holds it.
    """
    number, count = task.shard
    shard = f"{number}-of-{count}" if count > 1 else ""
    try:
        task.out.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"the folder {shown(task.out)} can't be made: {reason_of(error)}") from error
    return Journal(task.out, settings, name="-".join(part for part in (shard, name) if part), run=run)


def name_of(model: Any) -> str:
    """A model by its architecture and its numbers, or an exported one by its file: equal only where results are."""
    if hasattr(model, "session"):
        return model.name
    import torch

    digest = hashlib.blake2b(digest_size=8)
    network, memories = model.network, getattr(model, "memories", {})
    about = (type(network).__name__, sorted(dict(getattr(network, "options", {})).items(), key=str))
    digest.update(repr((about, [(name, memory.config) for name, memory in memories.items()])).encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.flatten().view(torch.uint8).numpy() if values.numel() else b"")
    return f"{type(network).__name__} {digest.hexdigest()}"


# Before anything is written


@dataclass
class Preview:
    """What a dry run found.

    Args:
        plan: what would be done.
        looked_at: photos whose headers were read; all, or evenly spaced ones.
        sizes: their (height, width).
        faults: (photo, what is wrong) as far as headers and names tell.
        seconds: for each timed photo, how long it took.
        tried: (photo, what is wrong) among those timed.
    """

    plan: FolderPlan
    looked_at: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    faults: list[tuple[str, str]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    tried: list[tuple[str, str]] = field(default_factory=list)

    @property
    def estimate(self) -> float | None:
        """Seconds for the whole, from the median of the timed photos."""
        return statistics.median(self.seconds) * len(self.plan.todo) if self.seconds else None


def preview(task: FolderTask, plan: FolderPlan) -> Preview:
    """Look at the headers of the photos that would be filled, and of their masks; writes nothing, decodes nothing."""
    found = Preview(plan)
    for job in _spread(plan.todo, SAMPLE):
        found.looked_at += 1
        try:
            file = check_readable(task.photos / job.photo, "photo")
            size = image_size(file)
            found.sizes.append(size)
            if not task.overwrite and os.path.lexists(task.out / job.output):
                raise InputError("its result exists, and no journal proves that it is one.")
            for mask in job.masks:
                other = image_size(check_readable(task.masks.where(task.photos, mask), "mask"))
                if other != size:
                    raise InputError(
                        f"its mask is {other[1]}x{other[0]}, the photo {size[1]}x{size[0]} (width x height)."
                    )
            for box in job.boxes:
                if box[2] > size[1] or box[3] > size[0]:
                    raise InputError(f"the box {box} does not lie in the picture of {size[1]}x{size[0]}.")
        except InputError as error:
            found.faults.append((job.photo, str(error)))
    return found


def time_some(found: Preview, task: FolderTask, inpainter: PictureInpainter, count: int = 3) -> None:
    """Fill a few of the photos, spread over the folder, into a folder that is thrown away."""
    faulty = {photo for photo, _ in found.faults}
    jobs = [job for job in found.plan.todo if job.photo not in faulty]
    with tempfile.TemporaryDirectory() as place, _quietly():
        chosen = _spread(jobs, count)
        for number, job in enumerate([*chosen[:1], *chosen]):  # the first one twice: it warms up
            began = time.perf_counter()
            try:
                photo, hole = task.masks.apply(open_photo(task.photos / job.photo), job, task.photos)
                save_photo(inpainter.fill_photo(photo, hole)[0], Path(place, f"{number}{Path(job.output).suffix}"))
            except InputError as error:
                found.tried += [(job.photo, str(error))] if number else []
            else:
                found.seconds += [time.perf_counter() - began] if number else []


def _spread(jobs: Sequence[Job], count: int) -> Sequence[Job]:
    """That many, evenly spaced."""
    return jobs if len(jobs) <= count else [jobs[index * len(jobs) // count] for index in range(count)]


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


class _quietly(warnings.catch_warnings):
    """Warnings of libraries about how files are made, and ours about large holes, which are notes here."""

    def __enter__(self) -> None:  # type: ignore[override]
        super().__enter__()
        warnings.simplefilter("ignore")
