"""The weighted sum of all terms (Eq. 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.objectives.reconstruction import Norm


@dataclass(frozen=True)
class Weights:
    """lambda_1 to lambda_5 of Eq. 9, as printed. `intra` is maximised: it enters the total with a minus sign."""

    inpaint: float = 1.0
    adversarial: float = 0.1
    ratio: float = 1.0
    inter: float = 20.0
    intra: float = 0.5


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised.

    Args:
        weights: of Eq. 9.
        norm: of the reconstruction, see `reconstruction`; `l2` is the paper's.
        hole_weight: how much more a missing pixel counts in it; 1 is the paper's.
        ratio_target: of Eq. 7: `share`, the missing share of the cell, or `pixels`, the printed pixel differences.
        ratio_reduction: of Eq. 7: `mean`, or the printed `sum`.
        printed_similarities: Eq. 8 as sums of dot products, l = o included.
    """

    weights: Weights = field(default_factory=Weights)
    norm: Norm = "l2"
    hole_weight: float = 1.0
    ratio_target: Literal["share", "pixels"] = "share"
    ratio_reduction: Literal["mean", "sum"] = "mean"
    printed_similarities: bool = False


def weighted_total(terms: Mapping[str, Tensor], weights: Weights) -> Tensor:
    """Eq. 9: inpaint, adversarial, ratio and inter by their weights, minus intra by its own.

    Args:
        terms: scalars before weighting, by the names of `Weights`; a missing one counts as 0.

    Raises:
        InputError: a term without a weight.

    Example:
        >>> terms = {"inpaint": torch.tensor(2.0), "intra": torch.tensor(1.0)}
        >>> weighted_total(terms, Weights()).item()
        1.5
    """
    known = [f.name for f in fields(weights)]
    if unknown := sorted(set(terms) - set(known)):
        raise InputError(f"term {unknown[0]!r} has no weight; the terms are {', '.join(known)}.")
    signed = {name: getattr(weights, name) * (-1 if name == "intra" else 1) for name in known}
    used = [signed[name] * value for name, value in terms.items() if signed[name] != 0]
    return torch.stack(used).sum() if used else torch.zeros(())
