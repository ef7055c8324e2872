"""`cicm inpaint FOLDER`: the run as a person sees it: what would be done, how far it is, what failed."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from cicm.conventions import InputError
from cicm.terminal import Progress, duration, libraries_silent, several, shown

if TYPE_CHECKING:
    from cicm.exemplar.album import Album
    from cicm.folders import FolderRun, FolderTask, MaskSource, Outcome
    from cicm.folders.plan import FolderPlan
    from cicm.folders.preview import Preview
    from cicm.inference.painter import PictureInpainter

_TOLD = 20  # most failures that are printed; the report has all


def inpaint_folder(
    options: Namespace,
    masks: MaskSource,
    inpainter_of: Callable[..., PictureInpainter],
    album_of: Callable[[Namespace, Sequence[Path]], Album | None],
) -> int:
    """Fill a folder, or tell what that would do; 0 if every photo has its result, else 1.

    Raises:
        InputError: the call itself is wrong.
    """
    from cicm.folders.plan import FolderTask

    if options.engine not in ("own", "ray"):
        raise InputError(f"--engine is own or ray; got {options.engine!r}.")
    if options.address and options.engine != "ray":
        raise InputError("--address goes with --engine ray. Leave it out, or add --engine ray.")
    if options.ram < 1:
        raise InputError(f"--ram must be at least 1 MiB; got {options.ram}.")
    task = FolderTask(
        Path(options.photo),
        Path(options.output),
        masks,
        ending=f".{options.format.lower().removeprefix('.')}" if options.format else None,
        overwrite=options.overwrite,
        verify=options.verify,
        missing=options.missing,
        shard=_shard(options.shard),
        limit=options.limit,
    )
    task.plan()  # what is wrong with the folders is told before torch is loaded
    album = album_of(options, task.all_photos() if options.album == "self" else ())
    make = partial(inpainter_of, album=album)
    return _look(options, task, make) if options.dry_run else _run(options, task, make)


def _run(options: Namespace, task: FolderTask, inpainter_of: Callable[[Namespace], PictureInpainter]) -> int:
    from cicm.folders.reports import ReportFile

    with ExitStack() as stack:
        run = _run_of(options, task, inpainter_of, stack)
        _tell_unused(run.plan)
        stream = stack.enter_context(libraries_silent())
        report = stack.enter_context(ReportFile(options.report, task)) if options.report else None
        total = min(len(run.plan.todo), task.limit or len(run.plan.todo))
        with Progress(total, "photos", quiet=options.quiet, stream=stream) as progress:
            for outcome in _told(run, progress):
                if report:
                    report.add(outcome)
    summary = run.summary
    if summary.stopped:
        print(f"cicm: stopped after {summary.stopped}", file=sys.stderr)
    if not options.quiet:
        counts = {
            "filled": summary.done,
            "done before": summary.already,
            "failed": summary.failed,
            "of formats that are not supported": summary.unsupported,
            "without a mask, skipped": summary.skipped,
            "not begun": summary.not_begun,
        }
        told = ", ".join(f"{number} {word}" for word, number in counts.items() if number or word == "filled")
        where = "Ray" if options.engine == "ray" else run.inpainter.device
        rate = f", {summary.photos_per_second:.3g} photos/s on {where}" if summary.done else ""
        print(f"{shown(task.out)}: {told} in {summary.seconds:.1f} s{rate}")
    return 0 if summary.complete else 1


def _run_of(
    options: Namespace, task: FolderTask, inpainter_of: Callable[[Namespace], PictureInpainter], stack: ExitStack
) -> FolderRun:
    """The run on the engine that the options name."""
    from cicm.folders import Engine, FolderRun

    if options.engine == "own":
        engine = Engine(options.workers, options.batch, options.ram * 2**20)
        return FolderRun(inpainter_of(options), task, engine)
    from cicm.folders.on_ray import RayRun, connected

    there = options.clone()  # an actor starts in another folder
    there.model = os.path.abspath(options.model) if options.model and os.path.exists(options.model) else options.model
    actors = stack.enter_context(connected(options.address, options.workers))
    return RayRun(partial(inpainter_of, there), task, actors, batch=options.batch, ram=options.ram * 2**20)


def _told(run: Iterable[Outcome], progress: Progress) -> Iterator[Outcome]:
    """The outcomes of a run; tells failures and notes as they come, and how far it is."""
    failures = 0
    for outcome in run:
        if outcome.error and outcome.status != "skipped":
            failures += 1
            if failures <= _TOLD:
                word = "failed" if outcome.status == "failed" else "not done"
                progress.say(f"cicm: {word}: {shown(outcome.photo)}: {shown(outcome.error)}")
        if not progress.quiet:
            for note in outcome.notes:
                progress.say(f"cicm: note: {shown(outcome.photo)}: {shown(note)}")
        if outcome.status == "done":
            progress.advance(note=f"{failures} failed" if failures else None)
        yield outcome
    if failures > _TOLD:
        progress.say(f"cicm: {failures - _TOLD} more failed; --report FILE lists them all")


def _look(options: Namespace, task: FolderTask, inpainter_of: Callable[[Namespace], PictureInpainter]) -> int:
    """Tell what a run would do; 0 if nothing would fail as far as can be seen, else 1."""
    from cicm.folders.preview import preview, time_some

    inpainter = inpainter_of(options)
    plan = task.plan(task.settings(inpainter))
    _tell_unused(plan)
    with libraries_silent():
        found = preview(task, plan)
        time_some(found, task, inpainter)
    for line in _preview_lines(found, task):
        print(line)
    return 1 if found.faults or found.tried or plan.count("failed") or plan.count("unsupported") else 0


def _preview_lines(found: Preview, task: FolderTask) -> Iterator[str]:
    plan = found.plan
    part = "" if task.shard == (1, 1) else f", of which this is part {task.shard[0]} of {task.shard[1]}"
    yield f"photos: {plan.with_mask + plan.without_mask} in {shown(task.photos)}{part}"
    yield f"masks: {plan.with_mask} found, {plan.without_mask} missing"
    if others := [outcome.photo for outcome in plan.known if outcome.status == "unsupported"]:
        yield f"not supported: {_kinds(others)}, such as {shown(others[0])}"
    if already := plan.count("already"):
        yield f"done before: {already}"
    yield f"to fill: {len(plan.todo)}" + (f" (at most {task.limit})" if task.limit else "")
    if found.sizes:
        by_area = sorted(found.sizes, key=lambda size: size[0] * size[1])
        names = [f"{width}x{height}" for height, width in (by_area[0], by_area[len(by_area) // 2], by_area[-1])]
        of = "" if len(found.jobs) == len(plan.todo) else f", of {len(found.jobs)} looked at"
        yield f"sizes: {names[0]} to {names[2]}, median {names[1]}{of}"
    if plan.todo:
        outputs = [job.output for job in plan.todo]
        yield f"would be written: {_kinds(outputs)}, such as {shown(task.out / outputs[0])}"
    faults = [(o.photo, o.error) for o in plan.known if o.status == "failed"] + found.faults + found.tried
    if faults:
        yield f"would fail: {len(faults)}"
        for photo, why in faults[:_TOLD]:
            yield f"  {shown(photo)}: {shown(why)}"
        if len(faults) > _TOLD:
            yield f"  and {len(faults) - _TOLD} more"
    if found.seconds:
        each = median(found.seconds)
        whole = duration(each * min(len(plan.todo), task.limit or len(plan.todo)))
        yield f"time: about {whole}, {each:.2g} s for each photo, from {len(found.seconds)} timed"
    yield "nothing was written (--dry-run)"


def _kinds(paths: Iterable[str]) -> str:
    """How many files there are of each ending."""
    endings = Counter(os.path.splitext(path)[1].lower() for path in paths)
    return ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))


def _tell_unused(plan: FolderPlan) -> None:
    if plan.unused:
        many = f"{len(plan.unused)} masks or rows belong" if len(plan.unused) > 1 else "one mask or row belongs"
        print(f"cicm: note: {many} to no photo: {several(plan.unused)}", file=sys.stderr)
    if plan.damaged:
        print(
            f"cicm: note: {plan.damaged} lines of the journal can't be read; their photos are redone", file=sys.stderr
        )


def _shard(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)):
        raise InputError(f"a shard is written as its number and how many there are, such as 3/64; got {text!r}.")
    return int(match[1]), int(match[2])
