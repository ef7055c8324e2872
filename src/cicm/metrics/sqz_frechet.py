"""`sqz-frechet`: Frechet distance of the pooled features of a SqueezeNet, between two sets of images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cicm.metrics.frechet import FrechetBetweenSets
from cicm.metrics.registry import Metric
from cicm.metrics.squeeze import NUM_FEATURES, POOLED, squeeze_pooled
from cicm.metrics.state import Running


def running(metric: Metric, *, path: str | Path | None = None) -> Running:
    return FrechetBetweenSets(metric, partial(squeeze_pooled, path), NUM_FEATURES, POOLED, path)
