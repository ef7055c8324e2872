"""Several metrics at once, over the same images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from torch import Tensor

from cicm.conventions import InputError
from cicm.metrics.registry import create
from cicm.metrics.state import Running, update_all


class Scores:
    """Several metrics at once, over the same images.

    Args:
        names: of METRICS.
        options: options of some of them by name, as in `create`.

    Attributes:
        running: name -> running metric, for those that can be computed here.
        unavailable: name -> why not, for the others. They are never replaced and never left out in silence.

    Example:
        >>> import torch
        >>> scores = Scores(["psnr", "l1"])
        >>> black, grey = torch.zeros(2, 3, 8, 8), torch.full((2, 3, 8, 8), 0.2)
        >>> [f"{value:.2f}" for value in scores.update(black, grey)["l1"]]
        ['20.00', '20.00']
        >>> {name: round(value, 3) for name, value in scores.compute().items()}
        {'psnr': 13.979, 'l1': 20.0}
    """

    def __init__(self, names: Iterable[str], options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        self.names = list(dict.fromkeys(names))
        options = options or {}
        if foreign := sorted(options.keys() - set(self.names)):
            raise InputError(f"options for metrics that were not asked for: {', '.join(foreign)}.")
        self.running: dict[str, Running] = {}
        self.unavailable: dict[str, str] = {}
        for name in self.names:
            metric = create(name, **options.get(name, {}))
            if (reason := metric.available()) is None:
                self.running[name] = metric
            else:
                self.unavailable[name] = reason

    def update(self, composite: Tensor, image: Tensor, hole: Tensor | None = None) -> dict[str, list[float]]:
        """Take in one batch.

        Args:
            composite: (B, 3, H, W) in [0, 1]; the repaired images.
            image: (B, 3, H, W) in [0, 1]; the complete pictures, in the same order.
            hole: (B, 1, H, W), 1 = missing; for the metrics that look at it (sharpness).

        Returns:
            Name -> one value for each image; without the metrics that only a set has.

        Raises:
            InputError: as `Running.update`; then no metric has taken in anything.
        """
        values = update_all(self.running, composite, image, hole)
        return {name: scored.tolist() for name, scored in values.items() if scored is not None}

    def compute(self) -> dict[str, float]:
        """Name -> value over all images, for the metrics that can be computed here."""
        return {name: metric.compute() for name, metric in self.running.items()}

    def protocol(self) -> dict[str, dict[str, Any]]:
        """Name -> the settings that belong beside its figure."""
        return {name: deepcopy(metric.protocol) for name, metric in self.running.items()}

    def merge(self, other: Scores) -> None:
        """Take in what another part of the run has seen; `other` stays as it is.

        Raises:
            InputError: other metrics or protocols.
        """
        if other.running.keys() != self.running.keys():
            raise InputError(f"cannot merge scores of {', '.join(other.running)} into {', '.join(self.running)}.")
        for name, metric in self.running.items():
            metric.merge(other.running[name])
