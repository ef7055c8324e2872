"""PSNR, SSIM and L1 of a batch, one value for each image, in float64.

All three take images in [0, 1] and do not round; `quantised` does, and the running metrics call it first. Their
defaults are ours; their options are what other projects measured, and change a figure by more than most methods differ.

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
    return quantised(image, "nearest")


def quantised(image: Tensor, rounding: str = "nearest") -> Float[Tensor, "B 3 H W"]:
    """Clamped to [0, 1] and brought to 8 bits, or not.

    Args:
        image: (B, 3, H, W); values may lie outside [0, 1], as a network's do.
        rounding: one of ROUNDINGS. "down" is what `(255 * x).astype(uint8)` does: what a network fills comes out half a
            step darker, while a photo's own 8-bit values stay.

    Returns:
        (B, 3, H, W) in [0, 1]; half precision becomes float32, which can tell 256 values apart.

    Raises:
        InputError: another shape, NaN or infinite values, an unknown rounding.

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
    """The channels that are compared: (B, 3, H, W) for "rgb", otherwise (B, 1, H, W).

    Raises:
        InputError: an unknown name.
    """
    if color not in COLORS:
        raise InputError(f"unknown color {color!r}; known are {', '.join(COLORS)}.")
    weights = COLORS[color]
    if weights is None:
        return picture
    return (picture * picture.new_tensor(weights).view(1, 3, 1, 1)).sum(dim=1, keepdim=True)


def psnr(
    composite: Tensor, image: Tensor, *, color: str = "rgb", floor: float = 0.0, offset_db: float = 0.0
) -> Float[Tensor, "B"]:
    """Peak signal-to-noise ratio in dB over all pixels and colours, `-10 log10(mean d^2)`; data range 1.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        color: one of COLORS.
        floor: added to the mean square, as some projects do to avoid the logarithm of 0.
        offset_db: added to the ratio; 0 is right, a published table has 1.

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
    ours, theirs = (one_channel(picture, color) for picture in check_pair(composite, image))
    error = (ours - theirs).square().mean(dim=(1, 2, 3)) + floor
    return (10 * error.reciprocal().log10() + offset_db).clamp(max=PSNR_CAP_DB)


def l1(composite: Tensor, image: Tensor, *, color: str = "rgb", relative: bool = False) -> Float[Tensor, "B"]:
    """Mean absolute difference over all pixels and colours, times 100 (percent of the data range).

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        color: one of COLORS.
        relative: divide the sum of the differences by the sum of both pictures' values instead of their number: the
            same error counts for more in a dark photo. Published tables call this "MAE" and also "L1".

    Returns:
        (B,) float64 in [0, 100]; 0 for identical images, two black ones among them.

    Raises:
        InputError: shapes that differ, NaN, values outside [0, 1].

    Example:
        >>> black = torch.zeros(1, 3, 4, 4)
        >>> l1(black, black + 0.25)
        tensor([25.], dtype=torch.float64)
    """
    ours, theirs = (one_channel(picture, color) for picture in check_pair(composite, image))
    difference = (ours - theirs).abs()
    if not relative:
        return 100 * difference.mean(dim=(1, 2, 3))
    total = (ours + theirs).sum(dim=(1, 2, 3))
    return 100 * difference.sum(dim=(1, 2, 3)) / torch.where(total > 0, total, 1.0)


def ssim(
    composite: Tensor,
    image: Tensor,
    *,
    window: str = "uniform",
    size: int | None = None,
    sigma: float = 1.5,
    sample_covariance: bool = True,
    color: str = "rgb",
    border: str = "inside",
    data_range: float = 1.0,
) -> Float[Tensor, "B"]:
    """Structural similarity (Wang et al. 2004), the mean over pixels and colours; by default scikit-image's default.

    Statistics are taken in a window around each pixel whose window lies inside the image, with K1 = 0.01 and K2 = 0.03.

    Args:
        composite: (B, 3, H, W) in [0, 1]; the repaired image.
        image: (B, 3, H, W) in [0, 1]; the complete picture.
        window: "uniform", or "gaussian" as in the original paper.
        size: odd side of the window; 7 for uniform, 11 for gaussian.
        sigma: standard deviation of the gaussian window, in pixels.
        sample_covariance: divide covariances by n - 1 (scikit-image's default); False divides by n (the original
            paper).
        color: one of COLORS.
        border: "inside" takes the pixels whose window lies in the image; "zeros" takes all, over a black margin.
        data_range: what K1 and K2 are multiplied with. Values span 1; older scikit-image took 2 for floats when it was
            not told, which published tables contain, and which brings every figure nearer to 1.

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
    if border not in ("inside", "zeros"):
        raise InputError(f"border must be 'inside' or 'zeros'; got {border!r}.")
    size = (7 if window == "uniform" else 11) if size is None else size
    if size < 3 or size % 2 == 0:
        raise InputError(f"the SSIM window must be odd and at least 3; got {size}.")
    ours, theirs = check_pair(composite, image)
    if size > min(image.shape[2:]):
        raise InputError(
            f"the SSIM window of {size} must fit into the image; got {describe(image)}. Score larger images, "
            "or pass a smaller odd size and name it beside the figure."
        )

    ours, theirs = one_channel(ours, color), one_channel(theirs, color)
    if border == "zeros":
        ours, theirs = (torch.nn.functional.pad(picture, [size // 2] * 4) for picture in (ours, theirs))
    weights = _window(window, size, sigma, ours)
    mean_x, mean_y = _filtered(ours, weights), _filtered(theirs, weights)
    count = size * size
    correction = count / (count - 1) if sample_covariance else 1.0
    var_x = correction * (_filtered(ours * ours, weights) - mean_x * mean_x)
    var_y = correction * (_filtered(theirs * theirs, weights) - mean_y * mean_y)
    cov = correction * (_filtered(ours * theirs, weights) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
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
