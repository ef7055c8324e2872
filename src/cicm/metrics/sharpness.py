"""`sharpness`: is the fill as sharp as what is around it?"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, check_hole
from cicm.metrics.pixels import as_double
from cicm.metrics.registry import Metric
from cicm.metrics.state import Batch, PerImage, Running

RING_PIXELS = 16  # width of the ring around the hole
_FLOOR = 0.1 / 255
"""Added above and below: a tenth of an 8-bit step, so that a flat fill in a flat sky is 1 and not 0 / 0."""


def sharpness(composite: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B"]:
    """Mean absolute Laplacian in the hole over that in a ring around it.

    The Laplacian is `4 x - up - down - left - right`, for each colour by itself; at the border of the picture the
    missing neighbour is the pixel itself. The mean above is over all pixels of the hole and their colours, the mean
    below over all known pixels that are at most 16 pixels from the hole by the larger of both axes. A tenth of an 8-bit
    step is added to both means.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image. The complete picture is not needed.
        hole: (B, 1, H, W), 1 = missing.

    Returns:
        (B,) float64, above 0. 1 is as sharp as the surroundings, which photos themselves are on average; a blurred fill
        is near 0, noise above 1. Whether the content is right it does not see.

    Raises:
        InputError: a picture without a hole, or without a known pixel.

    Example:
        >>> import torch
        >>> hole = torch.zeros(1, 1, 8, 8)
        >>> hole[..., 2:6, 2:6] = 1
        >>> sharpness(torch.full((1, 3, 8, 8), 0.5), hole)
        tensor([1.], dtype=torch.float64)
    """
    check_hole(hole, composite)
    ring = F.max_pool2d(hole.float(), 2 * RING_PIXELS + 1, stride=1, padding=RING_PIXELS) * (1 - hole.float())
    inside, around = (as_double(part) for part in (hole, ring))
    if not bool((inside.sum(dim=(1, 2, 3)) * around.sum(dim=(1, 2, 3))).all()):
        raise InputError("sharpness needs a hole and known pixels in every picture; got one without. Leave it out.")
    padded = F.pad(as_double(composite), (1, 1, 1, 1), mode="replicate")
    middle = padded[:, :, 1:-1, 1:-1]
    vertical = padded[:, :, :-2, 1:-1] + padded[:, :, 2:, 1:-1]
    horizontal = padded[:, :, 1:-1, :-2] + padded[:, :, 1:-1, 2:]
    detail = (4 * middle - vertical - horizontal).abs().mean(dim=1, keepdim=True)
    above, below = ((detail * part).sum(dim=(1, 2, 3)) / part.sum(dim=(1, 2, 3)) + _FLOOR for part in (inside, around))
    return above / below


def _score(batch: Batch) -> Tensor:
    if batch.hole is None:
        raise InputError("sharpness needs to know the hole. Call update(composite, image, hole).")
    return sharpness(batch.composite, batch.hole)


def running(metric: Metric) -> Running:
    protocol = {"operator": "4-neighbour Laplacian, absolute, RGB", "ring": f"{RING_PIXELS} pixels, known"}
    return PerImage(metric, _load, protocol)


def _load() -> Callable[[Batch], Tensor]:
    return _score
