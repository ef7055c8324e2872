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

from typing import TYPE_CHECKING

from cicm.conventions import loaded_late
from cicm.metrics.registry import METRICS, Metric, create

if TYPE_CHECKING:
    from cicm.metrics.pixels import to_8bit
    from cicm.metrics.published import MissingWeights
    from cicm.metrics.state import Running, update_all

__getattr__, __dir__ = loaded_late(
    __name__, {"pixels": ["to_8bit"], "published": ["MissingWeights"], "state": ["Running", "update_all"]}
)
