"""Whole graphs: memories, attachments and networks compile without a break, export, and give what eager gives."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from graphs import CHECKS


@pytest.mark.slow
@pytest.mark.parametrize("what", CHECKS)
def test_graphs_give_what_eager_gives(what: str, root: Path) -> None:
    # a process of its own: the shape checks of the tests are Python that no graph holds
    done = subprocess.run(
        [sys.executable, str(root / "tests" / "graphs.py"), what],
        env={**os.environ, "CICM_NO_SHAPE_CHECKS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip().endswith("equal")
