"""`fid`: Frechet Inception distance, on the network and with the resize of pytorch-fid."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from cicm.metrics.frechet import FrechetBetweenSets
from cicm.metrics.inception import NUM_FEATURES, POOLED, inception_pooled
from cicm.metrics.registry import Metric
from cicm.metrics.state import Running

_FEWEST = 100
"""Below so many images `fid` refuses: of 2048 directions, fewer than a twentieth would have any spread at all."""


def running(metric: Metric, *, path: str | Path | None = None, fewest: int = _FEWEST) -> Running:
    return FrechetBetweenSets(metric, partial(inception_pooled, path), NUM_FEATURES, POOLED, path, fewest)
