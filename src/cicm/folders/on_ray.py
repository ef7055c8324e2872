"""The same folder on several machines or cores, by Ray Data: needs the extra `ray`, and folders that all can see.

Ray only deals out the photos. The code that fills, names and journals them is that of a run without Ray. So a result
does not depend on where it was made, and each kind of run goes on where one of the other kind stopped.

Each actor keeps a journal of its own. If an actor dies, Ray does its batch again. Photos of that batch that were
finished are found in the journals, and are not done again.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from cicm.conventions import InputError
from cicm.files import reason_of
from cicm.folders.assigning import Job
from cicm.folders.engine import Engine
from cicm.folders.journal import Inputs, Journal, digest_of_settings, read_ledger
from cicm.folders.outcome import Outcome
from cicm.folders.plan import FolderTask
from cicm.folders.run import Filler, FolderRun, open_journal
from cicm.inference.painter import PictureInpainter

_CLOCKS_APART_SECONDS = 3600  # clocks of machines may differ by less; else a photo may be done twice, alike
_CORES = 4  # that one actor takes where there is no GPU
_PHOTOS_PER_BATCH = 32  # what an actor gets at a time, and does again if it dies


@dataclass(frozen=True)
class Actors:
    """How many processes fill photos, and what Ray keeps free for each.

    Args:
        cores: CPU cores of each, or a part of one.
        gpus: GPUs of each, or a part of one.
        photos_per_batch: what an actor gets at a time, and does again if it dies.
    """

    count: int = 1
    cores: float = 1
    gpus: float = 0
    photos_per_batch: int = _PHOTOS_PER_BATCH


@contextmanager
def connected(address: str | None = None, actors: int | None = None) -> Iterator[Actors]:
    """Ray on this machine alone, or a cluster that runs already; yields the actors that it has room for.

    Args:
        address: of a running cluster, such as "10.0.0.1:6379" or "auto"; None starts Ray on this machine.
        actors: how many; None takes one for each GPU, or one for every four cores if there is no GPU.

    Raises:
        InputError: Ray is not installed, no cluster at the address, or a number below 1.
    """
    ray = _ray()
    if actors is not None and actors < 1:
        raise InputError(f"workers must be at least 1; got {actors}.")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would report to its makers
    options: dict[str, Any] = {"include_dashboard": False} if address is None else {}
    try:
        if address and (place := re.fullmatch(r"(?:ray://)?(.+):([0-9]{1,5})", address)):
            socket.create_connection((place[1], int(place[2])), timeout=10).close()  # Ray itself tries for minutes
        ray.init(address or "local", logging_level="ERROR", log_to_driver=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"no Ray cluster answers at {address or 'this machine'}: {reason_of(error)} Start one with "
            "ray start --head --port=6379, or leave --address out."
        ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        there = ray.cluster_resources()
        gpus, cores = int(there.get("GPU", 0)), max(1, int(there.get("CPU", 1)))
        count = actors or gpus or max(1, cores // _CORES)
        yield Actors(count, 1 if gpus else min(_CORES, cores / count), gpus / count if gpus else 0)
    finally:
        ray.shutdown()


class RayRun(FolderRun):
    """One run over a folder by Ray actors: iterate over it, once, for the outcomes as they come.

    Ray is used as it is: connect to it before, with `connected` or `ray.init`.

    Args:
        make_inpainter: called in each actor and once here; it can be pickled, such as a plain function.
        task: all machines see its folders under the same names.
        batch: most pictures in one forward of an actor; None decides by the device.
        ram: bytes that the pictures in work may take together in one actor.

    Raises:
        InputError: Ray is not installed; what `FolderRun` refuses.
    """

    def __init__(
        self,
        make_inpainter: Callable[[], PictureInpainter],
        task: FolderTask,
        actors: Actors | None = None,
        *,
        batch: int | None = None,
        ram: int = 2**31,
    ) -> None:
        _ray()
        self.make_inpainter, self.actors = make_inpainter, actors or Actors()
        inpainter = make_inpainter()
        most = batch or (1 if inpainter.device.type == "cpu" else 8)
        engine = Engine(max(1, round(self.actors.cores)) + most, batch, ram)
        super().__init__(inpainter, task.absolute(), engine)

    def _work(self, journal: Journal) -> Iterator[Outcome]:
        """Do what the plan holds, while the run's own journal keeps other runs out."""
        todo, left = self.plan.todo, self.task.limit or len(self.plan.todo)
        try:
            while todo and left:  # more than once if there is a limit and some photos fail
                now, todo = todo[:left], todo[left:]
                for outcome in self._deal(now, journal.run):
                    left -= outcome.status == "done"
                    yield outcome
                    if outcome.ends_run:
                        return
        finally:  # actors are ended without being asked, and leave their empty folders
            for parts in journal.folder.glob(f"parts-*{journal.run}-*"):
                shutil.rmtree(parts, ignore_errors=True)

    def _deal(self, jobs: list[Job], run: str) -> Iterator[Outcome]:
        actors, ray = self.actors, _ray()
        filled = ray.data.from_items([{"job": _packed(asdict(job))} for job in jobs]).map_batches(
            _FillOnRay,
            fn_constructor_args=(self.task, self.make_inpainter, self.engine, run, time.time()),
            batch_size=actors.photos_per_batch,
            compute=ray.data.ActorPoolStrategy(size=actors.count),
            num_cpus=actors.cores,
            num_gpus=actors.gpus or None,
        )
        for row in filled.iter_rows():
            yield _outcome(row["outcome"])


