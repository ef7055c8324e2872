"""Scores and pictures in the middle of a run: enough to see how it goes, not the scores that are published."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from cicm.assembly import MemoryInpainter
from cicm.files import write_atomic
from cicm.metrics import to_8bit
from cicm.metrics.l1 import l1
from cicm.metrics.psnr import psnr
from cicm.training.batches import ValidationSet

BATCH = 8
GAP = 2  # pixels between the pictures of a grid


@torch.no_grad()
def validate(fabric: Any, model: MemoryInpainter, photos: ValidationSet) -> dict[str, dict[str, float]]:
    """PSNR and L1 of the composites, rounded to 8 bit, per band.

    Returns:
        band -> `psnr` in dB and `l1` in percent, means over the photos.
    """
    scores = {}
    for band in photos.holes:
        ratios, differences = [], []
        for (image, hole), label in zip(photos.batches(band, BATCH), photos.labels_of_batches(BATCH)):
            result = to_8bit(repaired(fabric, model, image, hole, label)[0])
            ratios.append(psnr(result, image))
            differences.append(l1(result, image))
        scores[band] = {"psnr": float(torch.cat(ratios).mean()), "l1": float(torch.cat(differences).mean())}
    return scores


@torch.no_grad()
def repaired(
    fabric: Any, model: MemoryInpainter, image: Tensor, hole: Tensor, label: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Composite and raw prediction of a batch, as float32 on the CPU; `label` as in a batch."""
    image, hole = fabric.to_device(image), fabric.to_device(hole)
    dtype = next(model.parameters()).dtype
    with fabric.autocast():
        known = () if label is None else (fabric.to_device(label),)
        output = model((image * (1 - hole)).to(dtype), hole.to(dtype), *known)
    return output.composite.float().cpu(), output.prediction.image.float().cpu()


@torch.no_grad()
def grid(fabric: Any, model: MemoryInpainter, photos: ValidationSet, count: int) -> Tensor:
    """A picture of pictures: one row per photo and band; image, corrupted, prediction, composite.

    Returns:
        (3, height, width) uint8.
    """
    rows = []
    for band in photos.holes:
        image, hole = next(photos.batches(band, count))
        composite, prediction = repaired(fabric, model, image, hole, next(photos.labels_of_batches(count)))
        for pictures in zip(image, image * (1 - hole), prediction, composite, strict=True):
            rows.append(torch.cat([F.pad(picture, (0, GAP, 0, GAP), value=1.0) for picture in pictures], -1))
    return (torch.cat(rows, -2).clamp(0, 1) * 255).round().to(torch.uint8)


def save_grid(picture: Tensor, path: Path) -> None:
    """Write (3, H, W) uint8 as PNG, atomically."""
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(data, format="PNG")
    write_atomic(path, data.getvalue())
