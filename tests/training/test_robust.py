"""What two trainings, a full disk or a damaged file do to a run: it goes on, or says why not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from cicm.cli.main import main
from cicm.training import checkpoint, loop
from cicm.training.folder import LOCK, held

from .conftest import read_log
from .test_resume import command

SHORT = {"training.steps": 4, "training.save_every_steps": 1, "training.validate_every_steps": 0}


@pytest.fixture
def words(photos: Path, tmp_path: Path) -> list[str]:
    """A short run in `tmp_path/run`."""
    return command(photos, tmp_path / "run", **SHORT)


def half(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a run die in its third step."""

    def die(*args: Any, **options: Any) -> Any:
        if len(steps) == 2:
            raise KeyboardInterrupt
        steps.append(1)
        return plain(*args, **options)

    plain, steps = loop.take_step, []
    with monkeypatch.context() as patched:
        patched.setattr(loop, "take_step", die)
        assert main(words) == 130


def test_a_second_training_in_a_folder_is_refused_by_the_firsts_name(words: list[str], tmp_path: Path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    with held(folder):
        assert main(words) == 2
    told = capsys.readouterr().err
    assert f"another training runs in {folder}: process {os.getpid()} on" in told
    assert "--output" in told
    assert not list(folder.iterdir())
    (folder / LOCK).write_text("{}")  # a killed one leaves it, and holds nothing
    assert main(words) == 0
    assert not (folder / LOCK).exists()


def test_one_that_begins_at_the_same_moment_is_refused_too(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    """Both find no folder, and look at the photos; the one that is later must not write into the other's."""
    plain = loop.validation_set

    def first_one_comes(*args: Any) -> Any:
        monkeypatch.setattr(loop, "validation_set", plain)
        assert main(words) == 0
        return plain(*args)

    monkeypatch.setattr(loop, "validation_set", first_one_comes)
    assert main(words) == 2
    assert "has begun in" in capsys.readouterr().err
    assert checkpoint.load(tmp_path / "run" / checkpoint.LAST)["step"] == 4


def test_a_full_disk_is_one_line_and_the_run_goes_on(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_limit, capsys
):
    folder = tmp_path / "run"
    half(words, monkeypatch)
    capsys.readouterr()
    before = checkpoint.load(folder / checkpoint.LAST)["step"]
    with file_limit(20_000):  # the log has room, a checkpoint has not
        assert main(words) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[-1].startswith("cicm: training stopped: ")
    assert "File too large" in told[-1]
    assert "the same command goes on" in told[-1]
    assert checkpoint.load(folder / checkpoint.LAST)["step"] == before
    assert checkpoint.load(folder / checkpoint.PREVIOUS)["step"] == before - 1
    assert main(words) == 0
    assert [record["step"] for record in read_log(folder / "log.jsonl") if "terms" in record] == [1, 2, 3, 4]


@pytest.mark.parametrize("damage", [b"[", b"{}", b"\xff\xfe", b"[" * 100_000, b""])
def test_a_broken_list_of_environments_is_set_aside(
    words: list[str], tmp_path: Path, damage: bytes, monkeypatch: pytest.MonkeyPatch, capsys
):
    folder = tmp_path / "run"
    half(words, monkeypatch)
    (folder / "environment.json").write_bytes(damage)
    assert main(words) == 0
    assert "kept as environment.damaged.json" in capsys.readouterr().err
    assert (folder / "environment.damaged.json").read_bytes() == damage
    assert (folder / "environment.json").read_text().startswith("[")


def test_a_log_that_is_no_text_is_kept_beside_the_readable_rest(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = tmp_path / "run"
    half(words, monkeypatch)
    log = folder / "log.jsonl"
    bad = b"\xff\xfe\n" + b"1" * 5000 + b"\n[[\n" + log.read_bytes() + b'{"step": 3, "te'
    log.write_bytes(bad)
    assert main(words) == 0
    assert [record["step"] for record in read_log(log) if "terms" in record] == [1, 2, 3, 4]
    assert (folder / "log.damaged.jsonl").read_bytes() == bad


def harm(state: dict[str, Any], what: str) -> dict[str, Any]:
    first = next(iter(state["model"]))
    if what == "names":
        state["model"] = {f"other.{name}": tensor for name, tensor in state["model"].items()}
    elif what == "shape":
        state["model"][first] = torch.zeros(1, 2, 3)
    elif what == "optimizer":
        state["optimizer"]["state"][0]["exp_avg"] = torch.zeros(7)
    elif what == "random":
        state["random"] = [{"torch": 3}]
    elif what == "step":
        state["step"] = -5
    elif what == "best":
        state["best"] = []
    else:
        del state[what]
    return state


@pytest.mark.parametrize("what", ["names", "shape", "optimizer", "random", "step", "best", "photos", "average"])
def test_a_whole_checkpoint_of_another_content_is_refused_with_a_way_out(
    words: list[str], tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys
):
    folder = tmp_path / "run"
    half(words, monkeypatch)
    checkpoint.save(folder, harm(checkpoint.load(folder / checkpoint.LAST), what))
    there = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    capsys.readouterr()
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "is whole, but not a checkpoint of this run" in told
    assert told.count("\n") == 1
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == there
    (folder / checkpoint.LAST).unlink()
    assert main(words) == 0


def test_bytes_with_a_valid_checksum_that_are_no_checkpoint(tmp_path: Path):
    import hashlib

    from cicm.conventions import InputError

    for content in (b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"\x80\x02c\x00", b"text", os.urandom(300)):
        path = tmp_path / checkpoint.LAST
        path.write_bytes(content + hashlib.sha256(content).digest())
        with pytest.raises(InputError, match=r"cannot be read as a checkpoint|must be a checkpoint") as told:
            checkpoint.load(path)
        assert "\n" not in str(told.value)


def test_without_torch_it_is_one_line(words: list[str], tmp_path: Path):
    """As after pip install --no-deps, or on a machine for which there is no torch."""
    (tmp_path / "torch.py").write_text("raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n")
    env = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for line in (words, ["evaluate", "x"], ["networks"], ["memory", "x.safetensors"], ["table", "x"], ["recipes"]):
        done = subprocess.run(
            [sys.executable, "-m", "cicm", *line], env=env, capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode in (0, 2)
