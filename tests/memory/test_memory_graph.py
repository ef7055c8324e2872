"""Whole graphs: a memory inside a network compiles without a break and exports with dynamic sizes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("what", ["compile", "export"])
def test_graphs_give_what_eager_gives(what: str) -> None:
    # a process of its own: the shape checks of the tests are Python that no graph holds
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("graph_check.py")), what],
        env={**os.environ, "CICM_NO_SHAPE_CHECKS": "1"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "equal"
