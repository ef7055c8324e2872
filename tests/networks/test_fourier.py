"""Fourier units: equal to the original's layers; the transform, its inverse, and what has no real counterpart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cicm.networks.fourier import (
    PARTS,
    FourierConvolution,
    FourierResidual,
    FourierUnit,
    SpectralTransform,
    from_spectrum_planes,
    real_inverse,
    spectrum_planes,
)

UNIT = {"conv": "conv_layer", "norm": "bn"}
SPECTRAL = {"shrink": "conv1.0", "norm": "conv1.1", "grow": "conv2"} | {
    f"{ours}.{part}": f"{theirs}.{name}"
    for ours, theirs in (("unit", "fu"), ("quarter_unit", "lfu"))
    for part, name in UNIT.items()
}
BLOCK = {
    f"{half}.{ours}": f"{conv}.{theirs}"
    for half, conv in (("first", "conv1"), ("second", "conv2"))
    for ours, theirs in PARTS.items()
}


def filled(oracles, layer: nn.Module, names: dict[str, str], prefix: str) -> nn.Module:
    """A layer with the values that the rule gives to its original names."""
    state = {}
    for name, tensor in layer.state_dict().items():
        place, kind = name.rsplit(".", 1)
        if kind != "num_batches_tracked":
            value = oracles.inputs.parameter(f"{prefix}{names[place]}.{kind}", tuple(tensor.shape))
            state[name] = torch.from_numpy(value)
    layer.load_state_dict(state, strict=False)
    return layer.eval()


@pytest.mark.shared
@torch.no_grad()
def test_layers_give_what_the_originals_gave(oracles) -> None:
    """1e-5 of the largest value: float32, and sums in another order; measured 5e-7."""

    def normal(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(oracles.layers.normal(name, shape))

    unit = filled(oracles, FourierUnit(6, 10), UNIT, "lama.fu.")
    found = {
        "fourier_unit_12x16": unit(normal("lama.fu.x1", 2, 6, 12, 16)),
        "fourier_unit_7x9": unit(normal("lama.fu.x2", 1, 6, 7, 9)),
    }
    x = normal("lama.st.x", 2, 8, 12, 16)
    for key, stride in (("spectral_transform", 1), ("spectral_transform_stride2", 2)):
        found[key] = filled(oracles, SpectralTransform(8, 12, stride), SPECTRAL, "lama.st.")(x)
    quarters = filled(oracles, SpectralTransform(8, 16, quarters=True), SPECTRAL, "lama.stl.")
    found["spectral_transform_lfu"] = quarters(normal("lama.stl.x", 2, 8, 16, 16))
    pair = normal("lama.ffc.local", 2, 2, 10, 14), normal("lama.ffc.global", 2, 6, 10, 14)
    layer = filled(oracles, FourierConvolution((2, 6), (2, 6)), PARTS, "lama.ffc.")
    found["ffc_local"], found["ffc_global"] = layer(*pair)
    down = filled(oracles, FourierConvolution((8, 0), (2, 6), stride=2), PARTS, "lama.ffc_down.")
    found["ffc_down_local"], found["ffc_down_global"] = down(normal("lama.ffc_down.x", 2, 8, 12, 16))
    block = filled(oracles, FourierResidual((2, 6)), BLOCK, "lama.block.")
    found["block_local"], found["block_global"] = block(*pair)

    stored = oracles.outputs("lama_layers")
    assert found.keys() == stored.keys()
    for key, tensor in found.items():
        assert oracles.error(tensor, stored[key]) < 1e-5, key


@pytest.mark.parametrize("size", [(6, 8), (7, 8), (6, 9), (5, 5), (2, 2)])
def test_the_inverse_is_numpys_also_of_planes_that_no_map_has(size: tuple[int, int]) -> None:
    height, width = size
    planes = torch.randn(2, 6, height, width // 2 + 1, dtype=torch.float64)
    spectrum = planes[:, 0::2].numpy() + 1j * planes[:, 1::2].numpy()
    expected = np.fft.irfft2(spectrum, s=size, norm="ortho")
    np.testing.assert_allclose(from_spectrum_planes(planes, width).numpy(), expected, atol=1e-12)


def test_planes_are_interleaved_and_orthonormal() -> None:
    x = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    planes = spectrum_planes(x)
    expected = np.fft.rfft2(x.numpy(), norm="ortho")
    np.testing.assert_allclose(planes[:, 2].numpy(), expected[:, 1].real, atol=1e-12)
    np.testing.assert_allclose(planes[:, 5].numpy(), expected[:, 2].imag, atol=1e-12)
    assert torch.allclose(from_spectrum_planes(planes, 6), x)


@pytest.mark.parametrize("width", [6, 7])
def test_the_imaginary_part_that_no_real_row_has_counts_for_nothing(width: int) -> None:
    """Written out, so that it is so on every device; its gradient is 0."""
    rows = torch.randn(1, 1, 3, width // 2 + 1, dtype=torch.complex128, requires_grad=True)
    other = rows.detach().clone()
    other[..., 0] += 5j
    if width % 2 == 0:
        other[..., -1] -= 3j
    assert torch.equal(real_inverse(rows, width), real_inverse(other, width))
    real_inverse(rows, width).square().sum().backward()
    assert not rows.grad[..., 0].imag.any()
    assert rows.grad[..., 1].imag.all()
    assert rows.grad[..., -1].imag.any() == (width % 2 == 1)


def test_one_pixel_is_seen_everywhere_and_half_precision_keeps_its_type() -> None:
    unit = FourierUnit(2, 2).eval()
    x = torch.rand(1, 2, 12, 16)
    other = x.clone()
    other[0, 0, 3, 4] += 1
    assert (unit(x) - unit(other)).ne(0).float().mean() > 0.99
    with torch.autocast("cpu", torch.bfloat16):
        half = unit(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert (half.float() - unit(x)).norm() < 0.02 * unit(x).norm()  # 8 bits of mantissa
