"""Learning: four images are learned by heart, far better than filling with the mean."""

from __future__ import annotations

import numpy as np
import torch

from cicm.assembly import ModelConfig, build
from cicm.data.generators import HoleGenerator
from cicm.memory import MemoryConfig
from cicm.metrics import to_8bit
from cicm.metrics.psnr import psnr
from cicm.objectives import ObjectiveConfig, Weights
from cicm.ops import composite
from cicm.training.step import Players, take_step


def test_overfits_four_images_and_beats_the_mean_fill(fabric64):
    coarse = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(2))
    image = torch.nn.functional.interpolate(coarse, size=32, mode="bilinear", align_corners=True)
    rng = np.random.default_rng(0)
    hole = torch.stack([HoleGenerator(["20-40"], ["boxes"])(32, 32, rng) for _ in range(4)])
    batch = {"image": image, "hole": hole}

    torch.manual_seed(0)
    bare = build(ModelConfig("unet", {"width": 4}, {"bottom": MemoryConfig(sets=2, contexts=4)}))
    with torch.no_grad():
        regions = bare(image, torch.zeros_like(hole)).reads["bottom"][0].regions
    bare.memories["bottom"].seed_(regions, torch.Generator().manual_seed(0))
    model, optimizer = fabric64.setup(bare, torch.optim.AdamW(bare.parameters(), 3e-3))
    objective = ObjectiveConfig(weights=Weights(adversarial=0.0, inter=0.01, intra=0.01))
    terms = [
        take_step(fabric64, Players(model, optimizer, bare), batch, objective, clip=1.0).numbers for _ in range(120)
    ]

    known = 1 - hole
    mean = (image * known).sum((2, 3), keepdim=True) / known.sum((2, 3), keepdim=True)
    filled = composite(mean.expand_as(image), image * known, hole)
    with torch.no_grad():
        ours = bare.eval()(image * known, hole).composite
    gain = psnr(to_8bit(ours), image) - psnr(to_8bit(filled), image)
    assert terms[-1]["inpaint"] < 0.1 * terms[0]["inpaint"]
    assert gain.min() > 3, gain  # dB, on each of the four
