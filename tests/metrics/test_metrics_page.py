"""The page about the metrics: its examples run, and it names every metric and protocol."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from cicm.evaluation.presets import PRESETS
from cicm.metrics import METRICS


def test_the_examples_run(root: Path) -> None:
    found = doctest.testfile(str(root / "docs" / "metrics.md"), module_relative=False, encoding="utf-8")
    assert found.failed == 0
    assert found.attempted > 8


@pytest.mark.parametrize("name", [*METRICS, *PRESETS])
def test_every_name_is_on_the_page(root: Path, name: str) -> None:
    assert f"`{name}`" in (root / "docs" / "metrics.md").read_text()
