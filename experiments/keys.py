"""Memories that are found in other ways: by keys, and by place.

`keys`: each context is kept with what its place looks like when it is damaged, and is found by that.

A damaged feature is like other damaged features, not like whole ones; so the damaged feature that asks is compared with
the damaged look of each context (two complementary patterns of blocks of 48 pixels), and the whole feature is read.
Query and key are learned from the error of what is read; `guess` is the same without a memory. Both are trained on
features that are made once, before the arms of `experiments.worth` train the decoder.

`placed`: contexts keep their places. What is known around a hole says at which offset each of the other photos fits
best (one offset a photo, by the cosine of known cells), and the cells of the hole read at that offset. So the route is
shared by all cells of a hole and is read off cells that are known; no single damaged feature decides.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.files import atomic
from cicm.memory.places import Placed, PlaceHead, place
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
    """Damaged features -> what the whole photo has there, with a memory (`keys`, `placed`) or without (`guess`)."""

    def __init__(self, channels: int, keyed: bool, placed: bool = False) -> None:
        super().__init__()
        self.keyed, self.placed = keyed, placed
        self.register_buffer("mean", torch.zeros(channels))
        self.query = _around(channels + 1, channels)
        self.out = _around(channels * (1 + keyed + 2 * placed) + 1, channels)
        self.key = nn.Sequential(nn.Linear(channels, channels), nn.LeakyReLU(0.1), nn.Linear(channels, channels))
        self.sharpness = nn.Parameter(torch.tensor(2.5))
        nn.init.zeros_(self.out[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.out[-1].bias)  # type: ignore[arg-type]

    @torch.no_grad()
    def place(self, features: Tensor, share: Tensor, albums: list[Tensor]) -> Tensor:
        """(B, 2 C, h, w): the best fit and the mean of the three best; `albums` serve equal parts, in order."""
        reads = placed_in(albums, features, share, self.mean).reads  # type: ignore[arg-type]
        known = (share == 0).flatten(1).any(1)[:, None, None, None]
        return torch.cat([reads[:, 0], reads.mean(1)], 1) * known

    def forward(
        self, features: Tensor, share: Tensor, albums: list, found: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """(estimate, read), both (B, C, h, w); `albums` serve equal parts of the batch, in order.

        Args:
            found: what `place` gives, where it was computed before.
        """
        seen = torch.cat([features, share], 1)
        if self.placed:
            found = self.place(features, share, albums) if found is None else found
            guess = features + self.out(torch.cat([seen, found], 1))
            return guess, guess
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


class Weighed(nn.Module):
    """`PlaceHead` with the calls of an `Estimator`."""

    keyed, placed = False, True

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.head = PlaceHead(channels)

    @property
    def mean(self) -> Tensor:
        return self.head.mean

    @torch.no_grad()
    def place(self, features: Tensor, share: Tensor, albums: list[Tensor]) -> Placed:
        """Where the albums fit; they serve equal parts of the batch, in order."""
        return placed_in(albums, features, share, self.mean)

    def forward(
        self, features: Tensor, share: Tensor, albums: list, found: Placed | None = None
    ) -> tuple[Tensor, Tensor]:
        found = self.place(features, share, albums) if found is None else found
        estimate, trust = self.head(features, share, found)
        return estimate, trust


def placed_in(albums: list[Tensor], features: Tensor, share: Tensor, mean: Tensor) -> Placed:
    """`place` for a batch whose equal parts, in order, have albums of their own."""
    parts = zip(features.chunk(len(albums)), share.chunk(len(albums)), albums, strict=True)
    return stacked([place(f, s, album.float(), mean) for f, s, album in parts])


def half(found: Tensor | Placed) -> Tensor | Placed:
    """Maps in float16, to be kept; places as they are."""
    if isinstance(found, Tensor):
        return found.half()
    return found._replace(reads=found.reads.half())


def whole(found: Placed) -> Placed:
    return found._replace(reads=found.reads.float())


def stacked(parts: list[Placed]) -> Placed:
    """Of several batches one."""
    return Placed(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def error(estimate: Tensor, truth: Tensor, share: Tensor, mean: Tensor) -> Tensor:
    """Squared error over missing cells, over that of the mean feature of all training frames."""
    off = (truth - mean[:, None, None]).square().sum(1, keepdim=True)
    return ((estimate - truth).square().sum(1, keepdim=True) * share).sum() / (off * share).sum().clamp_min(1e-6)


def drawn(values: Tensor, keys: Tensor, rng: np.random.Generator, count: int = COUNT) -> Keyed:
    """`count` regions of an album's maps (M, C, h, w), drawn at random."""
    picked = torch.from_numpy(rng.permutation(len(values) * values[0, 0].numel())[:count])
    return Keyed(as_regions(values)[picked].float(), as_regions(keys)[picked].float())


def fit(
    estimator: Estimator | Weighed,
    samples: tuple[Tensor, Tensor, Tensor, list[int]],
    album_of: dict[int, tuple[Tensor, Tensor]],
    mean: Tensor,
    seed: int,
    saved: Path,
    steps: int = STEPS,
    strange: dict[int, Tensor] | None = None,
    every: int = 3,
) -> list[float]:
    """Train on features made before; the file, where there is one, is taken instead.

    Args:
        samples: damaged features, whole features, missing shares, number of the photo.
        album_of: photo -> values and keys of the other frames.
        strange: photo -> values of frames of another street, which one picture of `every` gets instead.
    """
    if saved.exists():
        estimator.load_state_dict(torch.load(saved, weights_only=True))
        return []
    estimator.mean.copy_(mean)  # type: ignore[operator]
    optimizer = torch.optim.Adam(estimator.parameters(), 1e-3, betas=(0.9, 0.99))
    features, truth, share, photos = samples
    log: list[float] = []
    places: dict[tuple[int, bool], Any] = {}
    for step in range(steps):
        rng = np.random.default_rng((seed, step, 7))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 20) * (0.01 + 0.5 * (1 + np.cos(np.pi * step / steps)))
        picked = rng.integers(0, len(features), BATCH)
        albums: list = [drawn(*album_of[photos[i]], rng) for i in picked] if estimator.keyed else []
        found = None
        if estimator.placed:
            asked = [(i, strange is not None and k % every == every - 1) for k, i in enumerate(picked.tolist())]
            for i, other in asked:  # an album does not change: found once
                if (i, other) not in places:
                    album = strange[photos[i]] if other and strange is not None else album_of[photos[i]][0]
                    one = estimator.place(features[[i]].float(), share[[i]], [album])
                    places[i, other] = half(one)
            kept = [places[key] for key in asked]
            found = torch.cat(kept).float() if isinstance(kept[0], Tensor) else whole(stacked(kept))
        estimate, read = estimator(features[picked].float(), share[picked], albums, found)
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
