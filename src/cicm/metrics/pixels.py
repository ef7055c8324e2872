"""What comes before every metric: the checks at the door, 8-bit rounding, and which channels are compared.

PSNR, SSIM and L1 take images in [0, 1] and do not round; the running metrics do it first. Their defaults are ours;
their options are what other projects measured, and change a figure by more than most methods differ.

They are written here, not taken from torchmetrics, which serves the tests as a judge: its uniform SSIM window has no
sample covariance and so cannot give scikit-image's default, its PSNR has a float32 constant and no cap, and it takes
as long to import as torch itself.

Arguments are checked by `check_pair`, not by their annotation: what is wrong with them is an InputError that says so.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, check_image, describe

ROUNDINGS = {"nearest": "to the nearest of 256 values", "down": "down to one of 256 values", "none": "not rounded"}
"""What may happen to the values before they are compared; clamped to [0, 1] they are in any case."""

COLORS: dict[str, tuple[float, float, float] | None] = {
    "rgb": None,
    "mean": (1 / 3, 1 / 3, 1 / 3),
    "grey": (0.2125, 0.7154, 0.0721),
    "grey-bgr": (0.0721, 0.7154, 0.2125),
}
"""Name -> weights of red, green and blue in the one channel that is compared; None for all three.

`grey` is scikit-image's luma (Rec. 709); `grey-bgr` is the same on channels in OpenCV's order, a mistake that published
tables contain.
"""

_RANGE_SLACK = 1e-3
"""What the arithmetic of a composite in half precision may add to [0, 1]; other ranges are far outside."""


def to_8bit(image: Tensor) -> Float[Tensor, "B 3 H W"]:
    """What a saved file would hold: clamped to [0, 1] and rounded to one of 256 values; twice is the same as once.

    Args:
        image: (B, 3, H, W); values may lie outside [0, 1], as a network's do.

    Returns:
        (B, 3, H, W) in [0, 1], multiples of 1/255; half precision becomes float32, which can tell 256 values apart.

    Raises:
        InputError: another shape, or NaN or infinite values.

    Example:
        >>> to_8bit(torch.full((1, 3, 1, 1), 0.5)).mul(255).unique()
        tensor([128.])
    """
    return quantised(image, "nearest")


def quantised(image: Tensor, rounding: str = "nearest") -> Float[Tensor, "B 3 H W"]:
    """Clamped to [0, 1] and brought to 8 bits, or not; as `to_8bit` otherwise.

    Args:
        rounding: one of ROUNDINGS. "down" is what `(255 * x).astype(uint8)` does: what a network fills comes out half a
            step darker, while a photo's own 8-bit values stay.

    Example:
        >>> [quantised(torch.full((1, 3, 1, 1), 0.999), way).mul(255).max().item() for way in ("nearest", "down")]
        [255.0, 254.0]
    """
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}; known are {', '.join(ROUNDINGS)}.")
    check_image(image)
    _check_finite(image, "image")
    wide = image if image.dtype == torch.float64 else image.float()
    if rounding == "none":
        return wide.clamp(0, 1)
    if rounding == "nearest":
        return wide.clamp(0, 1).mul(255).round().div(255)
    # float32: the product decides what is cut off, and the projects that do so take it in float32
    return wide.float().clamp(0, 1).mul(255).floor().to(wide.dtype).div(255)


def one_channel(picture: Float[Tensor, "B 3 H W"], color: str) -> Float[Tensor, "B c H W"]:
    """The channels that are compared: (B, 3, H, W) for "rgb", otherwise (B, 1, H, W)."""
    weights = _weights(color)
    if weights is None:
        return picture
    return (picture * picture.new_tensor(weights).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def channels(color: str) -> str:
    """How a protocol names what is compared."""
    weights = _weights(color)
    return "RGB" if weights is None else f"{color}: " + " + ".join(f"{w:.4g} {c}" for w, c in zip(weights, "RGB"))


def _weights(color: str) -> tuple[float, float, float] | None:
    if color not in COLORS:
        raise InputError(f"unknown color {color!r}; known are {', '.join(COLORS)}.")
    return COLORS[color]


def check_pair(composite: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """The two batches in float64, after refusing what cannot be scored.

    Raises:
        InputError: not (B, 3, H, W), shapes that differ, an empty batch, NaN or infinite values, values outside [0, 1].
    """
    for name, picture in (("composite", composite), ("image", image)):
        check_image(picture, name)
        if picture.numel() == 0:
            raise InputError(f"{name} must hold at least one image; got {describe(picture)}.")
        _check_finite(picture, name)
        low, high = picture.min().item(), picture.max().item()
        if low < -_RANGE_SLACK or high > 1 + _RANGE_SLACK:
            raise InputError(
                f"{name} must have values in [0, 1]; got [{low:.4g}, {high:.4g}]. Use cicm.metrics.to_8bit for the "
                "output of a network, (x + 1) / 2 for values in [-1, 1], x / 255 for 8-bit values."
            )
    if composite.shape != image.shape:
        raise InputError(
            f"composite and image must have the same shape; got {describe(composite)} and {describe(image)}. "
            "Score both at the size of the composite's input."
        )
    return as_double(composite), as_double(image)


def _check_finite(picture: Tensor, name: str) -> None:
    if not bool(torch.isfinite(picture).all()):
        bad = (~torch.isfinite(picture)).flatten(1).any(1).nonzero().flatten().tolist()
        raise InputError(
            f"{name} must be finite; got NaN or infinite values in images {bad} of the batch. Find their source."
        )


def as_double(values: Tensor) -> Tensor:
    """float64; on the CPU where the device has no such type."""
    return (values.cpu() if values.device.type == "mps" else values).double()
