"""A memory that keeps places: maps of whole photos, in which a hole's cells read at one shared offset.

What is known around a hole says where each of the photos fits best (one offset a photo, by the cosine of the known
cells), and the cells of the hole read there. So the route is read off cells that are known, and shared by all cells of
a hole; no damaged feature chooses for itself. docs/memory-claim.md has what it is worth. Not in the paper.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError

BEST = 3
"""So many photos, those that fit best, are read."""
AROUND = 9
"""Side of the square, in cells, whose known cells say how well a photo fits at its middle."""
_GENERAL = 0.02  # weight of the fit over all known cells, beside the share of known cells in the square


class Placed(NamedTuple):
    """What photos offer at the offsets where they fit best, the best first.

    Args:
        reads: (B, n, C, h, w); borders repeated where an offset reaches beyond a photo.
        fits: (B, n) in [-1, 1], mean cosine over the known cells; a cell beyond the photo counts 0.
        nearby: (B, n, h, w), the same over the known cells near each cell.
        offsets: (B, n, 2), row and column of the photo at which the map's first cell lies.
        photos: (B, n), numbers of the photos.
    """

    reads: Float[Tensor, "B n C h w"]
    fits: Float[Tensor, "B n"]
    nearby: Float[Tensor, "B n h w"]
    offsets: Tensor
    photos: Tensor


def place(
    features: Float[Tensor, "B C h w"],
    share: Float[Tensor, "B 1 h w"],
    maps: Float[Tensor, "M _ H W"],
    mean: Float[Tensor, " C"],
    best: int = BEST,
) -> Placed:
    """Find where photos fit damaged maps, by the sum of cosines over all known cells, at every offset.

    Args:
        features: of damaged pictures.
        share: missing share of each cell; cells without a missing pixel are known.
        maps: (M, C, H, W) of whole photos, of any size.
        mean: subtracted before cosines are taken.
        best: at most so many photos are read.

    Raises:
        InputError: no photo, or another number of channels.

    A picture without a known cell fits nowhere: all its fits are 0. The sums are correlations, taken by FFT.
    """
    _, channels, height, width = features.shape
    if maps.ndim != 4 or not len(maps) or maps.shape[1] != channels:
        raise InputError(f"maps must be (M, {channels}, H, W) with M at least 1; got {tuple(maps.shape)}.")
    tall, wide = maps.shape[2:]
    known = (share == 0).to(features.dtype)
    asked = F.normalize(features - mean[:, None, None], dim=1) * known
    there = F.normalize(maps.to(features.dtype) - mean[:, None, None], dim=1)
    size = (tall + height - 1, wide + width - 1)
    spectrum = torch.einsum("bcyx,mcyx->bmyx", torch.fft.rfft2(asked, s=size).conj(), torch.fft.rfft2(there, s=size))
    scores = torch.fft.irfft2(spectrum, s=size).flatten(2)  # row r is offset r, or r - size where the map begins before
    values, places = scores.max(2)
    values, photos = values.topk(min(best, len(maps)), dim=1)
    places = places.gather(1, photos)
    rows, columns = places // size[1], places % size[1]
    rows, columns = (
        torch.where(rows >= tall, rows - size[0], rows),
        torch.where(columns >= wide, columns - size[1], columns),
    )
    y = (rows[..., None] + torch.arange(height, device=features.device))[..., None]
    x = (columns[..., None] + torch.arange(width, device=features.device))[..., None, :]
    inside = ((y >= 0) & (y < tall) & (x >= 0) & (x < wide)).to(features.dtype)
    y, x = y.clamp(0, tall - 1), x.clamp(0, wide - 1)
    reads = maps[photos[..., None, None], :, y, x].movedim(-1, 2).to(features.dtype)
    alike = (F.normalize(reads - mean[:, None, None], dim=2) * asked[:, None]).sum(2) * inside
    counts = known.sum((1, 2, 3))
    fits = values / counts.clamp_min(1)[:, None] * (counts > 0)[:, None]
    near = (AROUND, 1, AROUND // 2)
    nearby = F.avg_pool2d(alike, *near) + _GENERAL * fits[..., None, None]
    nearby = nearby / (F.avg_pool2d(known, *near) + _GENERAL)
    return Placed(reads, fits, nearby, torch.stack([rows, columns], -1), photos)


class PlaceHead(nn.Module):
    """Damaged features -> what the whole photo has there, with the help of what fits; it abstains where nothing does.

    The reads are mixed by how well they fit, nearby and as a whole, and a null context takes part, as a read whose fit
    is a learned level. So what fits worse than the level counts little. Two 3x3 convolutions (the second dilated by 2)
    make the estimate of the mixture and the damaged features; at the start the estimate is the damaged feature.

    Its buffer `mean`, zeros at first, is to be set to the mean feature of whole photos (C,).

    Args:
        channels: C.
        level: fit of the null context at the start.
    """

    mean: Tensor

    def __init__(self, channels: int, level: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.sharpness = nn.Parameter(torch.tensor(3.0))
        self.level = nn.Parameter(torch.tensor(level))
        self.estimate = nn.Sequential(
            nn.Conv2d(3 * channels + 2, channels, 3, padding=1, padding_mode="replicate"),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 3, padding=2, dilation=2, padding_mode="replicate"),
            nn.LeakyReLU(0.1),
            nn.Conv2d(channels, channels, 1),
        )
        nn.init.zeros_(self.estimate[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.estimate[-1].bias)  # type: ignore[arg-type]

    def forward(
        self, features: Float[Tensor, "B C h w"], share: Float[Tensor, "B 1 h w"], placed: Placed
    ) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B 1 h w"]]:
        """(estimate, trust in [0, 1]); `placed` as from `place`, with this head's `mean`.

        What is not trusted is the share of the null context, which is the mean feature.
        """
        fits = (placed.nearby + placed.fits[..., None, None]) / 2
        null = self.level.expand_as(fits[:, :1])
        weights = (torch.cat([fits, null], 1) * self.sharpness.exp()).softmax(1)[:, :-1, None]
        off = placed.reads - self.mean[:, None, None]
        mixed, trust = (off * weights).sum(1), weights.sum(1)
        best = off[:, 0] * weights[:, 0]
        seen = torch.cat([features, share, trust, mixed, best], 1)
        return features + self.estimate(seen), trust