class _FillOnRay:
    """An actor: loads the model once, and fills the photos of each batch that it gets.

    Args:
        task: what is asked for.
        engine: how much happens at a time in one actor.
        began: when it began, in seconds since 1970.
    """

    def __init__(
        self, task: FolderTask, make_inpainter: Callable[[], PictureInpainter], engine: Engine, run: str, began: float
    ) -> None:
        self.task, self.engine, self.run, self.began = task, engine, run, began
        self.inpainter = make_inpainter()
        settings = task.settings(self.inpainter)
        self.settings = digest_of_settings(settings)
        self.journal = open_journal(task, settings, f"{run}-{secrets.token_hex(4)}", run)
        self.filler = Filler(task, self.journal, engine.ram, self._proven)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Fill a batch; {"job": packed jobs} -> {"outcome": packed outcomes}."""
        outcomes = self.engine.run([_job(row) for row in batch["job"]], self.filler, self.inpainter)
        return {"outcome": [_packed(asdict(outcome)) for outcome in outcomes]}

    def _proven(self, job: Job, inputs: Inputs) -> bool:
        """Whether this very run, in whatever actor, has put the result in its place."""
        try:
            older = (self.task.out / job.output).lstat().st_mtime < self.began - _CLOCKS_APART_SECONDS
        except OSError:
            return False
        if older:  # the common case, without reading journals
            return False
        ledger = read_ledger(self.task.out)
        entry = ledger.entries.get(job.key)
        same = entry is not None and (entry.run, entry.settings, entry.output, entry.inputs) == (
            self.run,
            self.settings,
            job.output,
            inputs,
        )
        return same and ledger.proves(job.key, self.task.out)


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise InputError("Ray is not installed. Install it with: pip install 'cicm[ray]'.") from error
    return ray


def _packed(record: dict[str, Any]) -> bytes:
    """As JSON: it holds any file name, also one that is not Unicode, which the text of a table can't."""
    return json.dumps(record, default=str).encode()


def _job(packed: bytes) -> Job:
    record = json.loads(packed)
    boxes = tuple((left, top, right, bottom) for left, top, right, bottom in record["boxes"])
    return Job(**{**record, "masks": tuple(record["masks"]), "boxes": boxes})


def _outcome(packed: bytes) -> Outcome:
    record = json.loads(packed)
    return Outcome(**{**record, "notes": tuple(record["notes"])})
