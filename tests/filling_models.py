"""Models whose fill is known beforehand, and a small real one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cicm.assembly import MemoryInpainter, ModelConfig, build, save_weights
from cicm.inference import Inpainter
from cicm.memory import MemoryConfig
from cicm.networks import InpaintingNetwork, Prediction
from cicm.networks.contract import SizeRule, unchanged

COLOUR = (0.2, 0.6, 0.4)


class OneColour(InpaintingNetwork):
    """Fills with one colour and remembers what it was shown."""

    size = SizeRule(16, 32)

    def __init__(self, colour: tuple[float, float, float] = COLOUR) -> None:
        super().__init__()
        self.colour = colour
        self.seen: list[tuple[Tensor, Tensor]] = []

    def forward(self, corrupted: Tensor, hole: Tensor, *, edit=unchanged) -> Prediction:
        self.size.check(*corrupted.shape[-2:])
        assert bool((corrupted[hole.expand_as(corrupted) > 0.5] == 0).all())
        assert bool(((hole == 0) | (hole == 1)).all())
        self.seen.append((corrupted.clone(), hole.clone()))
        return Prediction(torch.tensor(self.colour).view(1, 3, 1, 1).expand_as(corrupted).clone())


@pytest.fixture(scope="session")
def one_colour() -> Callable[..., Inpainter]:
    """Makes an inpainter whose network fills with one colour: (colour=COLOUR, **options)."""

    def make(colour: tuple[float, float, float] = COLOUR, **options) -> Inpainter:
        return Inpainter(MemoryInpainter(OneColour(colour)), device="cpu", **{"fill": "network", **options})

    return make


@pytest.fixture
def inpainter(one_colour: Callable[..., Inpainter]) -> Inpainter:
    """Fills with (0.2, 0.6, 0.4)."""
    return one_colour()


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small UNet with a memory, untrained, as a file."""
    torch.manual_seed(0)
    config = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=3)})
    return save_weights(tmp_path_factory.mktemp("weights") / "small.safetensors", build(config), config)
