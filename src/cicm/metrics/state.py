"""What a metric has seen so far: `Running` for all, `PerImage` for scores that every image has for itself.

Every running metric rounds to 8 bits first, so that it scores what a saved file would show, unless it is told another
rounding; `protocol` says everything that has to stand beside a figure. `update_all` feeds several metrics with one
batch: it is checked and rounded once, and metrics on the same network share one pass through it.

Images are scored on the device that they lie on. PyTorch lets convolutions run in TF32 on recent GPUs, which moves the
fourth digit of the scores that use a network: figures that are compared should be made on the same kind of device.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from cicm.conventions import InputError, check_hole
from cicm.metrics.pixels import check_pair, quantised
from cicm.metrics.published import published
from cicm.metrics.registry import Metric
from cicm.published import PublishedFile, find, locate, missing

T = TypeVar("T")


class Batch:
    """One batch as the metrics see it: checked, rounded, with a place for what several of them need.

    Attributes:
        composite: (B, 3, H, W) float64 in [0, 1]; the repaired images.
        image: (B, 3, H, W) likewise; the complete pictures.
        hole: (B, 1, H, W), 1 = missing; None where the caller did not give it.
    """

    def __init__(self, composite: Tensor, image: Tensor, hole: Tensor | None = None) -> None:
        self.composite, self.image, self.hole = composite, image, hole
        self._known: dict[Hashable, Any] = {}

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What `compute` gives; computed at the first call with this key."""
        if key not in self._known:
            self._known[key] = compute()
        value: T = self._known[key]
        return value


class Running(ABC):
    """A metric that has seen some images.

    Attributes:
        rounding: what happens to the values first, one of `pixels.ROUNDINGS`; `create` sets it.
    """

    rounding = "nearest"

    def __init__(self, metric: Metric, protocol: Mapping[str, Any], path: str | Path | None = None) -> None:
        self.metric = metric
        self.protocol = {**protocol, "rounded_to_8_bit": True}
        self._path = path

    def available(self) -> str | None:
        """None if it can be computed here; otherwise the reason, in a sentence that says what to do."""
        for file, path in self._files():
            try:
                if find(file, path) is None:
                    return missing(file, path)
                locate(file, path)
            except InputError as error:
                return str(error)
        return None

    def _files(self) -> list[tuple[PublishedFile, str | Path | None]]:
        """The files it needs; an explicit path is that of the network, the heads of LPIPS come with the package."""
        return [(published(name), None if name == "lpips-heads" else self._path) for name in self.metric.needs]

    @torch.no_grad()
    def update(self, composite: Tensor, image: Tensor, hole: Tensor | None = None) -> Float[Tensor, "B"] | None:
        """Take in one batch.

        Args:
            composite: (B, 3, H, W) in [0, 1]; the repaired images.
            image: (B, 3, H, W) in [0, 1]; the complete pictures, in the same order.
            hole: (B, 1, H, W), 1 = missing; for the metrics that look at it (sharpness).

        Returns:
            (B,) float64, on the CPU, the values of these images; None for a metric that only a set of images has.

        Raises:
            InputError: shapes that differ, NaN, values outside [0, 1]; MissingWeights among them.
        """
        return update_all({self.metric.name: self}, composite, image, hole)[self.metric.name]

    @property
    @abstractmethod
    def num_images(self) -> int:
        """How many images it has seen."""

    @abstractmethod
    def compute(self) -> float:
        """The value over all images seen. Raises InputError if there are too few."""

    @abstractmethod
    def _take(self, batch: Batch) -> Tensor | None: ...


@torch.no_grad()
def update_all(
    running: Mapping[str, Running], composite: Tensor, image: Tensor, hole: Tensor | None = None
) -> dict[str, Float[Tensor, "B"] | None]:
    """Let several metrics, by name, take in one batch; name -> what `Running.update` gives.

    Raises:
        InputError: as `Running.update`; then no metric has taken in anything.
    """
    composite, image = check_pair(composite, image)
    if hole is not None:
        check_hole(hole, image)
    batches: dict[str, Batch] = {}
    values: dict[str, Tensor | None] = {}
    with torch.autocast(composite.device.type, enabled=False):  # scores are not the place to save time
        for name, metric in running.items():
            if metric.rounding not in batches:
                ours, theirs = (quantised(picture, metric.rounding) for picture in (composite, image))
                batches[metric.rounding] = Batch(ours, theirs, hole)
            values[name] = metric._take(batches[metric.rounding])
    return values


class PerImage(Running):
    """A metric that every image has for itself; the mean over images is its value."""

    def __init__(
        self,
        metric: Metric,
        load: Callable[[], Callable[[Batch], Tensor]],
        protocol: Mapping[str, Any],
        path: str | Path | None = None,
    ) -> None:
        super().__init__(metric, protocol, path)
        self._load = load
        self._score: Callable[[Batch], Tensor] | None = None
        self.seen: list[Tensor] = []

    @property
    def num_images(self) -> int:
        return sum(map(len, self.seen))

    def compute(self) -> float:
        if not self.seen:
            raise InputError("a mean needs at least one image; got none. Call update first.")
        return torch.cat(self.seen).mean().item()

    def _take(self, batch: Batch) -> Tensor:
        if self._score is None:  # networks are loaded when the first images come
            self._score = self._load()
        values = self._score(batch).detach().cpu().double()
        if not bool(torch.isfinite(values).all()):  # one such value would hide in the mean
            raise InputError(f"scores must be finite; got {values.tolist()}. Look at the images of this batch.")
        self.seen.append(values)
        return values


Features = Callable[[Batch], tuple[Tensor, Tensor]]
"""What turns a batch into the features of its composites and of its images, (B, D) each."""


def of_pixels(metric: Metric, score: Callable[[Tensor, Tensor], Tensor], protocol: Mapping[str, Any]) -> PerImage:
    """The running metric of a pure function of (composite, image)."""
    return PerImage(metric, partial(_of_pair, score), protocol)


def _of_pair(score: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Batch], Tensor]:
    return lambda batch: score(batch.composite, batch.image)
