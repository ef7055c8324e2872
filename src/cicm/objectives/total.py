"""The weighted sum of all terms (Eq. 9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import torch
from torch import Tensor

from cicm.conventions import InputError
from cicm.objectives.adversarial import Adversary
from cicm.objectives.labels import LabelObjective
from cicm.objectives.lama import LaMaObjective
from cicm.objectives.published import JPGNetObjective, MISFObjective, RFRObjective, Section
from cicm.objectives.reconstruction import Norm
from cicm.objectives.scales import GatedObjective, PENObjective
from cicm.objectives.semantic import SPGObjective, SPLObjective, StagesObjective


@dataclass(frozen=True)
class Weights:
    """lambda_1 to lambda_5 of Eq. 9, as printed. `intra` is maximised: it enters the total with a minus sign.

    `route` is ours: how far the choices of memories with `route = "query"` are from those of the whole photo's feature.
    """

    inpaint: float = 1.0
    adversarial: float = 0.1
    ratio: float = 1.0
    inter: float = 20.0
    intra: float = 0.5
    route: float = 0.0


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: Eq. 9, and with it, or with inpaint = 0 instead of it, what a network was published with.

    Args:
        weights: of Eq. 9.
        norm: of the reconstruction, see `reconstruction`; `l2` is the paper's.
        hole_weight: how much more a missing pixel counts in it; 1 is the paper's.
        ratio_target: of Eq. 7: `share`, the missing share of the cell, or `pixels`, the printed pixel differences.
        ratio_visits: of Eq. 7 with the target `share`, where a network visits a site several times: `current` is what
            that visit still misses, `original` the whole hole each time. The paper does not say.
        ratio_reduction: of Eq. 7: `mean`, or the printed `sum`.
        printed_similarities: Eq. 8 as sums of dot products, l = o included.
        adversary: the adversarial loss, `ragan` (Eq. 5-6), `bce` (MISF's) or `hinge` (DeepFill's); weighted by
            `weights.adversarial`.
        judged: what the discriminator sees, the `composite` or the raw `prediction` (MISF), or, `labelled`, that and
            beside it the predicted labels, against the image and its label map (SPG-Net's port).
        rfr, misf, jpgnet, gated, pen, spl, spg, lama: the published objectives; a section that is there, even an empty
            one, is added. LaMa's has a discriminator of its own, so that `weights.adversarial` must then be 0.
        stages: L1 of the last and of the earlier predictions; likewise.
        labels: cross entropy of the label maps that the model predicts; likewise.
    """

    weights: Weights = field(default_factory=Weights)
    norm: Norm = "l2"
    hole_weight: float = 1.0
    ratio_target: Literal["share", "pixels"] = "share"
    ratio_visits: Literal["current", "original"] = "current"
    ratio_reduction: Literal["mean", "sum"] = "mean"
    printed_similarities: bool = False
    adversary: Adversary = "ragan"
    judged: Literal["composite", "prediction", "labelled"] = "composite"
    rfr: RFRObjective | None = None
    misf: MISFObjective | None = None
    jpgnet: JPGNetObjective | None = None
    gated: GatedObjective | None = None
    pen: PENObjective | None = None
    spl: SPLObjective | None = None
    spg: SPGObjective | None = None
    stages: StagesObjective | None = None
    labels: LabelObjective | None = None
    lama: LaMaObjective | None = None

    def __post_init__(self) -> None:
        if self.judged_by_maps and self.weights.adversarial:
            raise InputError(
                "objective.weights.adversarial and objective.lama both train a discriminator; set weights.adversarial "
                "to 0, or objective.lama.adversarial and objective.lama.matching."
            )

    @property
    def judged_by_maps(self) -> bool:
        """Whether LaMa's discriminator takes part."""
        return self.lama is not None and self.lama.needs_judge

    @property
    def sections(self) -> tuple[Section, ...]:
        """The published objectives that are asked for."""
        published = (self.rfr, self.misf, self.jpgnet, self.gated, self.pen, self.spl, self.spg, self.lama)
        return tuple(section for section in (*published, self.stages, self.labels) if section is not None)

    @property
    def published(self) -> dict[str, float]:
        """The weights of their terms, by the terms' names in the log."""
        return {name: weight for section in self.sections for name, weight in section.weights().items()}


def weighted_total(terms: Mapping[str, Tensor], weights: Weights, more: Mapping[str, float] | None = None) -> Tensor:
    """Eq. 9: inpaint, adversarial, ratio and inter by their weights, minus intra by its own; plus what else is asked.

    Args:
        terms: scalars before weighting, by the names of `Weights` and of `more`; a missing one counts as 0.
        more: weights of further terms, as `ObjectiveConfig.published`.

    Raises:
        InputError: a term without a weight.

    Example:
        >>> terms = {"inpaint": torch.tensor(2.0), "intra": torch.tensor(1.0)}
        >>> weighted_total(terms, Weights()).item()
        1.5
        >>> weighted_total(terms | {"rfr.hole": torch.tensor(1.0)}, Weights(), {"rfr.hole": 6.0}).item()
        7.5
    """
    signed = {f.name: getattr(weights, f.name) * (-1 if f.name == "intra" else 1) for f in fields(weights)}
    signed |= more or {}
    if unknown := sorted(set(terms) - set(signed)):
        raise InputError(f"term {unknown[0]!r} has no weight; the terms are {', '.join(signed)}.")
    used = [signed[name] * value for name, value in terms.items() if signed[name] != 0]
    return torch.stack(used).sum() if used else torch.zeros(())
