"""The page about the metrics: its examples run, and it names every metric and protocol."""

from __future__ import annotations

import doctest
from pathlib import Path

from cicm.evaluation.presets import PRESETS
from cicm.metrics import METRICS


def test_the_examples_run(root: Path) -> None:
    found = doctest.testfile(str(root / "docs" / "metrics.md"), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted > 8


def test_every_name_is_on_the_page(root: Path) -> None:
    page = (root / "docs" / "metrics.md").read_text()
    assert [name for name in [*METRICS, *PRESETS] if f"`{name}`" not in page] == []
