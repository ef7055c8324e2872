"""The same folder on Ray: each photo exactly once, the same results, also when an actor dies."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cicm.conventions import InputError
from cicm.folders import Engine, FolderTask, MaskFolder, fill_folder
from cicm.folders.journal import read_ledger
from cicm.inference import Inpainter

COUNT = 12


@pytest.fixture(scope="module")
def started() -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is in the extra `ray`")
    pytest.importorskip("ray.data", reason="ray[data] is in the extra `ray`")
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 2**20,
        logging_level="ERROR",
        log_to_driver=False,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


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


@pytest.mark.slow
@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("deadly", [False, True])
def test_each_photo_exactly_once(place: Path, weights: Path, deadly: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from cicm.folders.on_ray import fill_folder_on_ray

    monkeypatch.chdir(place)
    task = FolderTask(Path("photos"), Path("out"), MaskFolder(Path("masks")))
    trap = place / "trap"
    trap.touch() if not deadly else None
    maker = partial(make, weights)
    if deadly:
        # the driver makes one as well, to know the settings; it fills nothing
        maker = partial(make, weights, trap)
    found = list(
        fill_folder_on_ray(
            maker, task, Engine(1 if deadly else 2), actors=1 if deadly else 2, photos_per_batch=6, num_cpus=0.5
        )
    )
    assert trap.exists()
    assert Counter(outcome.photo for outcome in found) == Counter(
        [path.relative_to("photos").as_posix() for path in Path("photos").rglob("*.png")]
    )
    failed = [outcome for outcome in found if outcome.status == "failed"]
    assert [outcome.photo for outcome in failed] == ["3.png"]
    assert "0 bytes" in failed[0].error
    ready: Counter[str] = Counter()
    for journal in Path("out/.cicm").glob("journal*.jsonl"):
        ready.update(
            line.split('"key": "')[1].split('"')[0] for line in journal.read_text().splitlines() if '"done"' in line
        )
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


def test_without_ray(place: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from cicm.folders.on_ray import fill_folder_on_ray

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.data", None)
    task = FolderTask(place / "photos", place / "out", MaskFolder(place / "masks"))
    with pytest.raises(InputError, match="pip install 'cicm\\[ray\\]'"):
        next(fill_folder_on_ray(partial(make, weights), task))
