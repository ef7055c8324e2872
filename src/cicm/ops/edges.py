"""Edges of photos with holes: Canny's detector on the known pixels alone."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from cicm.conventions import InputError

WIDTHS = 4.0  # the Gaussian is cut off at so many of its standard deviations
_FORWARD = ((0, 1), (1, -1), (1, 0), (1, 1))
"""Half of a pixel's eight neighbours; the other half has the pixel for a neighbour."""


def canny(
    gray: Float[Tensor, "B 1 H W"],
    known: Float[Tensor, "B 1 H W"],
    sigma: float = 2.0,
    low: float = 0.1,
    high: float = 0.2,
) -> Float[Tensor, "B 1 H W"]:
    """Thin edges of the known part (Canny, "A Computational Approach to Edge Detection", 1986).

    Smooth with a Gaussian whose weights count known pixels only; take Sobel's gradient; keep the ridges of its length;
    of these keep each 8-connected chain of at least `low` that reaches `high` somewhere. Pixels that touch the hole or
    the border are no edges. What lies in the hole has no influence, pictures of a batch have none on each other.

    One operator of its own, `cicm::canny`: the length of a chain decides how long it takes, which no graph could hold.
    It computes in float64 (float32 where a device has no more), because a rounding decides between two equal ridges.

    Args:
        gray: (B, 1, H, W) in [0, 1]. No gradient flows to it.
        known: (B, 1, H, W), 1 = known, which is `1 - hole`.
        sigma: of the Gaussian, in pixels.
        low: least length of the gradient, as Sobel's kernel with weights 1, 2, 1 gives it.
        high: what a chain must reach somewhere.

    Returns:
        (B, 1, H, W) of 0 and 1, dtype of `gray`. Equal to `skimage.feature.canny(gray, sigma, mask=known)`.

    Raises:
        InputError: sigma is not positive, or high is below low.

    Example:
        >>> picture = torch.zeros(1, 1, 16, 16)
        >>> picture[..., 8:] = 1
        >>> edges = canny(picture, torch.ones_like(picture), sigma=1.0)
        >>> edges.sum((0, 1, 2)).int().tolist()
        [0, 0, 0, 0, 0, 0, 0, 14, 14, 0, 0, 0, 0, 0, 0, 0]
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InputError(f"sigma must be positive and finite; got {sigma}. The usual value is 2.")
    if not 0 < low <= high:
        raise InputError(f"low and high must be positive, low not above high; got {low} and {high}.")
    return _canny(gray.detach(), known.detach(), sigma, low, high)


def _find(gray: Tensor, known: Tensor, sigma: float, low: float, high: float) -> Tensor:
    wide = torch.float32 if gray.device.type == "mps" else torch.float64
    inside = known > 0.5
    smooth = _smoothed(torch.where(inside, gray.to(wide), 0), inside.to(wide), sigma)

    # Sobel, and the length of the gradient
    rim = F.pad(smooth, (1, 1, 1, 1), mode="replicate")
    down = rim[..., 2:, :] - rim[..., :-2, :]
    down = down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]
    right = rim[..., 2:] - rim[..., :-2]
    right = right[..., :-2, :] + 2 * right[..., 1:-1, :] + right[..., 2:, :]
    length = (down * down + right * right).sqrt()

    # Candidates: strong enough, touching neither hole nor border
    surrounded = -F.max_pool2d(-F.pad(inside.to(wide), (1, 1, 1, 1)), 3, stride=1)
    at = ((surrounded > 0.5) & (length >= low)).flatten().nonzero().squeeze(1)
    at = at[_on_ridge(length, down, right, at)]

    kept = at[_reached(length.shape, at, length.flatten()[at] >= high)]
    edges = torch.zeros(gray.numel(), dtype=gray.dtype, device=gray.device)
    return edges.index_fill_(0, kept, 1).view(gray.shape)


def _smoothed(image: Tensor, known: Tensor, sigma: float) -> Tensor:
    """Weighted averages of the known pixels alone; 0 where none is near."""
    radius = int(WIDTHS * sigma + 0.5)
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device) / sigma) ** 2)
    weights = weights / weights.sum()
    both = torch.cat([image, known])
    both = F.conv2d(both, weights.view(1, 1, -1, 1), padding=(radius, 0))
    both = F.conv2d(both, weights.view(1, 1, 1, -1), padding=(0, radius))
    total, share = both.chunk(2)
    return total / (share + torch.finfo(share.dtype).eps)


def _on_ridge(length: Tensor, down: Tensor, right: Tensor, at: Tensor) -> Tensor:
    """Which of the pixels `at` (flat indices, none on the border) are as long as both sides across the edge.

    The gradient leaves the ring of eight neighbours between two of them; there its length is interpolated.
    """
    row = length.shape[-1]
    length, down, right = length.flatten(), down.flatten()[at], right.flatten()[at]
    steep, flat = down.abs(), right.abs()
    slant = torch.minimum(steep, flat) / torch.maximum(steep, flat)
    below, beside = torch.where(down < 0, -row, row), torch.where(right < 0, -1, 1)
    straight = torch.where(steep > flat, below, beside)
    here = length[at]

    def side(sign: int) -> Tensor:
        corner, middle = length[at + sign * (below + beside)], length[at + sign * straight]
        return corner * slant + middle * (1 - slant)

    return (side(1) <= here) & (side(-1) <= here)


def _reached(shape: torch.Size, at: Tensor, strong: Tensor) -> Tensor:
    """Which of the pixels `at` are 8-connected, through others of them, with a strong one.

    Connected components by hooking and pointer jumping (Zhang, Azad and Hu, FastSV, 2020): the number of rounds grows
    with the logarithm of a chain's length, where growing pixel by pixel takes as many as the chain has pixels.
    """
    height, width = shape[-2:]
    number = torch.full((math.prod(shape),), -1, device=at.device)
    number[at] = torch.arange(len(at), device=at.device)
    number = F.pad(number.view(-1, height, width), (1, 1, 0, 1), value=-1)
    here = number[:, :height, 1 : width + 1]
    pairs = []
    for y, x in _FORWARD:
        there = number[:, y : y + height, 1 + x : 1 + x + width]
        joined = (here >= 0) & (there >= 0)
        pairs.append(torch.stack([here[joined], there[joined]]))
    one, other = torch.cat(pairs, 1)
    one, other = torch.cat([one, other]), torch.cat([other, one])

    label = torch.arange(len(at), device=at.device)
    while True:
        higher = label[label]
        lower = higher.scatter_reduce(0, label[one], higher[other], "amin").scatter_reduce(
            0, one, higher[other], "amin"
        )
        if torch.equal(lower, label):
            break
        label = lower
    good = torch.zeros(len(at), dtype=torch.bool, device=at.device)
    good[label[strong]] = True
    return good[label]


_canny = torch.library.custom_op(
    "cicm::canny",
    _find,
    mutates_args=(),
    schema="(Tensor gray, Tensor known, float sigma, float low, float high) -> Tensor",
)


@_canny.register_fake
def _shape_of_canny(gray: Tensor, known: Tensor, sigma: float, low: float, high: float) -> Tensor:
    return torch.empty_like(gray)
