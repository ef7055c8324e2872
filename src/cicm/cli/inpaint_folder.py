"""`cicm inpaint FOLDER`: the run that is seen: what would be done, how far it is, what failed."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jsonargparse import Namespace

from cicm.conventions import InputError
from cicm.files import check_readable
from cicm.terminal import several, shown

if TYPE_CHECKING:
    from cicm.folders import FolderTask, MaskSource, Outcome
    from cicm.folders.run import FolderPlan, Preview
    from cicm.inference.pictures import PictureInpainter

EVERY_SECONDS = 30
"""Between the lines that tell how far it is, where there is no terminal."""

TOLD = 20
"""Most failures that are printed; the report has all."""


def inpaint_folder(options: Namespace, masks: MaskSource, inpainter_of: Callable[[Namespace], PictureInpainter]) -> int:
    """Fill a folder, or tell what that would be; 0 if nothing failed, else 1.

    Raises:
        InputError: the call itself is wrong.
    """
    from cicm.folders.run import FolderTask

    if options.on_error not in ("continue", "stop"):
        raise InputError(f"--on-error is continue or stop; got {options.on_error!r}.")
    if options.memory < 1:
        raise InputError(f"--memory must be at least 1 MiB; got {options.memory}.")
    task = FolderTask(
        Path(options.photo),
        Path(options.output),
        masks,
        ending=f".{options.format.lower().removeprefix('.')}" if options.format else None,
        overwrite=options.overwrite,
        missing=options.missing,
        shard=_shard(options.shard),
        limit=options.limit,
    )
    if options.weights:
        check_readable(options.weights, "weights")
    task.plan()  # what is wrong with the folders is told before torch is loaded
    return _look(options, task, inpainter_of) if options.dry_run else _run(options, task, inpainter_of)


def _run(options: Namespace, task: FolderTask, inpainter_of: Callable[[Namespace], PictureInpainter]) -> int:
    from cicm.folders import Engine, FolderRun
    from cicm.folders.reports import ReportFile

    engine = Engine(options.workers, options.batch, options.memory * 2**20)
    inpainter = inpainter_of(options)
    run = FolderRun(inpainter, task, engine, stop_on_error=options.on_error == "stop")
    _tell_unused(run.plan)
    with ExitStack() as stack:
        stream = stack.enter_context(_own_stderr())
        report = stack.enter_context(ReportFile(options.report, task)) if options.report else None
        display = stack.enter_context(_Display(stream, len(run.plan.todo), options.quiet))
        for outcome in run:
            if report:
                report.add(outcome)
            display.add(outcome)
    summary = run.summary
    if summary.stopped:
        print(f"cicm: stopped after {summary.stopped}", file=sys.stderr)
    if not options.quiet:
        counts = {
            "filled": summary.done,
            "done before": summary.already,
            "failed": summary.failed,
            "without a mask, skipped": summary.skipped,
            "not begun": summary.not_begun,
        }
        told = ", ".join(f"{number} {word}" for word, number in counts.items() if number or word == "filled")
        rate = f", {summary.photos_per_second:.3g} photos/s on {inpainter.device}" if summary.done else ""
        print(f"{shown(task.out)}: {told} in {summary.seconds:.1f} s{rate}")
    return 0 if summary.complete else 1


def _look(options: Namespace, task: FolderTask, inpainter_of: Callable[[Namespace], PictureInpainter]) -> int:
    """Tell what a run would do; 0 if nothing would fail as far as can be seen, else 1."""
    from cicm.folders.run import preview, time_some

    inpainter = inpainter_of(options)
    plan = task.plan(task.settings(inpainter))
    _tell_unused(plan)
    found = preview(task, plan)
    with _own_stderr():
        time_some(found, task, inpainter)
    for line in _preview_lines(found, task):
        print(line)
    return 1 if found.faults or found.tried or plan.count("failed") else 0


def _preview_lines(found: Preview, task: FolderTask) -> Iterator[str]:
    plan = found.plan
    part = "" if task.shard == (1, 1) else f", of which this is part {task.shard[0]} of {task.shard[1]}"
    yield f"photos: {plan.with_mask + plan.without_mask} in {shown(task.photos)}{part}"
    yield f"masks: {plan.with_mask} found, {plan.without_mask} missing"
    if already := plan.count("already"):
        yield f"done before: {already}"
    yield f"to fill: {len(plan.todo)}" + (f" (at most {task.limit})" if task.limit else "")
    if found.sizes:
        by_area = sorted(found.sizes, key=lambda size: size[0] * size[1])
        names = [f"{width}x{height}" for height, width in (by_area[0], by_area[len(by_area) // 2], by_area[-1])]
        of = "" if found.looked_at == len(plan.todo) else f", of {found.looked_at} looked at"
        yield f"sizes: {names[0]} to {names[2]}, median {names[1]}{of}"
    if plan.todo:
        endings = Counter(os.path.splitext(job.output)[1].lower() for job in plan.todo)
        kinds = ", ".join(f"{number} {ending}" for ending, number in sorted(endings.items()))
        yield f"would be written: {kinds}, such as {shown(task.out / plan.todo[0].output)}"
    faults = [(o.photo, o.error) for o in plan.known if o.status == "failed"] + found.faults + found.tried
    if faults:
        yield f"would fail: {len(faults)}"
        for photo, why in faults[:TOLD]:
            yield f"  {shown(photo)}: {shown(why)}"
        if len(faults) > TOLD:
            yield f"  and {len(faults) - TOLD} more"
    if found.estimate is not None:
        each = found.estimate / len(plan.todo)
        yield f"time: about {_duration(found.estimate)}, {each:.2g} s for each photo, from {len(found.seconds)} timed"
    yield "nothing was written (--dry-run)"


class _Display:
    """Tells failures and notes as they come, and how far it is: as a bar on a terminal, else in a line now and then."""

    def __init__(self, stream: TextIO, total: int, quiet: bool) -> None:
        self.stream, self.total, self.quiet = stream, total, quiet
        self.count = self.failures = 0
        self.began = self.last = time.perf_counter()
        self.bar = None
        if stream.isatty() and not quiet:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[bad]}"),
                console=Console(file=stream),
                speed_estimate_period=60,
            )
            self.row = self.bar.add_task("", total=total, rate="", bad="")

    def __enter__(self) -> _Display:
        if self.bar:
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()
        if self.failures > TOLD:
            self._line(f"cicm: {self.failures - TOLD} more failed; --report FILE lists them all")

    def add(self, outcome: Outcome) -> None:
        if outcome.status == "failed":
            self.failures += 1
            if self.failures <= TOLD:
                self._line(f"cicm: failed: {shown(outcome.photo)}: {shown(outcome.error)}")
        if not self.quiet:
            for note in outcome.notes:
                self._line(f"cicm: note: {shown(outcome.photo)}: {shown(note)}")
        if not outcome.seconds:  # known before the run began
            return
        self.count += 1
        now = time.perf_counter()
        rate = self.count / max(now - self.began, 1e-9)
        if self.bar:
            bad = f"{self.failures} failed" if self.failures else ""
            self.bar.update(self.row, completed=self.count, rate=f"{rate:.3g}/s", bad=bad)
        elif not self.quiet and now - self.last >= EVERY_SECONDS:
            self.last = now
            left = _duration((self.total - self.count) / rate)
            self._line(f"cicm: {self.count} of {self.total}, {self.failures} failed, {rate:.3g}/s, {left} left")

    def _line(self, text: str) -> None:
        if self.bar:
            self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self.stream, flush=True)


def _tell_unused(plan: FolderPlan) -> None:
    if plan.unused:
        many = f"{len(plan.unused)} masks or rows belong" if len(plan.unused) > 1 else "one mask or row belongs"
        print(f"cicm: note: {many} to no photo: {several(plan.unused)}", file=sys.stderr)
    if plan.damaged:
        print(
            f"cicm: note: {plan.damaged} lines of the journal can't be read; what they said is redone", file=sys.stderr
        )


def _shard(text: str) -> tuple[int, int]:
    if not (match := re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text)):
        raise InputError(f"a shard is written as its number and how many there are, such as 3/64; got {text!r}.")
    return int(match[1]), int(match[2])


def _duration(seconds: float) -> str:
    """In the two units that matter.

    Example:
        >>> _duration(45), _duration(90), _duration(7300)
        ('45 s', '1 min 30 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@contextmanager
def _own_stderr() -> Iterator[TextIO]:
    """Where we write while file descriptor 2 is shut: libtiff complains there by itself, in the midst of the bar."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no standard error to keep clean
        yield sys.stderr
        return
    sys.stderr.flush()
    try:
        direct = sys.stderr.fileno() == 2
    except (OSError, ValueError, AttributeError):
        direct = False
    stream = os.fdopen(os.dup(kept), "w", encoding=sys.stderr.encoding, errors="backslashreplace") if direct else None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield stream or sys.stderr
    finally:
        if stream:
            stream.close()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
