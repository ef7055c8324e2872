"""First fills, without parameters: smooth ones that a network then corrects."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_HALVINGS = 4
_WIDER = (3, 7)  # windows of the averages over the lowest level: 48 and 112 pixels
PLANES_FLOATS = 2**17


def pull_push(corrupted: Float[Tensor, "B C H W"], hole: Float[Tensor, "B 1 H W"]) -> Float[Tensor, "B C H W"]:
    """Fill the hole smoothly from what surrounds it (after the pull-push of Gortler et al., The Lumigraph, 1996).

    Pull: averages over the known pixels alone, of 2, 4, 8 and 16 pixels, then of wider windows that overlap, last of
    the whole image. Push: from the widest on, a cell takes its own average as far as it is known and the wider one
    for the rest. The number of levels is fixed, so that the function exports with dynamic sizes.

    Args:
        corrupted: (B, C, H, W), H and W at least 16.
        hole: (B, 1, H, W), 1 = missing; an image without any known pixel is filled with 0.

    Returns:
        (B, C, H, W), equal to `corrupted` outside the hole bit for bit, and within its range.

    Example:
        >>> image, hole = torch.full((1, 3, 32, 32), 0.5), torch.zeros(1, 1, 32, 32)
        >>> hole[..., 2:30, 2:30] = 1
        >>> bool((pull_push(image * (1 - hole), hole) - 0.5).abs().max() < 1e-6)
        True
    """
    known = 1 - hole
    pyramid = [(corrupted * known, known)]
    for _ in range(_HALVINGS):
        colour, weight = pyramid[-1]
        # count_include_pad=False: an average over cells that exist; ceil_mode: odd borders are kept
        pool: dict[str, Any] = {"kernel_size": 2, "ceil_mode": True, "count_include_pad": False}
        pyramid.append((F.avg_pool2d(colour, **pool), F.avg_pool2d(weight, **pool)))
    lowest = pyramid[-1]
    for window in _WIDER:
        pool = {"kernel_size": window, "stride": 1, "padding": window // 2, "count_include_pad": False}
        pyramid.append((F.avg_pool2d(lowest[0], **pool), F.avg_pool2d(lowest[1], **pool)))
    colour, weight = lowest
    tiny = torch.finfo(weight.dtype).tiny  # not more: one known pixel of many millions still has its colour
    filled = colour.mean((2, 3), keepdim=True) / weight.mean((2, 3), keepdim=True).clamp_min(tiny)
    for colour, weight in reversed(pyramid):
        if filled.shape[-2:] != colour.shape[-2:]:
            filled = F.interpolate(filled, size=colour.shape[-2:], mode="bilinear", align_corners=False)
        filled = colour + (1 - weight) * filled
    return torch.where(hole > 0.5, filled, corrupted)


def biharmonic(
    corrupted: Float[Tensor, "B 3 H W"], hole: Float[Tensor, "B 1 H W"], *, steps: int = 32
) -> Float[Tensor, "B 3 H W"]:
    """Fill the hole towards the surface that bends least: conjugate gradients on the sum of squared Laplacians.

    Begins from `pull_push`. A fixed number of steps, so that it exports and takes the same time for any hole: in thin
    holes that reaches the biharmonic solution (as scikit-image's `inpaint_biharmonic` has it), in wide ones the rim
    bends and the middle stays smooth, which scores better there than the solution itself.

    Args:
        corrupted: (B, 3, H, W), H and W at least 16.
        hole: (B, 1, H, W), 1 = missing.
        steps: conjugate gradient steps (Hestenes and Stiefel, 1952), each two Laplacians.

    Returns:
        (B, 3, H, W), equal to `corrupted` outside the hole bit for bit; may leave its range inside, where it carries
        no gradient.

    Example:
        >>> ramp = torch.linspace(0, 1, 32).expand(1, 3, 32, 32)
        >>> hole = torch.zeros(1, 1, 32, 32)
        >>> hole[..., 12:18] = 1
        >>> errors = [(fill(ramp * (1 - hole), hole) - ramp).abs().max() for fill in (pull_push, biharmonic)]
        >>> bool(errors[1] < 0.1 * errors[0])
        True
    """
    with torch.no_grad():
        first = pull_push(corrupted, hole)
        if torch.compiler.is_compiling() or first.is_cuda:
            filled = _bent(first, hole, steps)
        else:
            # A few planes at a time on a CPU: they stay in the cache, which is several times faster. No plane depends
            # on another either way.
            few = max(1, PLANES_FLOATS // (first.shape[-2] * first.shape[-1]))
            planes = first.contiguous().flatten(0, 1)[:, None].split(few)
            holes = hole.expand_as(first).contiguous().flatten(0, 1)[:, None].split(few)
            pieces = [_bent(plane, missing, steps) for plane, missing in zip(planes, holes, strict=True)]
            filled = torch.cat(pieces).view(first.shape)
    return torch.where(hole > 0.5, filled, corrupted)


def _bent(first: Tensor, hole: Tensor, steps: int) -> Tensor:
    filled, inside = first, (hole > 0.5).to(first.dtype)

    def total(product: Tensor) -> Tensor:
        return product.sum((2, 3), keepdim=True)

    residual = -_laplacian(_laplacian(filled)) * inside
    direction, size = residual, total(residual * residual)
    for _ in range(steps):
        bent = _laplacian(_laplacian(direction)) * inside
        # The clamps only matter where nothing is left to do: then every step is 0.
        step = size / total(direction * bent).clamp_min(1e-20)
        filled, residual = filled + step * direction, residual - step * bent
        before, size = size, total(residual * residual)
        direction = residual + size / before.clamp_min(1e-20) * direction
    return filled


def _laplacian(image: Tensor) -> Tensor:
    """Sum of the four neighbours' differences, those beyond the border left out; its own adjoint."""
    wide = F.pad(image, (1, 1, 1, 1), mode="replicate")
    return wide[..., :-2, 1:-1] + wide[..., 2:, 1:-1] + wide[..., 1:-1, :-2] + wide[..., 1:-1, 2:] - 4 * image
