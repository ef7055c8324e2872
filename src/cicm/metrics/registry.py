"""The one list of metrics: what each is, which way is better, how it is printed, which files it needs. No torch here.

A new metric is one file in this folder, named like the metric, and one entry in METRICS. The file has the formula as a
pure function and `running(metric, **options)`, which gives a `Running` from `state.py`; `psnr.py` is the shortest.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from cicm.conventions import InputError

if TYPE_CHECKING:
    from cicm.metrics.state import Running


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    Args:
        better: whether higher or lower values are better; "near 1" if both sides of 1 are worse.
        unit: printed behind a value; empty for a pure number.
        needs: names of the weights it needs, as `cicm models` lists them.
        file: its file in this folder; by default the name with underscores.
    """

    name: str
    better: Literal["higher", "lower", "near 1"]
    explain: str
    unit: str = ""
    digits: int = 4
    bounds: tuple[int | None, int | None] = (0, None)
    needs: tuple[str, ...] = ()
    file: str = ""

    def gain(self, first: Any, second: Any) -> Any:
        """How much better `second` is, in the metric's own scale; numbers, arrays or tensors.

        Example:
            >>> METRICS["l1"].gain(5.0, 3.0), METRICS["sharpness"].gain(0.5, 1.25)
            (2.0, 0.25)
        """
        if self.better == "near 1":
            return abs(first - 1) - abs(second - 1)
        return second - first if self.better == "higher" else first - second


_SQUEEZENET = "SqueezeNet v1.1 (keras-squeezenet, ImageNet)"
_SQZ, _INCEPTION = ("sqz-features",), ("fid-inception",)
_LPIPS = "v0.1"

_ALL = (
    Metric("psnr", "higher", "peak signal-to-noise ratio on RGB, at most 100 dB", "dB", 2, (0, 100)),
    Metric("ssim", "higher", "structural similarity on RGB, uniform 7x7 window as in scikit-image", bounds=(-1, 1)),
    Metric("l1", "lower", "mean absolute difference x 100", "%", 3, (0, 100)),
    Metric(
        "sqz-distance",
        "lower",
        f"distance of deep features, {_SQUEEZENET}; no learned heads, not LPIPS",
        bounds=(0, 2),
        needs=_SQZ,
    ),
    Metric(
        "sqz-frechet",
        "lower",
        f"Frechet distance of pooled features (512), {_SQUEEZENET}; not FID; depends on the number of images",
        digits=2,
        needs=_SQZ,
    ),
    Metric(
        "sqz-kernel",
        "lower",
        f"unbiased kernel distance of pooled features, {_SQUEEZENET}; not KID; fit for few images",
        unit="x 1e-3",
        digits=2,
        bounds=(None, None),
        needs=_SQZ,
    ),
    Metric("sharpness", "near 1", "mean absolute Laplacian in the hole over that of a ring around it"),
    Metric("lpips-alex", "lower", f"LPIPS on AlexNet, {_LPIPS}", needs=("lpips-heads", "alexnet"), file="lpips"),
    Metric("lpips-vgg", "lower", f"LPIPS on VGG-16, {_LPIPS}", needs=("lpips-heads", "vgg16"), file="lpips"),
    Metric(
        "lpips-squeeze", "lower", f"LPIPS on SqueezeNet, {_LPIPS}", needs=("lpips-heads", "squeezenet1_1"), file="lpips"
    ),
    Metric(
        "fid",
        "lower",
        "Frechet Inception distance, pytorch-fid's network and resize; depends on the number of images",
        digits=2,
        needs=_INCEPTION,
    ),
    Metric(
        "kid",
        "lower",
        "kernel Inception distance, unbiased, network and resize of fid; fit for few images",
        unit="x 1e-3",
        digits=2,
        bounds=(None, None),
        needs=_INCEPTION,
    ),
)

METRICS = {metric.name: metric for metric in _ALL}  # name -> what it is; the order is that of the columns of a table


def create(name: str, *, rounding: str = "nearest", **options: Any) -> Running:
    """A running metric that has seen no image.

    Args:
        rounding: what happens to the values first, one of `cicm.metrics.pixels.ROUNDINGS`.
        options: of the metric: the named arguments of `running` in its file, such as `color` of psnr;
            `path`, a file or folder of weights, of all that need one.

    Example:
        >>> import torch
        >>> metric = create("l1")
        >>> metric.update(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.2))
        tensor([20.], dtype=torch.float64)
        >>> round(metric.compute(), 4), metric.metric.unit
        (20.0, '%')
    """
    from cicm.metrics.pixels import ROUNDINGS

    if name not in METRICS:
        close = get_close_matches(name, METRICS, n=1)
        hint = f"did you mean {close[0]!r}? Known are" if close else "known are"
        raise InputError(f"unknown metric {name!r}; {hint} {', '.join(METRICS)}.")
    metric = METRICS[name]
    build = import_module(f"cicm.metrics.{metric.file or name.replace('-', '_')}").running
    known = [
        option.name
        for option in inspect.signature(build).parameters.values()
        if option.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    if unknown := sorted(options.keys() - set(known)):
        raise InputError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(['rounding', *known])}.")
    if rounding not in ROUNDINGS:
        raise InputError(f"unknown rounding {rounding!r}; known are {', '.join(ROUNDINGS)}.")
    running: Running = build(metric, **options)
    if rounding != "nearest":
        running.rounding = rounding
        running.protocol |= {"rounded_to_8_bit": rounding != "none", "rounding": ROUNDINGS[rounding]}
    return running
