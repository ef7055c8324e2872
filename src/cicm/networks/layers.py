"""Layers that several networks share."""

from __future__ import annotations

from typing import Literal

from torch import nn

from cicm.conventions import InputError

Norm = Literal["none", "group", "instance"]


def norm_layer(kind: Norm, channels: int) -> nn.Module:
    """A normalisation that never mixes the images of a batch.

    Raises:
        InputError: an unknown kind.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "group":
        return nn.GroupNorm(next(g for g in (8, 4, 2, 1) if channels % g == 0), channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    raise InputError(f"norm must be none, group or instance; got {kind!r}.")


def conv_block(
    inputs: int,
    outputs: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    norm: Norm = "none",
    slope: float = 0.0,
) -> nn.Sequential:
    """Convolution, normalisation, rectifier; stride 1 keeps the size, stride 2 halves an even one.

    Args:
        slope: negative slope of the rectifier; 0 is a ReLU.
    """
    padding = (kernel - 1) // 2 * dilation if kernel % 2 else (kernel - stride) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=norm == "none")
    # He et al. 2015, for the rectifier that follows: without normalisation 15 layers need the right scale at the start.
    nn.init.kaiming_normal_(conv.weight, a=slope, nonlinearity="leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, norm_layer(norm, outputs), nn.LeakyReLU(slope) if slope else nn.ReLU())
