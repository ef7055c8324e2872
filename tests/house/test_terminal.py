"""What a person sees meanwhile, and which machine it was."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cicm import machine, terminal
from cicm.terminal import Progress


def test_without_a_terminal_a_plain_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 15))
    monkeypatch.setattr(terminal.time, "monotonic", lambda: float(next(clock)))
    stream = io.StringIO()
    with Progress(4, "photos", stream=stream) as progress:
        for _ in range(4):
            progress.advance(note="a.jpg")
        progress.say("done")
    lines = stream.getvalue().splitlines()
    assert lines[-1] == "done"
    assert 1 <= len(lines[:-1]) < 4
    assert lines[0].startswith("2 of 4 photos, a.jpg, ")
    assert lines[0].endswith("left")


def test_quiet_still_speaks() -> None:
    stream = io.StringIO()
    with Progress(None, quiet=True, stream=stream) as progress:
        progress.update(5, total=9)
        progress.say("a line")
    assert (stream.getvalue(), progress.done, progress.total) == ("a line\n", 5, 9)


def test_libraries_are_silent_and_we_are_not() -> None:
    code = (
        "import os, sys; from cicm.terminal import libraries_silent\n"
        "with libraries_silent() as stream:\n"
        "    os.write(2, b'noise');print('gone', file=sys.stderr); print('ours', file=stream, flush=True)\n"
        "print('after', file=sys.stderr)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "ours\nafter\n"
    code = code.replace("os.write(2, b'noise');", "")
    shut = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code], stdout=-3, check=False)
    assert shut.returncode == 0, "there is no standard error at all"


def test_what_a_number_needs_is_named(tmp_path: Path) -> None:
    found = machine.versions(["numpy", "no-such-package"])
    assert set(found) == {"python", "numpy"}
    assert machine.processor()
    assert machine.commit(tmp_path / "file.py") is None
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file.py").write_text("1")
    for words in (["init", "-q"], ["add", "file.py"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull})
    clean = machine.commit(tmp_path / "file.py")
    assert clean is not None
    assert len(clean) == 12
    (tmp_path / "file.py").write_text("2")
    assert machine.commit(tmp_path / "file.py") == f"{clean}+changes"
