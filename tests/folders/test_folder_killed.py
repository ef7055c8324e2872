"""A run that is killed, at every place where that matters, and the run that goes on after it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cicm.folders.run
from cicm.folders import Engine, FolderRun, FolderTask, MaskFolder, Outcome
from cicm.folders.journal import Journal, read_ledger
from cicm.inference import Inpainter

COUNT = 6


def add_photos(place: Path, count: int, size: int = 32) -> None:
    rng = np.random.default_rng(0)
    hole = np.zeros((size, size), dtype=np.uint8)
    hole[4:12, 5:20] = 255
    for folder in ("photos", "masks"):
        (place / folder).mkdir()
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(place / f"photos/{number:03}.bmp")
        Image.fromarray(hole).save(place / f"masks/{number:03}.png")


def task_of(place: Path, **options) -> FolderTask:
    return FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"), **options)


def run(inpainter: Inpainter, task: FolderTask, workers: int = 2) -> dict[str, Outcome]:
    return {outcome.photo: outcome for outcome in FolderRun(inpainter, task, Engine(workers))}


def results(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((place / "out").glob("*.bmp"))}


def die_at_third(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    real, calls = getattr(owner, name), []

    def dying(*args, **options):
        calls.append(name)
        if len(calls) == 3:
            os._exit(9)  # nothing is cleaned up, flushed or closed: as kill -9
        return real(*args, **options)

    monkeypatch.setattr(owner, name, dying)


PLACES = {
    "before the journal knows of it": (Journal, "ready"),
    "before it takes its place": (cicm.folders.run, "place"),
    "before the journal says that it did": (Journal, "done"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("where", PLACES)
def test_killed_at(
    tmp_path: Path, one_colour: Callable[..., Inpainter], monkeypatch: pytest.MonkeyPatch, where: str, overwrite: bool
) -> None:
    add_photos(tmp_path, COUNT)
    inpainter = one_colour()
    if overwrite:  # results of other settings stand there, and uncompressed files are all of one size
        run(one_colour((0.9, 0.1, 0.3), margin=99), task_of(tmp_path))
    with monkeypatch.context() as patched:
        die_at_third(patched, *PLACES[where])
        child = os.fork()
        if child == 0:
            try:
                # one worker, so that exactly two photos are whole when the third call dies; `test_kill_9` has several
                run(inpainter, task_of(tmp_path, overwrite=overwrite), workers=1)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    left = results(tmp_path)
    assert all(len(data) == 32 * 32 * 3 + 54 for data in left.values())  # each whole, or not there
    before = {name: (tmp_path / "out" / name).stat().st_ino for name in left}

    outcomes = run(inpainter, task_of(tmp_path, overwrite=overwrite))
    told = Counter(outcome.status for outcome in outcomes.values())
    assert told["done"] + told["already"] == COUNT, outcomes
    if not overwrite:  # whatever is in its place is known for what it is, and not done again
        assert told["already"] == len(left)
        assert len(left) == (3 if where == "before the journal says that it did" else 2)
    for photo, outcome in outcomes.items():
        same = (tmp_path / "out" / photo).stat().st_ino == before.get(photo)
        assert same == (outcome.status == "already")
        values = np.array(Image.open(tmp_path / "out" / photo))
        assert set(map(tuple, values[4:12, 5:20].reshape(-1, 3))) == {(51, 153, 102)}
    assert sorted(path.name for path in (tmp_path / "out/.cicm").iterdir()) == ["journal.jsonl"]
    # a run that replaces went on with what its killed self had done; the next one begins anew
    again = run(inpainter, task_of(tmp_path, overwrite=overwrite))
    assert {outcome.status for outcome in again.values()} == {"done" if overwrite else "already"}


@pytest.mark.slow
def test_kill_9(tmp_path: Path, weights: Path) -> None:
    """The command itself, killed twice from outside, loses no photo and does none twice."""
    count = 40
    add_photos(tmp_path, count, size=128)
    words = ["inpaint", "photos", "--masks", "masks", "-o", "out", "--weights", str(weights), "--report", "run.jsonl"]
    command = [sys.executable, "-m", "cicm.cli.main", *words]

    for wanted in (5, 15):
        child = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
        until = time.monotonic() + 240
        while len(list((tmp_path / "out").glob("*.bmp"))) < wanted:
            assert time.monotonic() < until
            assert child.poll() is None, "it was too quick to be killed"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
        child.wait()
        for path in (tmp_path / "out").glob("*.bmp"):
            Image.open(path).load()
    assert not (tmp_path / "run.jsonl").exists()
    before = {name: (tmp_path / "out" / name).stat().st_ino for name in results(tmp_path)}
    assert 15 <= len(before) < count

    subprocess.run(command, cwd=tmp_path, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert len(results(tmp_path)) == count
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in before} == before
    status = Counter(json.loads(line)["status"] for line in (tmp_path / "run.jsonl").read_text().splitlines())
    assert status == {"already": len(before), "done": count - len(before)}
    done = Counter(
        record["key"]
        for record in map(json.loads, (tmp_path / "out/.cicm/journal.jsonl").read_text().splitlines())
        if record["kind"] == "done"
    )
    assert max(done.values()) == 1
    assert len(read_ledger(tmp_path / "out").entries) == count
