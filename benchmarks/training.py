"""Training images per second on random photos, and how long the step waits for them."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.timing import in_turn
from cicm.assembly import build
from cicm.data.datasets import TrainingPhotos
from cicm.data.generators import HoleGenerator
from cicm.data.loading import TrainingStream
from cicm.recipes import load_recipe


def main() -> list[dict[str, object]]:
    recipe = load_recipe("unet-cicm-scenes")
    size, batch = recipe.data.crop, 8
    with tempfile.TemporaryDirectory() as folder:
        rng = np.random.default_rng(0)
        for index in range(64):  # smooth random pictures: JPEG noise would decode slower than any photo
            small = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8))
            small.resize((size, size), Image.Resampling.BICUBIC).save(Path(folder, f"{index}.jpg"))
        photos = TrainingPhotos(folder, crop=size, holes=HoleGenerator(), seed=0, cache_mb=64)
        stream = iter(TrainingStream(photos, batch_size=batch, seed=0))
        data = next(stream)
        model = build(recipe.model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        image, hole = data["image"].contiguous(memory_format=torch.channels_last), data["hole"]

        def step(bf16: bool) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = (model(image * (1 - hole), hole).prediction.image.float() - image).square().mean()
            loss.backward()

        times = in_turn(
            {
                "loading": lambda: next(stream),
                "forward and backward, float32": lambda: step(False),
                "forward and backward, bfloat16": lambda: step(True),
            },
            rounds=9,
        )
    return [
        {"what": f"{name}, {batch} of {size}x{size}", "images/s": batch / t.median, "time": str(t)}
        for name, t in times.items()
    ]
