"""`kid`: kernel Inception distance, unbiased, with the network and the resize of `fid`; fit for few images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cicm.metrics.inception import NUM_FEATURES, POOLED, inception_pooled
from cicm.metrics.kernel import KernelBetweenSets
from cicm.metrics.registry import Metric
from cicm.metrics.state import Running

_KERNEL = f"(x.y / {NUM_FEATURES} + 1)^3, unbiased, all images at once, x 1000"


def running(metric: Metric, *, path: str | Path | None = None) -> Running:
    features = partial(inception_pooled, path)
    return KernelBetweenSets(metric, features, {**POOLED, "kernel": _KERNEL}, path, unit_length=False, paired=False)
