"""Make the rows of a table: train what is missing, go on with what was interrupted, score it, write its record."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cicm.conventions import InputError
from cicm.data.pair_lists import read_pairs, write_pairs
from cicm.data.pairs import make_pairs
from cicm.datasets import photos_of
from cicm.evaluation.labels import score_labels
from cicm.evaluation.methods import Model
from cicm.evaluation.plan import Plan, label_files, make_plan, make_protocol
from cicm.evaluation.protocol import Protocol
from cicm.evaluation.records import Evaluation
from cicm.evaluation.scoring import evaluate
from cicm.files import evenly_spaced, write_atomic
from cicm.tables.apart import RowFailed, Train
from cicm.tables.plan import slug
from cicm.tables.series import Job, Series, scored_folder
from cicm.terminal import duration
from cicm.training.folder import WEIGHTS
from cicm.training.plan import check_run

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        state: `made`, `there` (it was made before) or `failed`.
    """

    job: Job
    state: str
    reason: str = ""


def run(
    series: Series,
    jobs: Sequence[Job],
    train: Train,
    *,
    say: Say = print,
    device: str = "cpu",
    after: Callable[[], None] = lambda: None,
) -> list[Outcome]:
    """Make all jobs, each whole or not at all; a failure is told and the others go on.

    Args:
        train: trains, or goes on with a run that is there.
        after: called after each job that was made or failed.

    Raises:
        InputError: photos, masks or the list of pairs can't be used, or records of other conditions are there already;
            nothing is trained then.
    """
    plans = check(series, jobs)
    for data, plan in plans.items():
        _keep_pairs(series, data, plan)
    pace = _Pace(sum(job.steps for job in _distinct(series, jobs)))
    outcomes = []
    for number, job in enumerate(jobs, start=1):
        where = f"[{number}/{len(jobs)}] {series.table.name}, {job.part.title}, {job.row.label}, seed {job.seed}"
        if there := series.record(job):
            if there != series.target(job):
                say(f"{where}: the same run as {there}")
            outcomes.append(Outcome(job, "there"))
            continue
        say(f"{where}: {job.steps} steps; {pace}")
        began = time.monotonic()
        try:
            if stale := _stale(series, job):
                raise RowFailed(stale)
            _make(series, job, plans[job.data], train, device)
            outcomes.append(Outcome(job, "made"))
            say(f"{where}: done in {duration(time.monotonic() - began)}")
        except Exception as problem:  # whatever one row does, the others go on
            known = isinstance(problem, (RowFailed, InputError))
            reason = " ".join(f"{'' if known else type(problem).__name__ + ': '}{problem}".split())
            outcomes.append(Outcome(job, "failed", reason))
            say(f"{where}: failed: {reason}")
            _write(series.failure(job), reason + "\n")
        pace.count(job.steps, time.monotonic() - began)
        after()
    return outcomes


def check(series: Series, jobs: Sequence[Job]) -> dict[str, Plan]:
    """What is scored of each data set of the jobs; writes nothing.

    Raises:
        InputError: what stops the whole run before any row: photos, masks or the list of pairs that can't be used, or
            records of other conditions.
    """
    plans = {data: scoring_plan(series, data) for data in dict.fromkeys(job.data for job in jobs)}
    for data, plan in plans.items():
        _check_conditions(series, data, make_protocol(plan, series.scale.metrics))
    return plans


def refusals(series: Series, jobs: Sequence[Job]) -> dict[tuple[str, int], str]:
    """(key, seed) of each job that would fail before its first step -> the reason; writes nothing."""
    found: dict[tuple[str, int], str] = {}
    checked: dict[str, str] = {}
    for job in jobs:
        if series.record(job):
            continue
        if job.key not in checked:
            try:
                for recipe in (*job.stages, job.recipe):
                    check_run(recipe)
                checked[job.key] = ""
            except InputError as error:
                checked[job.key] = str(error)
        if reason := _stale(series, job) or checked[job.key]:
            found[job.key, job.seed] = reason
    return found


def _stale(series: Series, job: Job) -> str:
    """Why the record of a job can't be written; empty if it can."""
    if stale := series.stale(job):
        return f"{series.target(job)} is there and {stale}. Give the series another --name, or remove the file."
    return ""


