"""A small model whose memory is filled, photos to index, and a photo with a mask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cicm.assembly import MemoryInpainter, ModelConfig, build, load_weights, save_weights
from cicm.memory import MemoryConfig
from cicm.ops import as_regions


@dataclass
class Place:
    """What most tests need."""

    weights: Path
    photos: Path
    photo: Path
    mask: Path

    @property
    def model(self) -> MemoryInpainter:
        return load_weights(self.weights).model


def picture(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Smooth, with some noise, different in every corner."""
    y, x = np.mgrid[0:height, 0:width] / 16
    waves = [np.sin(rng.uniform(1, 4) * x + rng.uniform(0, 6)) + np.cos(rng.uniform(1, 4) * y) for _ in range(3)]
    noise = rng.normal(0, 12, (height, width, 3))
    return np.clip(np.stack(waves, -1) * 50 + 128 + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("look")
    rng = np.random.default_rng(3)
    photos = root / "photos"
    (photos / "town").mkdir(parents=True)
    sizes = [(64, 64), (64, 96), (130, 100), (80, 64), (64, 64), (70, 90)]
    for number, size in enumerate(sizes):
        name = f"town/p{number}.png" if number == 3 else f"p{number}.png"
        Image.fromarray(picture(rng, *size)).save(photos / name)

    torch.manual_seed(0)
    config = ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=3, contexts=4)})
    model = build(config).eval()
    found: list[torch.Tensor] = []

    def edit(site: str, features: torch.Tensor) -> torch.Tensor:
        if site == "bottom":
            found.append(as_regions(features))
        return features

    images = torch.stack([torch.from_numpy(picture(rng, 64, 64)).permute(2, 0, 1) / 255 for _ in range(8)])
    with torch.no_grad():
        model.network(images, torch.zeros(8, 1, 64, 64), edit=edit)
    model.memories["bottom"].seed_(found[0], torch.Generator().manual_seed(0))
    weights = save_weights(root / "small.safetensors", model, config)

    Image.fromarray(picture(rng, 64, 96)).save(root / "photo.png")
    hole = np.zeros((64, 96), np.uint8)
    hole[10:45, 20:61] = 255
    Image.fromarray(hole).save(root / "mask.png")
    return Place(weights, photos, root / "photo.png", root / "mask.png")
