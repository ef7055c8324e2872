"""A memory with keys: each context is kept with what its place looks like when it is damaged, and is found by that.

A damaged feature is like other damaged features, not like whole ones; so the damaged feature that asks is compared with
the damaged look of each context (two complementary patterns of blocks of 48 pixels), and the whole feature is read.
Query and key are learned from the error of what is read; `guess` is the same without a memory. Both are trained on
features that are made once, before the arms of `experiments.worth` train the decoder.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.files import atomic
from cicm.ops import as_map, as_regions

BLOCK, COUNT, STEPS, SAMPLES, BATCH = 48, 520, 400, 1200, 12


class Keyed(NamedTuple):
    """(N, C) whole features and, in the same rows, the damaged look of each."""

    values: Tensor
    keys: Tensor


def blocks(height: int, width: int, odd: int) -> Tensor:
    """(1, 1, H, W): every second block is missing."""
    y, x = np.mgrid[:height, :width]
    return torch.from_numpy(((y // BLOCK + x // BLOCK) % 2 == odd).astype(np.float32))[None, None]


def _around(inputs: int, channels: int) -> nn.Sequential:
    shared = {"padding_mode": "replicate"}
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, padding=1, **shared),  # type: ignore[arg-type]
        nn.LeakyReLU(0.1),
        nn.Conv2d(channels, channels, 3, padding=2, dilation=2, **shared),  # type: ignore[arg-type]
        nn.LeakyReLU(0.1),
        nn.Conv2d(channels, channels, 1),
    )


class Estimator(nn.Module):
    """Damaged features -> what the whole photo has there, with a memory (`keys`) or without (`guess`)."""

    def __init__(self, channels: int, keyed: bool) -> None:
        super().__init__()
        self.keyed = keyed
        self.query = _around(channels + 1, channels)
        self.out = _around(channels * (2 if keyed else 1) + 1, channels)
        self.key = nn.Sequential(nn.Linear(channels, channels), nn.LeakyReLU(0.1), nn.Linear(channels, channels))
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        nn.init.zeros_(self.out[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[-1].bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor, share: Tensor, albums: list[Keyed]) -> tuple[Tensor, Tensor]:
        """(estimate, read), both (B, C, h, w); `albums` serve equal parts of the batch, in order."""
        seen = torch.cat([features, share], 1)
        if not self.keyed:
            guess = features + self.out(seen)
            return guess, guess
        reads = []
        queries = self.query(seen).chunk(len(albums))
        for part, album in zip(queries, albums, strict=True):
            asked, keys = F.normalize(as_regions(part), dim=-1), F.normalize(self.key(album.keys), dim=-1)
            reads.append(as_map((asked @ keys.T * self.sharpness.exp()).softmax(-1) @ album.values, part))
        read = torch.cat(reads)
        return read + self.out(torch.cat([seen, read], 1)), read


def error(estimate: Tensor, truth: Tensor, share: Tensor, mean: Tensor) -> Tensor:
    """Squared error over missing cells, over that of the mean feature of all training frames."""
    off = (truth - mean[:, None, None]).square().sum(1, keepdim=True)
    return ((estimate - truth).square().sum(1, keepdim=True) * share).sum() / (off * share).sum().clamp_min(1e-6)


def drawn(values: Tensor, keys: Tensor, rng: np.random.Generator, count: int = COUNT) -> Keyed:
    """`count` regions of an album's maps (M, C, h, w), drawn at random."""
    picked = torch.from_numpy(rng.permutation(len(values) * values[0, 0].numel())[:count])
    return Keyed(as_regions(values)[picked].float(), as_regions(keys)[picked].float())


def fit(
    estimator: Estimator,
    samples: tuple[Tensor, Tensor, Tensor, list[int]],
    album_of: dict[int, tuple[Tensor, Tensor]],
    mean: Tensor,
    seed: int,
    saved: Path,
    steps: int = STEPS,
) -> list[float]:
    """Train on features made before; the file, where there is one, is taken instead.

    Args:
        samples: damaged features, whole features, missing shares, number of the photo.
        album_of: photo -> values and keys of the other frames.
    """
    if saved.exists():
        estimator.load_state_dict(torch.load(saved, weights_only=True))
        return []
    optimizer = torch.optim.Adam(estimator.parameters(), 1e-3, betas=(0.9, 0.99))
    features, truth, share, photos = samples
    log = []
    for step in range(steps):
        rng = np.random.default_rng((seed, step, 7))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * (0.01 + 0.5 * (1 + np.cos(np.pi * step / steps)))
        picked = rng.integers(0, len(features), BATCH)
        albums = [drawn(*album_of[photos[i]], rng) for i in picked] if estimator.keyed else []
        estimate, read = estimator(features[picked].float(), share[picked], albums)
        told = truth[picked].float()
        loss = error(estimate, told, share[picked], mean)
        log.append(loss.item())
        if estimator.keyed:
            loss = loss + error(read, told, share[picked], mean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with atomic(saved) as part:
        torch.save(estimator.state_dict(), part)
    return log
