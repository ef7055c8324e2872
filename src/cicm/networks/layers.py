"""Layers that several networks share."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from cicm.conventions import InputError

Norm = Literal["none", "group", "instance"]
Padding = Literal["zeros", "reflect", "replicate"]


def _norm_layer(kind: Norm, channels: int) -> nn.Module:
    """A normalisation that never mixes the images of a batch."""
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
    padding_mode: Padding = "zeros",
) -> nn.Sequential:
    """Convolution, normalisation, rectifier; stride 1 keeps the size, stride 2 halves an even one.

    Args:
        padding_mode: what lies beyond the border; `reflect` needs a map that is larger than the padding.
        slope: negative slope of the rectifier; 0 is a ReLU.
    """
    padding = (kernel - 1) // 2 * dilation if kernel % 2 else (kernel - stride) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=norm == "none", padding_mode=padding_mode)
    # He et al. 2015, for the rectifier that follows: without normalisation 15 layers need the right scale at the start.
    if not conv.weight.is_meta:  # there torch would import its compiler first, which takes a second
        nn.init.kaiming_normal_(conv.weight, a=slope, nonlinearity="leaky_relu")
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return nn.Sequential(conv, _norm_layer(norm, outputs), nn.LeakyReLU(slope) if slope else nn.ReLU())


class TripleConv(nn.Module):
    """Three 3x3 convolutions, each with a bias and a ReLU: the block of kernel prediction networks.

    Args:
        inputs: channels of what comes; only the first convolution sees them.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        # `conv1` with members 0, 2, 4 is also what the originals call it
        self.conv1 = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.ReLU(),
        )

    def forward(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B outputs H W"]:
        return self.conv1(x)


class DilatedResidual(nn.Module):
    """x plus two 3x3 convolutions of it, the first with dilation 2: the residual block of EdgeConnect and its kin.

    Borders are reflected, so that height and width must be at least 3. The sum is not rectified.
    """

    def __init__(self, channels: int, bias: bool = True) -> None:
        super().__init__()
        # `conv_block` with members 1 and 5 is also what the originals call it
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(2),
            nn.Conv2d(channels, channels, 3, dilation=2, bias=bias),
            nn.InstanceNorm2d(channels),
            nn.ReLU(),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3, bias=bias),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.conv_block(x)


def pad_same(x: Float[Tensor, "B C H W"], conv: nn.Conv2d) -> Float[Tensor, "B C h w"]:
    """Zeros around a map so that the convolution that follows, which pads nothing itself, gives ceil(H / stride) rows.

    TensorFlow's `SAME`: what can't be shared evenly goes to the bottom and to the right.

    Example:
        >>> import torch
        >>> pad_same(torch.ones(1, 1, 1, 4), nn.Conv2d(1, 1, (1, 3), stride=2)).flatten()
        tensor([1., 1., 1., 1., 0.])
    """
    sides: list[int] = []
    for axis in (1, 0):
        size, stride = x.shape[2 + axis], conv.stride[axis]
        reach = (conv.kernel_size[axis] - 1) * conv.dilation[axis] + 1
        needed = max((-(-size // stride) - 1) * stride + reach - size, 0)
        sides += [needed // 2, needed - needed // 2]
    return F.pad(x, sides)
