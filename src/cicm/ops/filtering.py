"""Filtering with a kernel of its own for every pixel and channel, as predictive filtering networks do."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from cicm.conventions import InputError, describe


def filter_pixels(
    image: Float[Tensor, "B C H W"], kernels: Float[Tensor, "B taps H W"], dilation: int = 1, *, share: int = 1
) -> Float[Tensor, "B C H W"]:
    """Weighted sum of each pixel's neighbourhood, with weights that differ from pixel to pixel and channel to channel.

    Tap t = k*i + j of channel c multiplies the zero-padded image at (y + (i - k//2) * dilation, x + (j - k//2) *
    dilation); its weight is plane (c*k*k + t) // share of `kernels`. Weights are taken as they are, not normalised.
    The neighbourhoods are never laid out: one tap after the other is added up, forwards and backwards, which takes
    the memory of one image where `filter_pixels_plain` takes that of k*k. Half precision is summed in float32.

    Args:
        image: (B, C, H, W), of any range.
        kernels: (B, C*k*k / share, H, W) for an odd k, which is inferred.
        dilation: step between neighbours in pixels.
        share: how many consecutive weights are one plane: the channels are stretched by repetition, unmaterialised.

    Returns:
        (B, C, H, W), of the wider dtype of the two. Equal to `image` where the middle tap is 1 and the others 0.

    Raises:
        InputError: the number of planes gives no odd k, or batch or size of the two differ.
        RuntimeError: a second derivative is asked for; `filter_pixels_plain` has it.

    Example:
        >>> image, kernels = torch.arange(4.0).view(1, 1, 1, 4), torch.zeros(1, 9, 1, 4)
        >>> kernels[:, 5] = 1  # the right neighbour
        >>> filter_pixels(image, kernels)[0, 0]
        tensor([[1., 2., 3., 0.]])
    """
    _side(image, kernels, dilation, share)
    if torch.compiler.is_compiling():
        return _spelled_out(image, kernels, dilation, share)
    return _FilterPixels.apply(image, kernels, dilation, share)


def filter_pixels_plain(
    image: Float[Tensor, "B C H W"], kernels: Float[Tensor, "B taps H W"], dilation: int = 1, *, share: int = 1
) -> Float[Tensor, "B C H W"]:
    """The definition of `filter_pixels`: all neighbourhoods side by side, a product, a sum.

    Example:
        >>> image, kernels = torch.rand(1, 8, 5, 6), torch.rand(1, 18, 5, 6)
        >>> plain = filter_pixels_plain(image, kernels, dilation=2, share=4)
        >>> bool((plain - filter_pixels(image, kernels, dilation=2, share=4)).abs().max() < 1e-5)
        True
    """
    side = _side(image, kernels, dilation, share)
    shape = (*image.shape[:2], side * side, *image.shape[2:])
    neighbours = F.unfold(image, side, dilation=dilation, padding=side // 2 * dilation).view(shape)
    return (neighbours * kernels.repeat_interleave(share, 1).view(shape)).sum(2)


def _spelled_out(image: Tensor, kernels: Tensor, dilation: int, share: int) -> Tensor:
    """The same sum without writing in place, for a compiler: it fuses the taps, and derives the way back, itself.

    The in-place form compiles too, but with symbolic sizes it takes about three times as long.
    """
    side = _side(image, kernels, dilation, share)
    area, (height, width) = side * side, image.shape[2:]
    period = share // math.gcd(share, area)
    dtype = torch.promote_types(image.dtype, kernels.dtype)
    padded = F.pad(image.to(_summed_in(dtype)), (side // 2 * dilation,) * 4).unflatten(1, (-1, period))
    planes = kernels.unflatten(1, (-1, period * area // share)).unbind(2)
    total = torch.zeros_like(padded[..., :height, :width])
    for tap in range(area):
        i, j = (offset * dilation for offset in divmod(tap, side))
        weights = torch.stack([planes[(first * area + tap) // share] for first in range(period)], 2)
        total = total + padded[..., i : i + height, j : j + width] * weights
    return total.flatten(1, 2).to(dtype)


def _side(image: Tensor, kernels: Tensor, dilation: int, share: int) -> int:
    """k, once the arguments have been found to fit."""
    if dilation < 1 or share < 1:
        raise InputError(f"dilation and share must be at least 1; got {dilation} and {share}.")
    taps, rest = divmod(kernels.shape[1] * share, image.shape[1])
    side = math.isqrt(taps)
    if rest or side * side != taps or side % 2 == 0:
        raise InputError(
            f"kernels must be (B, C*k*k / share, H, W) with k odd, for an image of {image.shape[1]} channels and share "
            f"{share}; got {describe(kernels)}. For k = 3 give {image.shape[1] * 9 / share:g} planes."
        )
    if image.shape[0] != kernels.shape[0] or image.shape[2:] != kernels.shape[2:]:
        raise InputError(
            f"image and kernels must agree in batch and size; got image {describe(image)} and kernels "
            f"{describe(kernels)}. Predict the kernels at the image's size."
        )
    return side


def _taps(side: int, share: int) -> Iterator[tuple[int, int, slice, slice]]:
    """(i, j, channels, planes): channels that have their weight for tap (i, j) in these planes, one for one.

    Which plane a tap reads repeats itself after a few channels, so that slices with a step reach them all; without
    sharing it does so from channel to channel.
    """
    area = side * side
    period = share // math.gcd(share, area)
    for first in range(period):
        for tap in range(area):
            i, j = divmod(tap, side)
            planes = slice((first * area + tap) // share, None, period * area // share)
            yield i, j, slice(first, None, period), planes


def _window(padded: Tensor, channels: slice, i: int, j: int, height: int, width: int) -> Tensor:
    return padded[:, channels, i : i + height, j : j + width]


class _FilterPixels(torch.autograd.Function):
    """Keeps the two inputs and nothing else for the way back."""

    @staticmethod
    def forward(image: Tensor, kernels: Tensor, dilation: int, share: int) -> Tensor:
        side = _side(image, kernels, dilation, share)
        height, width = image.shape[2:]
        padded = F.pad(image, (side // 2 * dilation,) * 4)
        dtype = torch.promote_types(image.dtype, kernels.dtype)
        total = torch.zeros_like(image, dtype=_summed_in(dtype))
        for i, j, channels, planes in _taps(side, share):
            window = _window(padded, channels, i * dilation, j * dilation, height, width)
            total[:, channels].addcmul_(window, kernels[:, planes])
        return total.to(dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
        image, kernels, ctx.dilation, ctx.share = inputs
        ctx.save_for_backward(image, kernels)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:  # type: ignore[override]
        image, kernels = ctx.saved_tensors
        side = _side(image, kernels, ctx.dilation, ctx.share)
        height, width = image.shape[2:]
        border = side // 2 * ctx.dilation
        padded = F.pad(image, (border,) * 4)
        to_image = torch.zeros_like(padded, dtype=_summed_in(image.dtype))
        # a plane that no two weights share is written once and needs no wider sum
        to_kernels = torch.zeros_like(kernels, dtype=_summed_in(kernels.dtype) if ctx.share > 1 else kernels.dtype)
        for i, j, channels, planes in _taps(side, ctx.share):
            at = (channels, i * ctx.dilation, j * ctx.dilation, height, width)
            if ctx.needs_input_grad[0]:
                _window(to_image, *at).addcmul_(above[:, channels], kernels[:, planes])
            if ctx.needs_input_grad[1]:
                to_kernels[:, planes].addcmul_(above[:, channels], _window(padded, *at))
        inside = _window(to_image, slice(None), border, border, height, width)
        return (
            inside.to(image.dtype) if ctx.needs_input_grad[0] else None,
            to_kernels.to(kernels.dtype) if ctx.needs_input_grad[1] else None,
            None,
            None,
        )


def _summed_in(dtype: torch.dtype) -> torch.dtype:
    """float32 for half precision: nine roundings in a row cost most of what it has."""
    return torch.promote_types(dtype, torch.float32)