def scoring_plan(series: Series, data: str) -> Plan:
    """What is scored of a data set: its fixed list, read, or made from its photos.

    Raises:
        InputError: no such photos, masks or list.
    """
    source = series.data[data]
    kept, masks = series.pairs(data), Path(source.masks) if source.masks else None
    images = scored_folder(source)
    labels = label_files(source.root, source.layout, source.test) if images.is_dir() else None
    if source.pairs:
        if not Path(source.pairs).is_file():
            raise InputError(
                f"{series.table.name}, data set {data}: there is no list {source.pairs} in this folder. Give the "
                f"command in a checkout, or give photos of your own with --data {data}=ROOT, for which a list is made."
            )
        return make_plan(images, masks, read_pairs(source.pairs), fit=source.fit, labels=labels)
    if kept.is_file():
        return make_plan(images, masks, read_pairs(kept), fit=source.fit, labels=labels)
    if not images.is_dir():
        raise InputError(
            f"{series.table.name}, data set {data}: expected photos to score in {images}, which is no folder. Give "
            f"them with --data {data}=ROOT, where ROOT holds train, val and test."
        )
    if masks is not None and not masks.is_dir():
        raise InputError(
            f"{series.table.name}, data set {data}: expected mask files in {masks}, which is no folder. Give them with "
            '--masks DIR, or paint holes with --masks "".'
        )
    photos = photos_of(source.root, source.layout, source.test) if source.layout else None
    if source.limit and photos:
        photos = evenly_spaced(photos, source.limit)
    pairs = make_pairs(
        images, masks, 0, sizes=(source.size,), photos=photos, order=source.order if masks else "shuffled"
    )
    return make_plan(images, masks, pairs, fit=source.fit, labels=labels)


def _keep_pairs(series: Series, data: str, plan: Plan) -> None:
    """Write down a list that was made; later runs read it."""
    path = series.pairs(data)
    if not series.data[data].pairs and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_pairs(path, plan.pairs)


def _check_conditions(series: Series, data: str, protocol: Protocol) -> None:
    """Refuse to add to a series whose records of this data set were scored on other terms."""
    for record, of in series.index.values():
        if of != slug(data):
            continue
        there = Evaluation.load(record).protocol
        asked = dataclasses.replace(protocol, pixels_sha256=there.pixels_sha256)  # known only after a run
        if differences := there.differences(asked):
            raise InputError(
                f"{record} was scored on other terms than are asked for now: {'; '.join(differences)}. Both can't "
                "stand in one table: give this series another --name, or remove the old records and score again."
            )


def _make(series: Series, job: Job, plan: Plan, train: Train, device: str) -> None:
    folder, target = series.run_folder(job), series.target(job)
    begin = ""
    for stage in (*job.stages, job.recipe):
        here = series.folder_of(stage)
        training = dataclasses.replace(stage.training, init=begin or stage.training.init)
        file = here.with_name(f"{here.name}.toml")
        _write(file, dataclasses.replace(stage, training=training).to_toml())
        train(file, here)
        if not (here / WEIGHTS).is_file():
            raise RowFailed(f"training ended without {here / WEIGHTS}")
        begin = str(here / WEIGHTS)
    model = Model(folder / WEIGHTS, device=device)
    model.name, model.seed = job.row.label, job.seed
    evaluation, _ = evaluate([model], plan, series.scale.metrics, batch_size=16)
    if plan.labels is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        score_labels(model, plan).save(target.with_suffix(".labels.json"))
    # The record comes last: where it is, everything is.
    _write(target.with_suffix(".toml"), job.recipe.to_toml())
    evaluation.save(target, overwrite=True)
    series.failure(job).unlink(missing_ok=True)
    series.add(job, target)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text)


def _distinct(series: Series, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that are still to be made, each run once."""
    return list({(job.key, job.seed): job for job in jobs if series.record(job) is None}.values())


class _Pace:
    """How fast it goes and how long it will take, by the steps of the runs: rows of larger networks take longer."""

    def __init__(self, total: int) -> None:
        self.left, self.done, self.seconds = total, 0, 0.0

    def count(self, steps: int, seconds: float) -> None:
        self.left, self.done, self.seconds = max(0, self.left - steps), self.done + steps, self.seconds + seconds

    def __str__(self) -> str:
        if not self.done or not self.seconds:
            return f"{self.left} steps in all"
        rate = self.done / self.seconds
        return f"{rate:.1f} steps/s so far with scoring, about {duration(self.left / rate)} left"


def default_device() -> str:
    """`cuda` where there is one."""
    import torch

    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return "cpu"
    return "cuda" if torch.cuda.is_available() else "cpu"
