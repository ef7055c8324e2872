"""Timing: several ways in turn, so that a machine whose speed drifts drifts for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timed:
    """Seconds of one way: median, least and largest of the counted rounds."""

    median: float
    least: float
    largest: float

    def __str__(self) -> str:
        return f"{self.median * 1e3:.2f} ms [{self.least * 1e3:.2f}, {self.largest * 1e3:.2f}]"


def in_turn(ways: Mapping[str, Callable[[], object]], rounds: int = 7, warm: int = 2) -> dict[str, Timed]:
    """Call each way once a round, A B C A B C ..., after `warm` uncounted rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for index in range(warm + rounds):
        for name, way in ways.items():
            _settle()
            began = time.perf_counter()
            way()
            _settle()
            if index >= warm:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timed(statistics.median(s), min(s), max(s)) for name, s in seconds.items()}


def ratio(times: Mapping[str, Timed], over: str, under: str) -> float:
    """Median over median."""
    return times[over].median / times[under].median


def _settle() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
