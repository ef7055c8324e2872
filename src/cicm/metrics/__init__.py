"""PSNR, SSIM, L1, LPIPS, FID and stand-ins of our own: pure functions, then running state, then `create` by name.

The names are loaded when they are used: the list of weights is needed without torch.

Example:
    >>> import torch
    >>> from cicm.metrics import create, psnr
    >>> psnr(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
    tensor([0.], dtype=torch.float64)
    >>> create("lpips").metric
    Traceback (most recent call last):
    cicm.conventions.InputError: unknown metric 'lpips'; did you mean 'lpips-vgg'? Known are psnr, ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cicm.metrics.frechet import FrechetStatistics as FrechetStatistics
    from cicm.metrics.frechet import frechet_distance as frechet_distance
    from cicm.metrics.frechet import kernel_distance as kernel_distance
    from cicm.metrics.inception import FidInception as FidInception
    from cicm.metrics.inception import load_inception as load_inception
    from cicm.metrics.lpips import LPIPS as LPIPS
    from cicm.metrics.lpips import load_lpips as load_lpips
    from cicm.metrics.pixels import l1 as l1
    from cicm.metrics.pixels import psnr as psnr
    from cicm.metrics.pixels import quantised as quantised
    from cicm.metrics.pixels import ssim as ssim
    from cicm.metrics.pixels import to_8bit as to_8bit
    from cicm.metrics.published import PUBLISHED as PUBLISHED
    from cicm.metrics.published import MissingWeights as MissingWeights
    from cicm.metrics.scores import METRICS as METRICS
    from cicm.metrics.scores import Metric as Metric
    from cicm.metrics.scores import Running as Running
    from cicm.metrics.scores import Scores as Scores
    from cicm.metrics.scores import create as create
    from cicm.metrics.scores import update_all as update_all
    from cicm.metrics.squeeze import SqueezeFeatures as SqueezeFeatures
    from cicm.metrics.squeeze import load_squeeze_features as load_squeeze_features
    from cicm.metrics.squeeze import sqz_distance as sqz_distance
    from cicm.metrics.state import PerImageValues as PerImageValues
    from cicm.metrics.state import bootstrap_interval as bootstrap_interval

_HOME = {
    **dict.fromkeys(["FrechetStatistics", "frechet_distance", "kernel_distance"], "frechet"),
    **dict.fromkeys(["FidInception", "load_inception"], "inception"),
    **dict.fromkeys(["LPIPS", "load_lpips"], "lpips"),
    **dict.fromkeys(["l1", "psnr", "quantised", "ssim", "to_8bit"], "pixels"),
    **dict.fromkeys(["PUBLISHED", "MissingWeights"], "published"),
    **dict.fromkeys(["PerImageValues", "bootstrap_interval"], "state"),
    **dict.fromkeys(["METRICS", "Metric", "Running", "Scores", "create", "update_all"], "scores"),
    **dict.fromkeys(["SqueezeFeatures", "load_squeeze_features", "sqz_distance"], "squeeze"),
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
