"""PSNR, SSIM and L1 of a batch, one value for each image, in float64.

All three take images in [0, 1] and do not round; `to_8bit` does, and the running metrics call it first.

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

PSNR_CAP_DB = 100.0
RANGE_SLACK = (
    1e-3  # what the arithmetic of a composite in half precision may add to [0, 1]; other ranges are far outside
)


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
    check_image(image)
    _check_finite(image, "image")
    wide = image if image.dtype == torch.float64 else image.float()
    return wide.clamp(0, 1).mul(255).round().div(255)


def psnr(composite: Tensor, image: Tensor) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio in dB over all pixels and colours, `-10 log10(mean d^2)`; data range 1.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.

    Returns:
        (B,) float64. Identical images, whose ratio is infinite, give the cap of 100 dB, so that a mean over images
        stays finite. So does any ratio above it: one value of a 256x256 image that is off by one 8-bit step would be
        101 dB.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1].

    Example:
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> psnr(black, black + 0.1), psnr(black, black)
        (tensor([20.0000], dtype=torch.float64), tensor([100.], dtype=torch.float64))
    """
    ours, theirs = check_pair(composite, image)
    error = (ours - theirs).square().mean(dim=(1, 2, 3))
    return (10 * error.reciprocal().log10()).clamp(max=PSNR_CAP_DB)


def l1(composite: Tensor, image: Tensor) -> Float[Tensor, "B"]:
    """Mean absolute difference over all pixels and colours, times 100 (percent of the data range).

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.

    Returns:
        (B,) float64 in [0, 100]; 0 for identical images.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1].

    Example:
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> l1(black, black + 0.25)
        tensor([25.], dtype=torch.float64)
    """
    ours, theirs = check_pair(composite, image)
    return 100 * (ours - theirs).abs().mean(dim=(1, 2, 3))


def ssim(
    composite: Tensor,
    image: Tensor,
    *,
    window: str = "uniform",
    size: int | None = None,
    sigma: float = 1.5,
    sample_covariance: bool = True,
) -> Float[Tensor, "B"]:
    """Structural similarity (Wang et al. 2004), the mean over pixels and colours; by default scikit-image's default.

    Statistics are taken in a window around each pixel whose window lies inside the image, with K1 = 0.01, K2 = 0.03 and
    data range 1.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        window: "uniform", or "gaussian" as in the original paper.
        size: odd side of the window; 7 for uniform, 11 for gaussian.
        sigma: standard deviation of the gaussian window, in pixels.
        sample_covariance: divide covariances by n - 1 (scikit-image's default); False divides by n (the original
            paper).

    Returns:
        (B,) float64 in [-1, 1]; 1 for identical images.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1], an even window, a window larger than the image.

    Example:
        >>> picture = torch.linspace(0, 1, 192).view(1, 3, 8, 8)
        >>> ssim(picture, picture)
        tensor([1.], dtype=torch.float64)
    """
    if window not in ("uniform", "gaussian"):
        raise InputError(f"window must be 'uniform' or 'gaussian'; got {window!r}.")
    size = (7 if window == "uniform" else 11) if size is None else size
    if size < 3 or size % 2 == 0:
        raise InputError(f"the SSIM window must be odd and at least 3; got {size}.")
    ours, theirs = check_pair(composite, image)
    if size > min(image.shape[2:]):
        raise InputError(
            f"the SSIM window of {size} must fit into the image; got {describe(image)}. Score larger images, "
            "or pass a smaller odd size and name it beside the figure."
        )

    weights = _window(window, size, sigma, ours)
    mean_x, mean_y = _filtered(ours, weights), _filtered(theirs, weights)
    count = size * size
    correction = count / (count - 1) if sample_covariance else 1.0
    var_x = correction * (_filtered(ours * ours, weights) - mean_x * mean_x)
    var_y = correction * (_filtered(theirs * theirs, weights) - mean_y * mean_y)
    cov = correction * (_filtered(ours * theirs, weights) - mean_x * mean_y)
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * cov + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean(dim=(1, 2, 3))


def _window(kind: str, size: int, sigma: float, like: Tensor) -> Tensor:
    """(size,) weights that add up to 1; the window is their product over both axes."""
    offset = torch.arange(size, dtype=like.dtype, device=like.device) - size // 2
    weights = torch.exp(-0.5 * (offset / sigma) ** 2) if kind == "gaussian" else torch.ones_like(offset)
    return weights / weights.sum()


def _filtered(picture: Tensor, weights: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H - size + 1, W - size + 1): weighted means in the windows that lie inside the image."""
    for axis in (2, 3):
        length = picture.shape[axis] - len(weights) + 1
        # a sum of shifted pictures: float64 convolutions are several times slower on the CPU
        total = picture.narrow(axis, 0, length) * weights[0]
        for start, weight in enumerate(weights[1:].tolist(), start=1):
            total = total.add(picture.narrow(axis, start, length), alpha=weight)
        picture = total
    return picture


# -- the checks at the door ------------------------------------------------------------------------------------------


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
        if low < -RANGE_SLACK or high > 1 + RANGE_SLACK:
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
