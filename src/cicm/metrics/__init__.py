"""Scores of filled pictures: PSNR, SSIM, L1, LPIPS, FID, stand-ins of our own; by name, with running state.

A new metric is one file in this folder, named like the metric, and one entry in `registry.py`. The file has the formula
as a pure function, such as `cicm.metrics.psnr.psnr`, and `running(metric, **options)`, which keeps what was seen.

The names here are loaded when they are used: the list of weights is needed without torch.

Example:
    >>> import torch
    >>> from cicm.metrics import create
    >>> create("psnr").update(torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8))
    tensor([0.], dtype=torch.float64)
    >>> create("lpips").metric
    Traceback (most recent call last):
    cicm.conventions.InputError: unknown metric 'lpips'; did you mean 'lpips-vgg'? Known are psnr, ...
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from cicm.metrics.registry import METRICS as METRICS
from cicm.metrics.registry import Metric as Metric
from cicm.metrics.registry import create as create

if TYPE_CHECKING:
    from cicm.metrics.pixels import to_8bit as to_8bit
    from cicm.metrics.published import MissingWeights as MissingWeights
    from cicm.metrics.state import Running as Running
    from cicm.metrics.state import update_all as update_all

_HOME = {"to_8bit": "pixels", "MissingWeights": "published", "Running": "state", "update_all": "state"}

__all__ = sorted(["METRICS", "Metric", "create", *_HOME])


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOME]
