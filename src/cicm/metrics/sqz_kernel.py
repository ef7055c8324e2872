"""`sqz-kernel`: kernel distance of the pooled features of a SqueezeNet, between two sets of images; fit for few."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cicm.metrics.kernel import KernelBetweenSets
from cicm.metrics.registry import Metric
from cicm.metrics.squeeze import POOLED, squeeze_pooled
from cicm.metrics.state import Running

_KERNEL = "(cosine + 1)^3, unbiased, without a composite's own picture, all images at once, x 1000"


def running(metric: Metric, *, path: str | Path | None = None) -> Running:
    features = partial(squeeze_pooled, path)
    return KernelBetweenSets(metric, features, {**POOLED, "kernel": _KERNEL}, path, unit_length=True, paired=True)
