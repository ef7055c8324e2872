"""Fourier convolutions: layers that see a whole map at once.

"Fast Fourier Convolution" (NeurIPS 2020), in the form that LaMa has it. A map is two tensors side by side: local
channels, which 3x3 convolutions see, and global ones, of which a 1x1 convolution also sees the spectrum.

Its batch norms normalise by statistics of the batch, so that pictures of a batch influence each other in training.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.nn import functional as F


class FourierUnit(nn.Module):
    """A 1x1 convolution of the spectrum, with batch norm and ReLU.

    Real and imaginary parts are channels side by side (c0 real, c0 imaginary, c1 real, ...).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * inputs, 2 * outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(2 * outputs)

    def forward(self, x: Float[Tensor, "B inputs h w"]) -> Float[Tensor, "B outputs h w"]:
        planes = spectrum_planes(x if x.dtype == torch.float64 else x.float())  # no transform in half precision
        planes = F.relu(self.norm(self.conv(planes)))
        return from_spectrum_planes(planes, x.shape[-1]).to(x.dtype)


def spectrum_planes(x: Float[Tensor, "B C h w"]) -> Float[Tensor, "B 2*C h half"]:
    """The orthonormal real transform over rows and columns; w // 2 + 1 columns, parts interleaved on channels.

    Example:
        >>> spectrum_planes(torch.ones(1, 1, 2, 2))[0, 0]
        tensor([[2., 0.],
                [0., 0.]])
    """
    parts = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))
    return parts.permute(0, 1, 4, 2, 3).flatten(1, 2)


def from_spectrum_planes(planes: Float[Tensor, "B twice h half"], width: int) -> Float[Tensor, "B C h w"]:
    """The inverse, also of planes that are no real map's spectrum.

    The inverse is complex over the rows and then real over the columns, where the imaginary part of column 0, and for
    an even width of the last one, counts for nothing. That is what libraries do on a CPU; elsewhere an inverse in one
    call gives other numbers for such planes. Written out, it is the same everywhere.

    Args:
        width: of the map; the planes do not tell whether it is odd.

    Example:
        >>> x = torch.rand(2, 3, 4, 5)
        >>> torch.allclose(from_spectrum_planes(spectrum_planes(x), 5), x, atol=1e-6)
        True
    """
    parts = planes.float() if planes.dtype != torch.float64 else planes
    spectrum = torch.view_as_complex(parts.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2).contiguous())
    return real_inverse(torch.fft.ifft(spectrum, dim=-2, norm="ortho"), width)


def real_inverse(rows: Complex[Tensor, "B C h half"], width: int) -> Float[Tensor, "B C h w"]:
    """The orthonormal real inverse over the last axis, without what has no real counterpart.

    Example:
        >>> real_inverse(torch.tensor([[[[2 + 9j, 0j]]]]), 2)
        tensor([[[[1.4142, 1.4142]]]])
    """
    column = torch.arange(rows.shape[-1], device=rows.device)
    paired = (column > 0) & (2 * column != width)
    return torch.fft.irfft(torch.complex(rows.real, rows.imag * paired), n=width, norm="ortho")


class SpectralTransform(nn.Module):
    """From global channels to global ones: half the channels, plus their Fourier unit, and back to all.

    Args:
        stride: 2 halves the map first, by averages.
        quarters: adds the Fourier unit of the map's quarters, stacked on a quarter of the channels; LaMa has none.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, quarters: bool = False) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.shrink = nn.Conv2d(inputs, half, 1, bias=False)
        self.norm = nn.BatchNorm2d(half)
        self.unit = FourierUnit(half, half)
        self.quarter_unit = FourierUnit(half, half) if quarters else None
        self.grow = nn.Conv2d(half, outputs, 1, bias=False)

    def forward(self, x: Float[Tensor, "B inputs H W"]) -> Float[Tensor, "B outputs h w"]:
        x = F.avg_pool2d(x, 2) if self.stride == 2 else x
        x = F.relu(self.norm(self.shrink(x)))
        total = x + self.unit(x)
        if self.quarter_unit is not None:
            few = x[:, : x.shape[1] // 4]
            pieces = torch.cat(torch.cat(few.chunk(2, 2), 1).chunk(2, 3), 1)
            total = total + self.quarter_unit(pieces).repeat(1, 1, 2, 2)
        return self.grow(total)


class FourierConvolution(nn.Module):
    """Local and global channels to local and global ones, each with batch norm and ReLU.

    local' = ReLU(norm(local to local + global to local)); global' = ReLU(norm(local to global + spectral transform)).
    The convolutions have no bias and reflect at the border, so that a map must be larger than `padding`.

    Args:
        inputs, outputs: (local, global) channels; no global ones make it a plain layer on that side.
        kernel, stride, padding: of the convolutions.
    """

    def __init__(
        self,
        inputs: tuple[int, int],
        outputs: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
    ) -> None:
        super().__init__()
        how: dict[str, Any] = {"stride": stride, "padding": padding, "padding_mode": "reflect", "bias": False}
        self.local_local = nn.Conv2d(inputs[0], outputs[0], kernel, **how)
        self.global_local = nn.Conv2d(inputs[1], outputs[0], kernel, **how) if inputs[1] else None
        self.local_global = nn.Conv2d(inputs[0], outputs[1], kernel, **how) if outputs[1] else None
        both = bool(inputs[1] and outputs[1])
        self.global_global = SpectralTransform(inputs[1], outputs[1], stride) if both else None
        self.norm_local = nn.BatchNorm2d(outputs[0])
        self.norm_global = nn.BatchNorm2d(outputs[1]) if outputs[1] else None

    def forward(self, near: Tensor, far: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, local, H, W) and (B, global, H, W) -> the same two at the layer's stride; None where there are none."""
        local, wide = self.local_local(near), None
        if self.global_local is not None:
            local = local + self.global_local(far)
        if self.local_global is not None and self.norm_global is not None:
            wide = self.local_global(near)
            wide = F.relu(self.norm_global(wide if self.global_global is None else wide + self.global_global(far)))
        return F.relu(self.norm_local(local)), wide


class FourierResidual(nn.Module):
    """Two Fourier convolutions, added to what came; the sum is not rectified.

    Args:
        channels: (local, global).
    """

    def __init__(self, channels: tuple[int, int]) -> None:
        super().__init__()
        self.first = FourierConvolution(channels, channels)
        self.second = FourierConvolution(channels, channels)

    def forward(
        self, near: Float[Tensor, "B local h w"], far: Float[Tensor, "B global h w"]
    ) -> tuple[Float[Tensor, "B local h w"], Float[Tensor, "B global h w"]]:
        local, wide = self.second(*self.first(near, far))
        return near + local, far + wide


PARTS = {
    "local_local": "ffc.convl2l",
    "global_local": "ffc.convg2l",
    "local_global": "ffc.convl2g",
    "global_global.shrink": "ffc.convg2g.conv1.0",
    "global_global.norm": "ffc.convg2g.conv1.1",
    "global_global.unit.conv": "ffc.convg2g.fu.conv_layer",
    "global_global.unit.norm": "ffc.convg2g.fu.bn",
    "global_global.grow": "ffc.convg2g.conv2",
    "norm_local": "bn_l",
    "norm_global": "bn_g",
}
"""Our part of a `FourierConvolution` -> the published code's."""
