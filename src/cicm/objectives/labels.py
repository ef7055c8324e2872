"""Cross entropy of completed label maps: the one place where the truth inside a hole is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from cicm.conventions import InputError
from cicm.objectives.published import Section, Seen
from cicm.ops import cell_shares, label_planes

RAREST = 4.0
"""Largest weight of a class."""


def class_weights(frequencies: tuple[float, ...]) -> Float[Tensor, " N"]:
    """1 / root of each class's share of the pixels, at most `RAREST`, over that of the most frequent class.

    Example:
        >>> class_weights((0.25, 0.01, 0.0001))
        tensor([1., 4., 4.])
    """
    weights = torch.tensor(frequencies).clamp_min(1e-6).rsqrt()
    return (weights / weights.min()).clamp_max(RAREST)


def label_error(
    logits: Float[Tensor, "B N h w"],
    label: UInt8[Tensor, "B H W"],
    hole: Float[Tensor, "B 1 H W"],
    *,
    hole_weight: float = 2.0,
    weights: Float[Tensor, " N"] | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy over the pixels that have a label, missing or not.

    Logits may be coarser than the labels: each of theirs stands for the pixels of its cell.

    Args:
        label: classes of the whole picture, and void, which counts for nothing.
        hole: (B, 1, H, W), 1 = missing.
        hole_weight: how much more a missing pixel counts.
        weights: (N,), of the classes.

    Returns:
        the weighted mean; 0 where there is no label at all.
    """
    count = logits.shape[1]
    counted = label_planes(label, count).to(logits.dtype) * (1 + (hole_weight - 1) * hole)
    if weights is not None:
        counted = counted * weights.to(logits).view(1, -1, 1, 1)
    counted = cell_shares(counted, (logits.shape[-2], logits.shape[-1]))
    return -(counted * logits.log_softmax(1)).sum() / counted.sum().clamp_min(1e-9)


@dataclass(frozen=True)
class LabelObjective(Section):
    """Cross entropy on every label map that a model predicts (maps named `labels...`), their mean.

    Args:
        cross_entropy: its weight; MMT's.
        hole_weight: how much more a missing pixel counts.
        frequencies: share of the pixels of each class, for `class_weights`; empty weighs all alike.
    """

    title: ClassVar[str] = "labels"
    settings: ClassVar[tuple[str, ...]] = ("hole_weight",)

    cross_entropy: float = 0.5
    hole_weight: float = 2.0
    frequencies: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.hole_weight > 0:
            raise InputError(f"objective.labels.hole_weight must be above 0; got {self.hole_weight}.")

    def _terms(self, seen: Seen, wanted: list[str]) -> dict[str, Tensor]:
        if not wanted:
            return {}
        logits = [found for name, found in seen.maps.items() if name.startswith("labels")]
        if seen.label is None or not logits:
            lacks = "batches without label maps (set data.labels = true)" if logits else "a model that predicts none"
            raise InputError(f"objective.labels is about label maps; got {lacks}.")
        weights = class_weights(self.frequencies) if self.frequencies else None
        if weights is not None and len(weights) != logits[0].shape[1]:
            raise InputError(
                f"objective.labels.frequencies must hold one share for each of {logits[0].shape[1]} classes; got "
                f"{len(weights)}."
            )
        errors = [
            label_error(found, seen.label, seen.hole, hole_weight=self.hole_weight, weights=weights) for found in logits
        ]
        return {"cross_entropy": torch.stack(errors).mean()}
