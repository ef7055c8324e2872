"""A network of one size alone: photos of any size reach it in crops of its own."""

from __future__ import annotations

import numpy as np
import pytest

from cicm.assembly import ModelConfig, build
from cicm.conventions import SizeRule
from cicm.inference import Inpainter
from cicm.inference.plan import within
from cicm.inference.settings import FillSettings


@pytest.mark.parametrize("strategy", ["auto", "whole", "crop", "tile", "resize"])
@pytest.mark.parametrize("size", [(20, 27), (32, 32), (50, 40), (150, 210)])
def test_photos_of_any_size_are_filled_and_else_untouched(size: tuple[int, int], strategy: str) -> None:
    inpainter = Inpainter(build(ModelConfig("migan", {"side": 32, "width": 4})), strategy=strategy, fill="network")
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, dtype=bool)
    mask[3:9, 4:9] = mask[size[0] - 8 : size[0] - 3, size[1] // 2 :] = True
    found = inpainter(photo, mask)
    assert np.array_equal(found[~mask], photo[~mask])
    assert (found[mask] != photo[mask]).any()
    assert inpainter.report is not None
    assert inpainter.report.network_size == (32, 32)
    if size == (150, 210):
        assert (len(inpainter.report.crops) > 1) == (strategy in ("auto", "crop", "tile"))


def test_settings_are_kept_within_the_largest_size_alone() -> None:
    settings = FillSettings(strategy="whole")
    assert within(settings, SizeRule(16, 32)) is settings
    kept = within(settings, SizeRule(256, 256, 256))
    assert (kept.max_side, kept.tile, kept.strategy) == (256, 256, "resize")
