"""Tiny photos, tiny models, one process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import ModelConfig, build
from cicm.memory import MemoryConfig
from cicm.networks.discriminators import PatchDiscriminator
from cicm.objectives import ObjectiveConfig, Weights
from cicm.training.step import Batch, Players


def read_log(path: Path) -> list[dict[str, Any]]:
    """All records of a run's log."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ALL_TERMS = ObjectiveConfig(weights=Weights(inpaint=1.0, adversarial=0.1, ratio=0.7, inter=0.3, intra=0.2))
NO_ADVERSARIAL = replace(ALL_TERMS, weights=replace(ALL_TERMS.weights, adversarial=0.0))
TINY = ModelConfig(
    "unet",
    {"width": 2},
    {
        "bottom": MemoryConfig(sets=2, contexts=3, write_top=1.0),
        "down2": MemoryConfig(sets=2, contexts=2, write_top=1.0),
    },
)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/ (6 photos) and val/ (3): smooth colours and an edge, 80x72 pixels."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:80, 0:72]
    for part, count in (("train", 6), ("val", 3)):
        (folder / part).mkdir()
        for index in range(count):
            slope, shift, edge = rng.uniform(-1, 1, (2, 3)), rng.uniform(60, 190, 3), rng.integers(20, 50)
            pixels = shift + slope[0] * x[..., None] + slope[1] * y[..., None] + 40.0 * (x > edge)[..., None]
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / part / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def fabric64():
    """The engine on one CPU process; it leaves dtypes alone."""
    from lightning_fabric import Fabric

    return Fabric(accelerator="cpu", devices=1, precision="32-true")


@pytest.fixture
def make_players(fabric64) -> Callable[..., Players]:
    """make_players(adversarial=False, config=TINY): models with seeded memories, always the same ones."""

    def make(adversarial: bool = False, config: ModelConfig = TINY) -> Players:
        torch.manual_seed(3)
        bare = build(config).double()
        judge = PatchDiscriminator(width=2).double()
        generator = torch.Generator().manual_seed(5)
        for memory in bare.memories.values():
            memory.seed_(torch.rand(40, memory.channels, generator=generator), generator)
            torch.nn.init.normal_(memory.ratio_head.weight, std=0.1, generator=generator)
        model, optimizer = fabric64.setup(bare, torch.optim.AdamW(bare.parameters(), 1e-3))
        players = Players(model, optimizer, bare)
        if adversarial:
            optimizer = torch.optim.AdamW(judge.parameters(), 1e-3)
            players.discriminator, players.discriminator_optimizer = fabric64.setup(judge, optimizer)
            players.bare_discriminator = judge
        return players

    return make


@pytest.fixture
def batch() -> Batch:
    """Four 64x64 images with a box missing in each, of another size in each, in float64."""
    generator = torch.Generator().manual_seed(11)
    coarse = torch.rand(4, 3, 8, 8, dtype=torch.float64, generator=generator)
    image = torch.nn.functional.interpolate(coarse, size=64, mode="bilinear")
    hole = torch.zeros(4, 1, 64, 64, dtype=torch.float64)
    for index, side in enumerate((10, 20, 30, 40)):
        hole[index, :, 5 : 5 + side, 7 : 7 + side] = 1
    return {"image": image, "hole": hole}
