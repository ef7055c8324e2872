"""A run that is killed and resumed is the uninterrupted run, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cicm.assembly import load_weights
from cicm.cli.main import main
from cicm.training import checkpoint, loop

from .conftest import read_log

STEPS = 12
# every term, the discriminator, accumulation and reseeding: everything that has a state
CHANGES = {
    "model.options.width": 2,
    "model.memories.bottom.sets": 2,
    "model.memories.bottom.contexts": 2,
    "objective.weights.adversarial": 0.1,
    "training.discriminator_width": 2,
    "training.accumulate": 2,
    "training.steps": STEPS,
    "training.save_every_steps": 3,
    "training.log_every_steps": 1,
    "training.validate_every_steps": 4,
    "training.val_images": 2,
    "training.grid_images": 1,
    "training.memory_reseed_every_steps": 2,
    "training.precision": "bf16-mixed",
    "data.kinds": ["boxes"],
}


def command(photos: Path, output: Path, **changes: object) -> list[str]:
    sets = [part for key, value in (CHANGES | changes).items() for part in ("--set", f"{key}={json.dumps(value)}")]
    return ["train", "unet-cicm-toy", "--data", str(photos), "--output", str(output), "--threads", "1", *sets]


def without_speed(folder: Path) -> list[dict]:
    return [
        {k: v for k, v in r.items() if k not in ("images_per_s", "loading_share")}
        for r in read_log(folder / "log.jsonl")
    ]


def same_tensors(first: Path, second: Path) -> None:
    ours, theirs = (checkpoint.load(f / checkpoint.LAST) for f in (first, second))
    for state in (ours, theirs):
        state.pop("random")  # compared by what was drawn from it
    flat = lambda tree: dict(_leaves(tree))  # noqa: E731
    assert flat(ours).keys() == flat(theirs).keys()
    for (name, a), b in zip(_leaves(ours), flat(theirs).values(), strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, name


def _leaves(tree, where=""):
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _leaves(value, f"{where}/{key}")
    elif isinstance(tree, list):
        for key, value in enumerate(tree):
            yield from _leaves(value, f"{where}/{key}")
    else:
        yield where, tree


@pytest.fixture(scope="module")
def uninterrupted(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    assert main(command(photos, folder)) == 0
    return folder


def test_sigkill_and_resume_is_bit_for_bit_the_uninterrupted_run(photos: Path, tmp_path: Path, uninterrupted: Path):
    folder = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-m", "cicm.cli.main", *command(photos, folder)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    try:
        log, deadline = folder / "log.jsonl", time.monotonic() + 120
        while not (log.exists() and log.read_text().count("\n") >= 5):
            assert process.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "the run did not get going within two minutes"
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    whole_lines = log.read_text().split("\n")[:-1]
    killed_at = json.loads(whole_lines[-1])["step"]
    assert killed_at < STEPS
    assert main(command(photos, folder)) == 0
    assert without_speed(folder) == without_speed(uninterrupted)
    same_tensors(folder, uninterrupted)


def test_sigterm_saves_and_the_same_command_goes_on(
    photos: Path, tmp_path: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capfd
):
    folder, plain = tmp_path / "run", loop.take_step
    count = 0

    def with_a_signal(*args, **kwargs):
        nonlocal count
        count += 1
        if count == 5:
            signal.raise_signal(signal.SIGTERM)
        return plain(*args, **kwargs)

    monkeypatch.setattr(loop, "take_step", with_a_signal)
    assert main(command(photos, folder)) == 130
    assert "stopped by SIGTERM" in capfd.readouterr().err
    assert checkpoint.load(folder / checkpoint.LAST)["step"] == 5
    monkeypatch.undo()
    # what a run may change on the way: nothing that a step's numbers depend on
    assert main(command(photos, folder, **{"data.workers": 1, "training.save_every_steps": 50})) == 0
    assert "after step 5 of 12" in capfd.readouterr().err
    assert without_speed(folder) == without_speed(uninterrupted)
    same_tensors(folder, uninterrupted)


def test_a_finished_run_stays_as_it_is(photos: Path, uninterrupted: Path, capfd):
    before = {p: p.read_bytes() for p in uninterrupted.rglob("*") if p.is_file() and p.name != "environment.json"}
    assert main(command(photos, uninterrupted)) == 0
    assert {p: p.read_bytes() for p in before} == before


def test_the_run_folder_holds_what_it_should(uninterrupted: Path):
    names = {p.name for p in uninterrupted.iterdir()}
    assert names == {
        "best.safetensors", "checkpoint.previous.pt", "checkpoint.pt", "environment.json", "grids", "log.jsonl",
        "recipe.toml", "weights.safetensors",
    }  # fmt: skip
    assert {p.name for p in (uninterrupted / "grids").iterdir()} == {f"{s:08d}.png" for s in (4, 8, 12)}
    loaded = load_weights(uninterrupted / "weights.safetensors")
    assert loaded.card["step"] == STEPS
    average = checkpoint.load(uninterrupted / checkpoint.LAST)["average"]
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, average[name]), name
    versions = json.loads((uninterrupted / "environment.json").read_text())[0]["versions"]
    assert versions["torch"] == torch.__version__
    steps = [r for r in read_log(uninterrupted / "log.jsonl") if "terms" in r]
    assert [r["step"] for r in steps] == list(range(1, STEPS + 1))
    assert set(steps[0]["terms"]) == {"inpaint", "adversarial", "ratio", "inter", "intra", "discriminator"}
    assert {"sets_used", "within"} <= set(steps[0]["memory"]["bottom"])
    scores = [r["validation"] for r in read_log(uninterrupted / "log.jsonl") if "validation" in r]
    assert [set(s) for s in scores] == [{"0-20", "20-40", "40-60"}] * 3


def test_other_photos_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    import shutil

    mine, folder = tmp_path / "photos", tmp_path / "run"
    shutil.copytree(photos, mine)
    assert main(command(mine, folder, **{"training.steps": 2})) == 0
    checkpoint_before = (folder / checkpoint.LAST).read_bytes()
    (mine / "train" / "0.png").rename(mine / "train" / "new.png")
    assert main(command(mine, folder, **{"training.steps": 2})) == 2
    assert "not those that this run began with" in capsys.readouterr().err
    assert (folder / checkpoint.LAST).read_bytes() == checkpoint_before
