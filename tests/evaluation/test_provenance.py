"""Where a number comes from: the commit of tracked code, and none for code that is not tracked."""

from __future__ import annotations

import subprocess

import torch

from cicm.evaluation.provenance import commit, hardware, software


def git(folder, *arguments):
    names = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", "-C", str(folder), *names, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_of_tracked_code(tmp_path):
    package = tmp_path / "package" / "room"
    package.mkdir(parents=True)
    code, other = package / "code.py", tmp_path / "package" / "other.py"
    code.write_text("a = 1\n")
    other.write_text("b = 1\n")
    assert commit(code) is None, "no repository"
    git(tmp_path, "init", "-q")
    assert commit(code) is None, "not tracked"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    revision = git(tmp_path, "rev-parse", "HEAD")[:12]
    assert commit(code) == revision
    (tmp_path / "notes.txt").write_text("outside the package\n")
    assert commit(code) == revision
    other.write_text("b = 2\n")
    assert commit(code) == revision + "+changes"


def test_hardware_and_software_are_named():
    assert f"{torch.get_num_threads()} thread(s)" in hardware()
    assert len(hardware().split(",")[0]) > 2
    versions = software()
    assert versions["torch"] == torch.__version__
    assert {"python", "numpy", "pillow"} <= versions.keys()
