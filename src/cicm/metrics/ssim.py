"""`ssim`: structural similarity."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, describe
from cicm.metrics.pixels import channels, check_pair, one_channel
from cicm.metrics.registry import Metric
from cicm.metrics.state import Running, of_pixels


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


def running(
    metric: Metric,
    *,
    window: str = "uniform",
    size: int | None = None,
    sigma: float = 1.5,
    sample_covariance: bool = True,
    color: str = "rgb",
    border: str = "inside",
    data_range: float = 1.0,
) -> Running:
    options: dict[str, Any] = {"window": window, "size": size, "sigma": sigma, "sample_covariance": sample_covariance}
    score = partial(ssim, **options, color=color, border=border, data_range=data_range)
    protocol: dict[str, Any] = {
        "color": "RGB, mean over channels" if color == "rgb" else channels(color),
        "data_range": data_range,
        "window": window,
        "size": size or (7 if window == "uniform" else 11),
        "sample_covariance": sample_covariance,
    }
    if window == "gaussian":
        protocol["sigma"] = sigma
    if border != "inside":
        protocol["border"] = border
    return of_pixels(metric, score, protocol)
