"""The log and the environment."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from cicm.conventions import InputError
from cicm.training.records import Log, environment, truncate_log

from .conftest import read_log


def test_floats_come_back_bit_for_bit(tmp_path: Path):
    log = Log(tmp_path / "log.jsonl")
    log.write(1, loss=0.1 + 0.2, terms={"inpaint": math.pi})
    log.write(2, loss=float("nan"))
    log.close()
    first, second = read_log(tmp_path / "log.jsonl")
    assert first == {"step": 1, "loss": 0.1 + 0.2, "terms": {"inpaint": math.pi}}
    assert second["loss"] == "nan"


def test_truncation_drops_later_steps_and_a_half_written_line(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    assert truncate_log(path, 2) == 2
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n'
    assert truncate_log(path, 2) == 0
    assert truncate_log(tmp_path / "none.jsonl", 2) == 0


def test_the_environment_names_versions_and_hardware():
    told = environment()
    assert told["versions"]["python"] == sys.version.split()[0]
    assert told["cores"] >= 1
    assert set(told) >= {"commit", "cpu", "gpus", "threads", "command"}


def test_tensorboard_is_written_or_its_extra_is_named(tmp_path: Path):
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        with pytest.raises(InputError, match=r'pip install "cicm\[tensorboard\]"'):
            Log(tmp_path / "log.jsonl", tmp_path / "board")
        return
    log = Log(tmp_path / "log.jsonl", tmp_path / "board")
    log.write(1, loss=1.0)
    log.close()
    assert list((tmp_path / "board").iterdir())
