"""The same folder run on several machines or cores, by Ray Data: needs the extra `ray`, and folders that all can see.

Ray only deals out the photos. What fills them, names them and journals them is what a run without it uses, so a result
does not depend on where it was made, and a run of either kind goes on where one of the other stood.

Each actor keeps a journal of its own. Ray does a batch again whose actor died; a photo whose result an earlier try
put in its place is then found in the journals, and is not done again.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from cicm.conventions import InputError
from cicm.folders.engine import Engine
from cicm.folders.journal import Inputs, read_ledger
from cicm.folders.marking import Job
from cicm.folders.run import Filler, FolderPlan, FolderTask, Outcome, digest_of_settings, open_journal
from cicm.inference.inpainter import Inpainter

if TYPE_CHECKING:
    import ray.data


CLOCKS_APART_SECONDS = 3600
"""How far the clocks of machines may differ before a photo might be done twice (with the same result)."""


class FillOnRay:
    """An actor: loads the model once, and fills the photos of each batch that it is given.

    Args:
        task: what is asked for.
        make_inpainter: makes the inpainter, in the actor.
        engine: how much happens at a time in one actor.
        run: names the run, of all actors.
        began: when it began, in seconds since 1970.
    """

    def __init__(
        self, task: FolderTask, make_inpainter: Callable[[], Inpainter], engine: Engine, run: str, began: float
    ) -> None:
        self.task, self.engine, self.run, self.began = task, engine, run, began
        self.inpainter = make_inpainter()
        settings = task.settings(self.inpainter)
        self.settings = digest_of_settings(settings)
        self.journal = open_journal(task, settings, f"{run}-{secrets.token_hex(4)}", run)
        self.filler = Filler(task, self.journal, engine.memory, self._proven)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Fill a batch; {"job": packed jobs} -> {"outcome": packed outcomes}."""
        outcomes = self.engine.run([_job(row) for row in batch["job"]], self.filler, self.inpainter)
        return {"outcome": [_packed(asdict(outcome)) for outcome in outcomes]}

    def _proven(self, job: Job, inputs: Inputs) -> bool:
        """Whether this very run, in whatever actor, has put the result in its place."""
        try:
            older = (self.task.out / job.output).lstat().st_mtime < self.began - CLOCKS_APART_SECONDS
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


def fill_folder_on_ray(
    make_inpainter: Callable[[], Inpainter],
    task: FolderTask,
    engine: Engine | None = None,
    *,
    actors: int = 1,
    photos_per_batch: int = 32,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
) -> Iterator[Outcome]:
    """Fill the photos of a folder with Ray actors; gives the outcomes as they come.

    Ray is used as it is: start it, or connect to a cluster, with `ray.init` before.

    Args:
        make_inpainter: called in each actor and once here; it must be importable there, or a plain function.
        task: its folders are seen under the same names by all machines.
        engine: of one actor.
        actors: how many.
        photos_per_batch: what an actor gets at a time, and does again if it dies.
        num_cpus: cores that Ray counts for an actor.
        num_gpus: GPUs, or parts of one.

    Raises:
        InputError: Ray is not installed; what `FolderTask.plan` refuses.
    """
    try:
        import ray.data
    except ImportError as error:
        raise InputError("Ray is not installed. Install it with: pip install 'cicm[ray]'.") from error
    if actors < 1 or photos_per_batch < 1:
        raise InputError(f"actors and photos_per_batch must be at least 1; got {actors} and {photos_per_batch}.")
    # An actor starts elsewhere.
    task = replace(task, photos=task.photos.absolute(), out=task.out.absolute(), masks=task.masks.absolute())
    settings = task.settings(make_inpainter())
    plan: FolderPlan = task.plan(settings)
    yield from plan.known
    if not plan.todo:
        return
    # Held while the actors work, so that no other run begins.
    with open_journal(task, settings) as journal:
        rows = [{"job": _packed(asdict(job))} for job in plan.todo]
        filled: ray.data.Dataset = ray.data.from_items(rows).map_batches(
            FillOnRay,
            fn_constructor_args=(task, make_inpainter, engine or Engine(), journal.run, time.time()),
            batch_size=photos_per_batch,
            concurrency=actors,
            num_cpus=num_cpus,
            num_gpus=num_gpus,
        )
        try:
            for row in filled.iter_rows():
                yield _outcome(row["outcome"])
        finally:  # actors are ended without being asked, and leave their empty folders
            for parts in journal.folder.glob(f"parts-*{journal.run}-*"):
                shutil.rmtree(parts, ignore_errors=True)


def _packed(record: dict[str, Any]) -> bytes:
    """As JSON: it holds any file name, also one that is no Unicode, which a table's text can't."""
    return json.dumps(record, default=str).encode()


def _job(packed: bytes) -> Job:
    record = json.loads(packed)
    boxes = tuple((left, top, right, bottom) for left, top, right, bottom in record["boxes"])
    return Job(**{**record, "masks": tuple(record["masks"]), "boxes": boxes})


def _outcome(packed: bytes) -> Outcome:
    record = json.loads(packed)
    return Outcome(**{**record, "notes": tuple(record["notes"])})
