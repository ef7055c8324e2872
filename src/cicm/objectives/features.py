"""Losses on the maps of a pretrained classifier: perceptual and style (Johnson et al., ECCV 2016; Gatys et al. 2016).

Which classifier it is, and where its weights lie, is the caller's business: features come in as maps, or as a function
that makes them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

Features = Callable[[Tensor, Sequence[str]], list[Tensor]]
"""(images (B, 3, H, W) in [0, 1], names of layers) -> one map (B, C, h, w) for each layer."""


def perceptual(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean absolute difference of the maps, summed over the layers (RFR, MISF).

    Args:
        maps: of a result, one (B, C, h, w) for each layer.
        targets: of the image, of the same shapes.

    Returns:
        scalar >= 0.

    Example:
        >>> import torch
        >>> coarse, fine = torch.ones(1, 4, 1, 1), torch.ones(1, 2, 2, 2)
        >>> perceptual([0 * fine, 0 * coarse], [fine, coarse])
        tensor(2.)
    """
    differences = [(a - b).abs().mean() for a, b in zip(maps, targets, strict=True)]
    return sum(differences[1:], start=differences[0])


def style(maps: Sequence[Tensor], targets: Sequence[Tensor]) -> Float[Tensor, ""]:
    """Mean absolute difference of the Gram matrices, each divided by C * h * w, summed over the layers.

    RFR divides the difference, MISF the matrices; the result is the same.

    Args:
        maps, targets: as for `perceptual`.

    Returns:
        scalar >= 0; it does not change when the cells of a map are shuffled.

    Example:
        >>> import torch
        >>> style([torch.ones(1, 2, 2, 2)], [torch.zeros(1, 2, 2, 2)])
        tensor(0.5000)
    """
    differences = [(_gram(a) - _gram(b)).abs().mean() / a[0].numel() for a, b in zip(maps, targets, strict=True)]
    return sum(differences[1:], start=differences[0])


def _gram(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C C"]:
    """Sums over the cells of the products of two channels each, as they are.

    Example:
        >>> import torch
        >>> _gram(torch.tensor([1.0, 2.0]).view(1, 2, 1, 1))
        tensor([[[1., 2.],
                 [2., 4.]]])
    """
    rows = features.flatten(2)
    return rows @ rows.transpose(1, 2)
