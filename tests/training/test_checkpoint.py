"""Checkpoints: whatever happens while one is written, a whole one is found."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from cicm.conventions import InputError
from cicm.files import PART
from cicm.training import checkpoint


def a_state(step: int) -> dict:
    return {"step": step, "model": {"w": torch.full((1000,), float(step))}, "best": [1.5, step]}


def test_what_is_saved_is_loaded(tmp_path: Path):
    checkpoint.save(tmp_path, a_state(1))
    checkpoint.save(tmp_path, a_state(2))
    found = checkpoint.find(tmp_path)
    assert found is not None
    assert found.state["step"] == 2
    assert torch.equal(found.state["model"]["w"], torch.full((1000,), 2.0))
    assert checkpoint.load(tmp_path / checkpoint.PREVIOUS)["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == [checkpoint.PREVIOUS, checkpoint.LAST]


def test_an_empty_folder_has_none(tmp_path: Path):
    assert checkpoint.find(tmp_path) is None


def test_a_half_written_file_is_never_picked_up(tmp_path: Path):
    checkpoint.save(tmp_path, a_state(1))
    whole = (tmp_path / checkpoint.LAST).read_bytes()
    (tmp_path / f".{checkpoint.LAST}.77{PART}").write_bytes(whole[: len(whole) // 2])
    found = checkpoint.find(tmp_path)
    assert found is not None
    assert (found.state["step"], found.damaged) == (1, [])


@pytest.mark.parametrize("harm", ["truncated", "flipped", "empty", "text"])
def test_a_damaged_last_one_falls_back_to_the_one_before_and_says_so(tmp_path: Path, harm: str):
    checkpoint.save(tmp_path, a_state(1))
    checkpoint.save(tmp_path, a_state(2))
    last = tmp_path / checkpoint.LAST
    data = bytearray(last.read_bytes())
    data[len(data) // 2] ^= 1
    bad = {"truncated": last.read_bytes()[:-200], "flipped": bytes(data), "empty": b"", "text": b"not a checkpoint"}
    os.unlink(last)  # a copy of its own: the one before may be the same file under another name
    last.write_bytes(bad[harm])
    found = checkpoint.find(tmp_path)
    assert found is not None
    assert found.state["step"] == 1
    assert len(found.damaged) == 1
    assert str(last) in found.damaged[0]


def test_nothing_but_damaged_ones_is_an_error_not_a_new_beginning(tmp_path: Path):
    (tmp_path / checkpoint.LAST).write_bytes(b"x" * 100)
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read"):
        checkpoint.find(tmp_path)


@pytest.mark.parametrize("moment", range(12))
def test_a_kill_at_any_system_call_leaves_a_whole_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int):
    checkpoint.save(tmp_path, a_state(1))
    checkpoint.save(tmp_path, a_state(2))

    class Killed(BaseException):
        pass

    calls = 0

    def counted(real):
        def call(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls > moment:  # from the kill on nothing happens any more, cleaning up included
                raise Killed
            return real(*args, **kwargs)

        return call

    for name in ("link", "replace", "fsync"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(Path, "unlink", counted(Path.unlink))
    monkeypatch.setattr(torch, "save", counted(torch.save))
    done = True
    try:
        checkpoint.save(tmp_path, a_state(3))
    except Killed:
        done = False
    monkeypatch.undo()
    found = checkpoint.find(tmp_path)
    assert found is not None
    assert found.damaged == []
    assert found.state["step"] in ((3,) if done else (2, 3))


def test_a_full_disk_costs_no_checkpoint(tmp_path: Path, file_limit):
    checkpoint.save(tmp_path, a_state(1))
    checkpoint.save(tmp_path, a_state(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with file_limit(3000), pytest.raises(OSError, match=f"File too large.*{checkpoint.LAST}"):
        checkpoint.save(tmp_path, a_state(3))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "harm"),))

    import hashlib
    import io

    buffer = io.BytesIO()
    torch.save({"format": checkpoint.FORMAT, "step": Evil()}, buffer)
    data = buffer.getvalue()
    (tmp_path / checkpoint.LAST).write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(InputError, match="cannot be read as a checkpoint"):
        checkpoint.load(tmp_path / checkpoint.LAST)
    assert not (tmp_path / "harm").exists()


def test_random_generators_go_on_where_they_were(tmp_path: Path):
    def draw():
        return torch.rand(3).tolist(), np.random.rand(3).tolist(), [random.random(), random.gauss(0, 1)]  # noqa: NPY002

    np.random.randn()  # noqa: NPY002  # leaves half a pair behind
    checkpoint.save(tmp_path, {"random": checkpoint.random_states()})
    expected = draw()
    draw()
    checkpoint.restore_random_states(checkpoint.load(tmp_path / checkpoint.LAST)["random"])
    assert draw() == expected
