"""The same folder on Ray: each photo exactly once, the same results, also when a worker dies."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.cli.main import main
from cicm.conventions import InputError
from cicm.folders import FolderTask, MaskFolder, fill_folder
from cicm.folders.journal import read_ledger
from cicm.folders.on_ray import Actors, RayRun
from cicm.inference import Inpainter

COUNT = 12


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is in the extra `ray`")
    pytest.importorskip("ray.data", reason="ray[data] is in the extra `ray`")
    ray.init(
        "local",  # also where a cluster runs already
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths()}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


def paths() -> str:
    """Where an actor finds this file, and the package."""
    return os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    hole = np.zeros((32, 48), dtype=np.uint8)
    hole[4:12, 5:20] = 255
    for folder in ("photos/sub", "masks/sub"):
        (tmp_path / folder).mkdir(parents=True)
    for number in range(COUNT):
        name = f"sub/{number}" if number % 2 else f"{number}"
        Image.fromarray(rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)).save(tmp_path / f"photos/{name}.png")
        Image.fromarray(hole).save(tmp_path / f"masks/{name}.png")
    (tmp_path / "photos/3.png").write_bytes(b"")
    Image.fromarray(hole).save(tmp_path / "masks/3.png")
    return tmp_path


def make(weights: Path, trap: Path | None = None) -> Inpainter:
    inpainter = Inpainter.from_pretrained(weights, device="cpu")
    if trap is not None and not trap.exists():
        real, calls = inpainter.fill_photo, []

        def deadly(*args, **options):
            calls.append(1)
            if len(calls) == 4 and not trap.exists():
                trap.touch()
                os._exit(9)
            return real(*args, **options)

        inpainter.fill_photo = deadly  # type: ignore[method-assign]
    return inpainter


def done_lines(out: Path) -> Counter[str]:
    """How often the journals say that a photo was done."""
    records = [json.loads(line) for file in out.glob(".cicm/journal*.jsonl") for line in file.read_text().splitlines()]
    return Counter(record["key"] for record in records if record["kind"] == "done")


@pytest.mark.slow
@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("deadly", [False, True])
def test_each_photo_exactly_once(place: Path, weights: Path, deadly: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    task = FolderTask(Path("photos"), Path("out"), MaskFolder(Path("masks")))
    trap = place / "trap"
    trap.touch() if not deadly else None
    maker = partial(make, weights)
    if deadly:
        # the driver makes one as well, to know the settings; it fills nothing
        maker = partial(make, weights, trap)
    run = RayRun(maker, task, Actors(1 if deadly else 2, 0.5, photos_per_batch=6))
    found = list(run)
    assert trap.exists()
    assert (run.summary.failed, run.summary.not_begun) == (1, 0)
    assert Counter(outcome.photo for outcome in found) == Counter(
        [path.relative_to("photos").as_posix() for path in Path("photos").rglob("*.png")]
    )
    failed = [outcome for outcome in found if outcome.status == "failed"]
    assert [outcome.photo for outcome in failed] == ["3.png"]
    assert "0 bytes" in failed[0].error
    ready = done_lines(Path("out"))
    assert set(ready.values()) == {1}
    assert len(ready) == COUNT
    assert len(read_ledger(Path("out")).entries) == COUNT
    assert not list(Path("out/.cicm").glob("parts*"))

    alone = FolderTask(Path("photos"), Path("alone"), MaskFolder(Path("masks")))
    assert fill_folder(make(weights), alone).done == COUNT
    for path in Path("alone").rglob("*.png"):
        assert path.read_bytes() == (Path("out") / path.relative_to("alone")).read_bytes()
    again = fill_folder(make(weights), task)  # without Ray it goes on from there
    assert (again.already, again.done, again.failed) == (COUNT, 0, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("started")
def test_the_limit_counts_results_on_ray_too(place: Path, weights: Path) -> None:
    for number in (0, 2):
        (place / f"photos/{number}.png").write_bytes(b"")
    task = FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"), limit=3)
    run = RayRun(partial(make, weights), task, Actors(1, 0.5))
    assert sum(outcome.status == "done" for outcome in run) == 3
    assert run.summary.not_begun == 0
    assert len(list((place / "out").rglob("*.png"))) == 3


@pytest.mark.slow
def test_the_door(
    place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command starts Ray by itself, and goes on where a run without Ray stopped, and the other way round."""
    ray = pytest.importorskip("ray", reason="ray is in the extra `ray`")
    ray.shutdown()
    monkeypatch.chdir(place)
    words = ["inpaint", "photos", "--masks", "masks", "-o", "out", "--weights", str(weights)]
    assert main([*words, "--limit", "2", "--quiet"]) == 0
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert main([*words, "--engine", "ray", "--workers", "1", "--report", "run.jsonl"]) == 1
    printed = capfd.readouterr()
    # Ray's own processes may write lines of their own between ours.
    told = [line for line in printed.out.splitlines() if line.startswith("out: ")]
    assert len(told) == 1
    assert told[0].startswith(f"out: {COUNT - 2} filled, 2 done before, 1 failed in ")
    assert "photos/s on Ray" in told[0]
    ours = [line for line in printed.err.splitlines() if line.startswith("cicm: ")]
    assert len(ours) == 1
    assert ours[0].startswith("cicm: failed: 3.png: ")
    rows = [json.loads(line) for line in Path("run.jsonl").read_text().splitlines()]
    assert Counter(row["status"] for row in rows) == {"done": COUNT - 2, "already": 2, "failed": 1}
    assert set(done_lines(Path("out")).values()) == {1}
    assert main([*words, "--quiet"]) == 1
    assert len(done_lines(Path("out"))) == COUNT
    assert main([*words, "--engine", "ray", "--address", "127.0.0.1:1", "--overwrite"]) == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in capfd.readouterr().err


def test_without_ray(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    task = FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"))
    with pytest.raises(InputError, match="pip install 'cicm\\[ray\\]'"):
        RayRun(partial(make, weights), task)
