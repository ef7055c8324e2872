"""One holder at a time, known by name, and gone when it is dead."""

from __future__ import annotations

import errno
import json
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cicm.conventions import InputError
from cicm.locks import alone, is_dead, is_of_dead, mark_of_process

HOLD = (
    "import sys, time; from cicm.locks import alone\n"
    "with alone(sys.argv[1], 'x'): print('ready', flush=True); time.sleep(60)\n"
)


def dead_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_who_holds_it_is_told_and_a_killed_holder_holds_nothing(tmp_path: Path) -> None:
    lock = tmp_path / ".lock"
    with subprocess.Popen([sys.executable, "-c", HOLD, lock], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with (
            pytest.raises(InputError, match=f"in use: process {holder.pid} on .*, since 20.*Wait") as told,
            alone(lock, "in use"),
        ):
            pass
        assert "dead" not in str(told.value), "that it is alive is known"
        os.kill(holder.pid, signal.SIGKILL)
    assert lock.exists()
    with alone(lock, "in use"), pytest.raises(InputError, match=f"process {os.getpid()}"), alone(lock, "in use"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_keep_its_parents_lock(tmp_path: Path) -> None:
    """As the processes that read photos for a training, which live a little longer than a killed one."""
    lock, (read, write) = tmp_path / ".lock", os.pipe()
    holder = os.fork()
    if holder == 0:
        with alone(lock, "x"):
            if os.fork() == 0:
                os.write(write, b"r")
                time.sleep(5)
                os._exit(0)
            time.sleep(60)
    os.read(read, 1)
    os.kill(holder, signal.SIGKILL)
    os.waitpid(holder, 0)
    with alone(lock, "x"):
        pass


def test_without_locks_of_the_system_the_owners_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = tmp_path / ".lock"
    with alone(lock, "x"), pytest.raises(InputError, match=str(os.getpid())), alone(lock, "x"):
        pass
    lock.write_text(json.dumps({"pid": dead_process(), "host": platform.node(), "since": "now"}))
    with alone(lock, "x"):
        assert json.loads(lock.read_text())["pid"] == os.getpid()
    lock.write_text(json.dumps({"pid": 1, "host": "another", "since": "now"}))
    with (
        pytest.raises(InputError, match=r"process 1 on another.*If that process is dead, remove .*\.lock"),
        alone(lock, "x"),
    ):
        pass
    lock.write_bytes(b"\xff[")  # it says nothing
    with alone(lock, "x"):
        pass


def test_marks_of_processes() -> None:
    mine, dead = mark_of_process(), dead_process()
    assert not is_of_dead(mine)
    assert is_of_dead(mine.replace(str(os.getpid()), str(dead)))
    assert not is_of_dead(f"00000000-{dead}"), "another machine's"
    for odd in (0, -1, None, "1", 2**70, True):
        assert not is_dead(odd)
