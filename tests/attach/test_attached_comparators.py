"""A memory attached by module path to networks that compute part of a map by attention, and photos of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cicm.assembly import ModelConfig, build
from cicm.attach import attach
from cicm.inference import Inpainter
from cicm.memory import MemoryConfig
from cicm.networks import create

PATHS = {"gated": ("joined.0", 16), "pen": ("attention.3", 32)}


@pytest.mark.parametrize("name", PATHS)
def test_a_memory_behind_a_module_finds_its_channels_and_is_written(name: str) -> None:
    path, channels = PATHS[name]
    network = create(name, width=4)
    side = network.size.minimum
    attached = attach(network, {path: MemoryConfig(sets=2, contexts=2)})
    assert attached.memory(path).channels == channels
    hole = torch.zeros(2, 1, 2 * side, 2 * side)
    hole[..., : side // 2, : side // 2] = 1
    corrupted = torch.rand(2, 3, 2 * side, 2 * side) * (1 - hole)
    attached(corrupted, hole, hole=hole)
    attached.commit()
    assert attached.memory(path).seeded


@pytest.mark.parametrize(("name", "site"), [("gated", "bottom"), ("pen", "attended4")])
def test_photos_of_any_size_are_filled_and_kept_outside_the_hole(name: str, site: str) -> None:
    model = build(ModelConfig(name, {"width": 4}, {site: MemoryConfig(sets=2, contexts=2)}))
    inpainter = Inpainter(model, device="cpu", fill="network")
    for size in ((37, 91), (130, 64), (9, 11)):
        image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        mask = np.zeros(size, dtype=bool)
        mask[size[0] // 3 : size[0] // 2, 4:9] = True
        half = np.arange(size[1]) < size[1] / 2
        for hole in (mask, np.broadcast_to(half, size)):
            repaired = inpainter(image, hole)
            assert repaired.shape == image.shape
            assert (repaired == image)[~hole].all()
            assert (repaired != image)[hole].mean() > 0.5
